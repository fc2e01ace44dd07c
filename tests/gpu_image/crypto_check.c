// SPDX-License-Identifier: GPL-2.0-only
/*
 * Asks the kernel for every algorithm that NVIDIA's driver asks it for once a GPU is in confidential
 * mode, by the same names and calls, and says of each what was found. For tests alone.
 */
#include <crypto/aead.h>
#include <crypto/akcipher.h>
#include <crypto/ecdh.h>
#include <crypto/hash.h>
#include <crypto/internal/ecc.h>
#include <linux/err.h>
#include <linux/module.h>

#define ASK(kind, name)                                                                            \
	do {                                                                                       \
		struct crypto_##kind *tfm = crypto_alloc_##kind(name, 0, 0);                       \
		pr_info("crypto_check: %s: %ld\n", name, IS_ERR(tfm) ? PTR_ERR(tfm) : 0);          \
		if (!IS_ERR(tfm))                                                                  \
			crypto_free_##kind(tfm);                                                   \
	} while (0)

static void agree(const char *name, unsigned int curve, unsigned int digits)
{
	u64 ours[ECC_MAX_DIGITS], theirs[ECC_MAX_DIGITS], public[2 * ECC_MAX_DIGITS];
	u64 one[ECC_MAX_DIGITS], other[ECC_MAX_DIGITS];
	bool agreed = !ecc_gen_privkey(curve, digits, ours) &&
		      !ecc_gen_privkey(curve, digits, theirs) &&
		      !ecc_make_pub_key(curve, digits, theirs, public) &&
		      !crypto_ecdh_shared_secret(curve, digits, ours, public, one) &&
		      !ecc_make_pub_key(curve, digits, ours, public) &&
		      !crypto_ecdh_shared_secret(curve, digits, theirs, public, other) &&
		      !memcmp(one, other, digits * sizeof(u64));

	pr_info("crypto_check: %s: %d\n", name, agreed ? 0 : -EINVAL);
}

static int __init crypto_check(void)
{
	ASK(aead, "gcm(aes)");
	ASK(shash, "sha256");
	ASK(shash, "sha384");
	ASK(shash, "sha512");
	ASK(shash, "hmac(sha256)");
	ASK(shash, "hmac(sha384)");
	ASK(shash, "hmac(sha512)");
	ASK(akcipher, "ecdsa-nist-p256");
	ASK(akcipher, "ecdsa-nist-p384");
	ASK(akcipher, "rsa");
	ASK(akcipher, "no such algorithm");
	agree("ecdh-nist-p256", ECC_CURVE_NIST_P256, ECC_CURVE_NIST_P256_DIGITS);
	agree("ecdh-nist-p384", ECC_CURVE_NIST_P384, ECC_CURVE_NIST_P384_DIGITS);
	return -ENODEV; /* done: nothing stays */
}
module_init(crypto_check);

MODULE_DESCRIPTION("Asks for the algorithms of NVIDIA's driver");
MODULE_LICENSE("GPL");
