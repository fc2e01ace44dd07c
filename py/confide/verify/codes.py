"""Error codes of verification."""

from __future__ import annotations

from confide.errors import Code, FormatError, PolicyError, UnavailableError, VerificationError

CODES = {
    "bad-chain": Code(
        "A certificate chain is malformed or was not signed by its issuer.",
        VerificationError,
        FormatError,
    ),
    "bad-crl": Code("A revocation list is malformed.", FormatError),
    "bad-endorsements": Code(
        "The certificates beside the evidence are missing or too many.", FormatError
    ),
    "bad-profile": Code("A certificate does not have the profile of the mesh.", VerificationError),
    "bad-receipt": Code(
        "The receipt does not fit the request, or its signature is wrong. Do not use the answer.",
        VerificationError,
    ),
    "bad-rim-signature": Code(
        "The XML signature of NVIDIA's reference values is wrong.", FormatError
    ),
    "collateral-expired": Code(
        "An item of collateral has expired. Fetch a newer one, or check the clock.",
        VerificationError,
    ),
    "collateral-full": Code(
        "The items in use leave no room for another one of this kind.", PolicyError
    ),
    "collateral-not-genuine": Code(
        "An item of collateral is not signed by its vendor, or is another one than its name says.",
        VerificationError,
    ),
    "collateral-not-needed": Code(
        "No verification by the manifest can need this item of collateral.", PolicyError
    ),
    "collateral-not-read": Code(
        "The item was not read, because too many others of its bundle are wrong. Leave those out.",
        PolicyError,
    ),
    "collateral-not-valid-yet": Code(
        "An item of collateral is not valid yet. Check the clock, or bring it later.",
        VerificationError,
    ),
    "collateral-without-signer": Code(
        "An item of collateral came without the certificates that show that it is genuine. "
        "Fetch it again.",
        VerificationError,
    ),
    "leaf-too-old": Code(
        "A certificate of the mesh was issued more than an hour ago. Check the clock; its machine "
        "has to join again.",
        VerificationError,
    ),
    "missing-certificate": Code(
        "A certificate is missing. Fetch collateral for this machine.", FormatError
    ),
    "no-endorsement-key": Code(
        "The report does not name its processor, and no certificate came with it.", FormatError
    ),
    "not-valid-now": Code(
        "A certificate is expired or not valid yet. Check the clock.", VerificationError
    ),
    "not-verified": Code(
        "A check of the evidence failed: do not trust the service. The error names the check.",
        VerificationError,
        UnavailableError,
    ),
    "nvswitch-unsupported": Code(
        "The evidence is of an NVSwitch, which is not supported.", FormatError
    ),
    "unset-reference": Code(
        "The manifest has no reference value for a claim. Set it or opt out by name.", PolicyError
    ),
    "wrong-kem-key": Code(
        "A KEM key is not the one that the certificate names. Do not seal to it.",
        VerificationError,
    ),
    "wrong-manifest": Code("The peer has another manifest.", VerificationError, PolicyError),
    "wrong-model": Code("A worker's certificate does not name the model.", VerificationError),
    "wrong-role": Code("The peer's certificate names another role.", VerificationError),
    "wrong-worker": Code(
        "A request or a list names another machine than the certificate.",
        PolicyError,
        VerificationError,
    ),
}
