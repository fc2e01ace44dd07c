"""TPM 2.0 structures that an attestation needs: public area, quote, signature, PCR selection.

Wire format only: bytes in, values out, and back. Every parser is strict (no trailing bytes, every
size bounded, only the algorithms named here), so that what was checked is all there was.

Source: TCG TPM 2.0 Library, Part 2 (Structures), rev. 1.59. All numbers are big-endian; a "TPM2B"
is a u16 byte count and that many bytes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import IntEnum, IntFlag
from functools import partial

from confide.encoding.reader import Reader
from confide.errors import FormatError


@dataclass(frozen=True)
class AkIndices:
    """NV indices of an attestation key: its certificate (DER) and its template (TPMT_PUBLIC)."""

    certificate: int
    template: int


# Where go-tpm-tools looks for them, too (client/handles.go)
RSA_AK = AkIndices(0x01C10000, 0x01C10001)
ECC_AK = AkIndices(0x01C10002, 0x01C10003)
AK_ISSUER_NV = 0x01C10010  # the runner's own: the certificate of that certificate's issuer, DER
# Extended key usage "tcg-kp-AIKCertificate" of such a certificate (TCG OID registry)
AK_USAGE_OID = "2.23.133.8.3"

TPM_GENERATED = 0xFF544347  # "\xffTCG": starts every structure that a TPM itself made
TPM_ST_ATTEST_QUOTE = 0x8018

MAX_STRUCTURE = 4096  # bytes; above every structure parsed here
MAX_DIGEST = 64  # bytes; SHA-512
PCR_SELECT_SIZE = 3  # bytes of the register bitmap: 24 registers, as on every PC client TPM
PCR_COUNT = 8 * PCR_SELECT_SIZE


class Alg(IntEnum):
    """TPM_ALG_ID (Part 2, 6.3): only what is accepted."""

    RSA = 0x0001
    SHA1 = 0x0004
    SHA256 = 0x000B
    SHA384 = 0x000C
    SHA512 = 0x000D
    NULL = 0x0010
    RSASSA = 0x0014
    ECDSA = 0x0018
    ECC = 0x0023


class KeyAttributes(IntFlag):
    """TPMA_OBJECT (Part 2, 8.3)."""

    FIXED_TPM = 1 << 1
    ST_CLEAR = 1 << 2
    FIXED_PARENT = 1 << 4
    SENSITIVE_DATA_ORIGIN = 1 << 5
    USER_WITH_AUTH = 1 << 6
    ADMIN_WITH_POLICY = 1 << 7
    NO_DA = 1 << 10
    ENCRYPTED_DUPLICATION = 1 << 11
    RESTRICTED = 1 << 16
    DECRYPT = 1 << 17
    SIGN_ENCRYPT = 1 << 18


# A key that never leaves its TPM, was made by it, and signs nothing but what the TPM itself made
AK_ATTRIBUTES = (
    KeyAttributes.FIXED_TPM
    | KeyAttributes.FIXED_PARENT
    | KeyAttributes.SENSITIVE_DATA_ORIGIN
    | KeyAttributes.USER_WITH_AUTH
    | KeyAttributes.NO_DA
    | KeyAttributes.RESTRICTED
    | KeyAttributes.SIGN_ENCRYPT
)
# The least that a provisioned key must have
AK_REQUIRED = (
    KeyAttributes.FIXED_TPM
    | KeyAttributes.FIXED_PARENT
    | KeyAttributes.SENSITIVE_DATA_ORIGIN
    | KeyAttributes.RESTRICTED
    | KeyAttributes.SIGN_ENCRYPT
)
TPM_ECC_NIST_P256 = 0x0003


class TpmReader(Reader):
    """A reader of one TPM structure: all numbers are big-endian.

    Args:
        data: the structure.
        what: its name in errors, such as "TPM quote".
        limit: the most bytes that it may have.
    """

    def __init__(self, data: bytes, what: str, limit: int = MAX_STRUCTURE) -> None:
        if len(data) > limit:
            raise malformed(what, "the structure", f"at most {limit} bytes", f"{len(data)} bytes")
        super().__init__(data, partial(malformed, what), "big")
        self.what = what

    def sized(self, field: str, limit: int) -> bytes:
        """A TPM2B of at most `limit` bytes, without its size."""
        size = self.number(2, field + " size")
        if size > limit:
            raise malformed(self.what, field, f"at most {limit} bytes", f"{size} bytes")
        return self.take(size, field)

    def alg(self, field: str, *allowed: Alg) -> Alg:
        """A TPM_ALG_ID that must be one of `allowed`."""
        number = self.number(2, field)
        for alg in allowed:
            if alg == number:
                return alg
        raise malformed(self.what, field, " or ".join(a.name for a in allowed), f"{number:#06x}")

    def exact(self, value: int, size: int, field: str) -> None:
        """A number that must have this value."""
        seen = self.number(size, field)
        if seen != value:
            raise malformed(self.what, field, f"{value:#x}", f"{seen:#x}")


def malformed(what: str, field: str, expected: str, seen: str) -> FormatError:
    """The error for a field of a TPM structure that is not as it must be."""
    return FormatError("tpm-malformed", f"malformed {what}: {field}", expected=expected, seen=seen)


def u16(value: int) -> bytes:
    """UINT16."""
    return value.to_bytes(2)


def u32(value: int) -> bytes:
    """UINT32."""
    return value.to_bytes(4)


def sized(data: bytes) -> bytes:
    """TPM2B: u16 size, then the bytes."""
    return u16(len(data)) + data


def encode_pcr_selection(pcrs: Iterable[int]) -> bytes:
    """TPML_PCR_SELECTION (Part 2, 10.9.7) of one entry: these registers of the SHA-256 bank."""
    bitmap = bytearray(PCR_SELECT_SIZE)
    for pcr in pcrs:
        if not 0 <= pcr < PCR_COUNT:
            raise malformed("PCR selection", "register", f"0 to {PCR_COUNT - 1}", str(pcr))
        bitmap[pcr // 8] |= 1 << pcr % 8
    return u32(1) + u16(Alg.SHA256) + bytes([PCR_SELECT_SIZE]) + bytes(bitmap)


def parse_pcr_selection(reader: TpmReader) -> frozenset[int]:
    """The registers of a TPML_PCR_SELECTION with exactly one entry, for the SHA-256 bank."""
    reader.exact(1, 4, "number of PCR banks")
    reader.alg("PCR bank", Alg.SHA256)
    reader.exact(PCR_SELECT_SIZE, 1, "PCR bitmap size")
    bitmap = reader.take(PCR_SELECT_SIZE, "PCR bitmap")
    return frozenset(n for n in range(PCR_COUNT) if bitmap[n // 8] >> n % 8 & 1)


def pcr_digest(pcrs: Mapping[int, bytes]) -> bytes:
    """What a quote signs of its registers: SHA-256 over the values, lowest number first."""
    return hashlib.sha256(b"".join(pcrs[n] for n in sorted(pcrs))).digest()


@dataclass(frozen=True)
class Quote:
    """TPMS_ATTEST of type TPM_ST_ATTEST_QUOTE (Part 2, 10.12.8): what the TPM signed.

    `extra_data` is the caller's qualifyingData (at most 64 bytes), `pcrs` the registers of the
    SHA-256 bank, `pcr_digest` see the function of that name.
    """

    qualified_signer: bytes
    extra_data: bytes
    clock: int
    reset_count: int
    restart_count: int
    safe: bool
    firmware_version: int
    pcrs: frozenset[int]
    pcr_digest: bytes

    @classmethod
    def parse(cls, data: bytes) -> Quote:
        """Raises FormatError, also for a statement that is not a quote or not made by a TPM."""
        reader = TpmReader(data, "TPM quote")
        reader.exact(TPM_GENERATED, 4, "magic (made by a TPM)")
        reader.exact(TPM_ST_ATTEST_QUOTE, 2, "type (quote)")
        signer = reader.sized("qualified signer", 2 + MAX_DIGEST)
        extra_data = reader.sized("extra data", MAX_DIGEST + 2)
        clock = reader.number(8, "clock")
        reset_count = reader.number(4, "reset count")
        restart_count = reader.number(4, "restart count")
        safe = reader.number(1, "clock safe")
        if safe > 1:
            raise malformed(reader.what, "clock safe", "0 or 1", str(safe))
        firmware_version = reader.number(8, "firmware version")
        pcrs = parse_pcr_selection(reader)
        digest = reader.sized("PCR digest", MAX_DIGEST)
        reader.end()
        return cls(
            signer,
            extra_data,
            clock,
            reset_count,
            restart_count,
            bool(safe),
            firmware_version,
            pcrs,
            digest,
        )


@dataclass(frozen=True)
class EcdsaSignature:
    """TPMS_SIGNATURE_ECDSA with SHA-256."""

    r: int
    s: int


@dataclass(frozen=True)
class RsassaSignature:
    """TPMS_SIGNATURE_RSASSA (PKCS #1 v1.5) with SHA-256."""

    value: bytes


def parse_signature(data: bytes) -> EcdsaSignature | RsassaSignature:
    """TPMT_SIGNATURE (Part 2, 11.3.4): ECDSA on a curve up to 256 bits or RSASSA, both SHA-256.

    Raises FormatError.
    """
    reader = TpmReader(data, "TPM signature")
    scheme = reader.alg("scheme", Alg.ECDSA, Alg.RSASSA)
    reader.alg("hash", Alg.SHA256)
    signature: EcdsaSignature | RsassaSignature
    if scheme is Alg.ECDSA:
        signature = EcdsaSignature(
            int.from_bytes(reader.sized("r", 32)), int.from_bytes(reader.sized("s", 32))
        )
    else:
        signature = RsassaSignature(reader.sized("RSA signature", 512))
    reader.end()
    return signature


@dataclass(frozen=True)
class EccPublic:
    """TPMT_PUBLIC (Part 2, 12.2.4) of an ECC P-256 restricted ECDSA-SHA256 signing key.

    `x` and `y` are empty in a template and 32 bytes in a key.
    """

    x: bytes
    y: bytes

    def encode(self) -> bytes:
        """TPMT_PUBLIC, without the size that a TPM2B_PUBLIC has in front."""
        return (
            u16(Alg.ECC)
            + u16(Alg.SHA256)
            + u32(AK_ATTRIBUTES)
            + sized(b"")  # no authorisation policy
            + u16(Alg.NULL)  # no symmetric algorithm: not a storage key
            + u16(Alg.ECDSA)
            + u16(Alg.SHA256)
            + u16(TPM_ECC_NIST_P256)
            + u16(Alg.NULL)  # no key derivation
            + sized(self.x)
            + sized(self.y)
        )

    @classmethod
    def parse(cls, data: bytes) -> EccPublic:
        """Raises FormatError for any other kind of key, or one that could sign for others."""
        reader = TpmReader(data, "attestation key")
        reader.alg("key type", Alg.ECC)
        reader.alg("name algorithm", Alg.SHA256)
        reader.exact(AK_ATTRIBUTES, 4, "attributes (restricted signing key, bound to its TPM)")
        reader.exact(0, 2, "authorisation policy size")
        reader.alg("symmetric algorithm", Alg.NULL)
        reader.alg("scheme", Alg.ECDSA)
        reader.alg("scheme hash", Alg.SHA256)
        reader.exact(TPM_ECC_NIST_P256, 2, "curve")
        reader.alg("key derivation", Alg.NULL)
        x, y = reader.sized("x", 32), reader.sized("y", 32)
        reader.end()
        return cls(x, y)


AK_TEMPLATE = EccPublic(b"", b"").encode()


def check_ak_template(data: bytes) -> None:
    """Raises FormatError unless a TPMT_PUBLIC is of a restricted signing key bound to its TPM."""
    reader = TpmReader(data, "attestation key template")
    reader.alg("key type", Alg.RSA, Alg.ECC)
    reader.alg("name algorithm", Alg.SHA256)
    attributes = reader.number(4, "attributes")
    if attributes & AK_REQUIRED != AK_REQUIRED or attributes & KeyAttributes.DECRYPT:
        raise malformed(
            reader.what,
            "attributes",
            "a restricted signing key, bound to its TPM",
            f"{attributes:#010x}",
        )
