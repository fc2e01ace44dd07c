"""AMD SEV-SNP attestation reports: 1184 bytes that the processor's firmware fills in and signs.

Wire format only: bytes in, values out. A report is exactly 1184 bytes, of version 2 to 5, and
everything that is reserved in its version is zero: also in the signature field, so that the
signature's two numbers are all that a report holds besides what they sign.

Source: AMD 56860 "SEV Secure Nested Paging Firmware ABI", rev. 1.58, table 23 (ATTESTATION_REPORT),
table 10 (guest policy), table 24 (PLATFORM_INFO), 2.2 (TCB_VERSION) and chapter 10 (signatures).
All numbers are little-endian.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, IntEnum, IntFlag

from confide.errors import FormatError

REPORT_SIZE = 0x4A0
SIGNED_SIZE = 0x2A0
VERSIONS = range(2, 6)
ECDSA_P384_SHA384 = 1  # SIGNATURE_ALGO, the only one that is defined

TCB_SIZE = 8
CHIP_ID_SIZE = 64
DIGEST_SIZE = 48
_NUMBER_SIZE = 48  # bytes of r and of s that P-384 uses; the field has room for more
_NUMBER_FIELD = 72


class Product(Enum):
    """A family of processors: one root key, one layout of the TCB version."""

    MILAN = "milan"
    GENOA = "genoa"
    TURIN = "turin"


# CPUID family and models of each product, as a report states them from version 3 on.
_PROCESSORS = (
    (0x19, range(0x10), Product.MILAN),
    (0x19, range(0x10, 0x20), Product.GENOA),
    (0x19, range(0xA0, 0xB0), Product.GENOA),
    (0x1A, range(0x20), Product.TURIN),
)

# What each of the 8 bytes of a TCB version is. The others are reserved.
TCB_LAYOUTS = {
    Product.MILAN: {"bootloader": 0, "tee": 1, "snp": 6, "microcode": 7},
    Product.GENOA: {"bootloader": 0, "tee": 1, "snp": 6, "microcode": 7},
    Product.TURIN: {"fmc": 0, "bootloader": 1, "tee": 2, "snp": 3, "microcode": 7},
}


class SigningKey(IntEnum):
    """SIGNING_KEY: the kind of key that signed the report."""

    VCEK = 0
    VLEK = 1
    NONE = 7


class GuestPolicy(IntFlag):
    """What the guest's owner lets the host do, fixed at launch. The low 16 bits are a version."""

    SMT = 1 << 16
    MIGRATION_AGENT = 1 << 18
    DEBUG = 1 << 19
    SINGLE_SOCKET = 1 << 20
    CXL = 1 << 21
    AES_256_XTS = 1 << 22
    RAPL_DISABLED = 1 << 23
    CIPHERTEXT_HIDING = 1 << 24
    PAGE_SWAP_DISABLED = 1 << 25


class PlatformInfo(IntFlag):
    """How the host has set up the machine."""

    SMT = 1 << 0
    TSME = 1 << 1
    ECC = 1 << 2
    RAPL_DISABLED = 1 << 3
    CIPHERTEXT_HIDING = 1 << 4
    ALIAS_CHECK = 1 << 5
    IOMMU_WRITE_SAFE = 1 << 6
    TIO = 1 << 7


POLICY_RESERVED_ONE = 1 << 17
_POLICY_VERSION = 0xFFFF
_ALL_POLICY = _POLICY_VERSION | POLICY_RESERVED_ONE | sum(GuestPolicy)
_ALL_PLATFORM = sum(PlatformInfo)
_AUTHOR_KEY_PRESENT = 1 << 0
_MASK_CHIP_KEY = 1 << 1


@dataclass(frozen=True)
class Tcb:
    """The security versions of a machine's firmware, by component: 0 to 255 each.

    The components, in this order, are those of the product's `TCB_LAYOUTS`.
    """

    product: Product
    components: tuple[int, ...]

    @classmethod
    def parse(cls, data: bytes, product: Product) -> Tcb:
        """Read 8 bytes in the product's layout. Raises FormatError if a reserved one is not 0."""
        layout = TCB_LAYOUTS[product]
        if len(data) != TCB_SIZE or any(data[at] for at in _reserved_tcb_bytes(product)):
            raise _malformed(
                "TCB version", f"{TCB_SIZE} bytes as {product.value} has them", data.hex()
            )
        return cls(product, tuple(data[at] for at in layout.values()))

    def at_least(self, minimum: Tcb) -> bool:
        """Whether every component is; never for another product."""
        return self.product is minimum.product and all(
            mine >= wanted for mine, wanted in zip(self.components, minimum.components, strict=True)
        )

    def to_dict(self) -> dict[str, int]:
        """The components by name."""
        return dict(zip(TCB_LAYOUTS[self.product], self.components, strict=True))

    def __str__(self) -> str:
        return " ".join(f"{name} {value}" for name, value in self.to_dict().items())


@dataclass(frozen=True)
class Report:
    """A parsed report. Parsed, not believed: that takes its signature and the signer's chain.

    `product` is what the report says of the processor. Version 2 says nothing, so it is None: then
    the product is that of the signer's chain. TCB versions are 8 raw bytes each, because what they
    mean depends on the product. `signature_r` and `signature_s` are the numbers of the ECDSA
    signature over `signed`, the report's first 672 bytes. Versions of firmware and of the policy's
    ABI are (major, minor) and (major, minor, build); mitigations, bit vectors, are None before 5.
    """

    signed: bytes
    signature_r: int
    signature_s: int
    version: int
    guest_svn: int
    policy: GuestPolicy
    policy_abi: tuple[int, int]
    family_id: bytes
    image_id: bytes
    vmpl: int
    current_tcb: bytes
    platform_info: PlatformInfo
    signing_key: SigningKey
    chip_key_masked: bool
    author_key_present: bool
    report_data: bytes
    measurement: bytes
    host_data: bytes
    id_key_digest: bytes
    author_key_digest: bytes
    report_id: bytes
    report_id_ma: bytes
    reported_tcb: bytes
    product: Product | None
    chip_id: bytes
    committed_tcb: bytes
    current_firmware: tuple[int, int, int]
    committed_firmware: tuple[int, int, int]
    launch_tcb: bytes
    launch_mitigations: int | None
    current_mitigations: int | None

    @classmethod
    def parse(cls, data: bytes) -> Report:
        """Raises FormatError for anything but exactly one report of a known version."""
        if len(data) != REPORT_SIZE:
            raise _malformed("report", f"{REPORT_SIZE} bytes", f"{len(data)} bytes")
        version = _number(data, 0x00, 4)
        if version not in VERSIONS:
            raise _malformed("version", f"{VERSIONS[0]} to {VERSIONS[-1]}", str(version))
        algorithm = _number(data, 0x34, 4)
        if algorithm != ECDSA_P384_SHA384:
            raise _malformed("signature algorithm", str(ECDSA_P384_SHA384), str(algorithm))
        _check_reserved(data, version)
        key_info = _number(data, 0x48, 4)
        has_mitigations = version >= 5
        return cls(
            signed=data[:SIGNED_SIZE],
            signature_r=_number(data, SIGNED_SIZE, _NUMBER_SIZE),
            signature_s=_number(data, SIGNED_SIZE + _NUMBER_FIELD, _NUMBER_SIZE),
            version=version,
            guest_svn=_number(data, 0x04, 4),
            policy=_guest_policy(_number(data, 0x08, 8)),
            policy_abi=(data[0x09], data[0x08]),
            family_id=data[0x10:0x20],
            image_id=data[0x20:0x30],
            vmpl=_number(data, 0x30, 4),
            current_tcb=_tcb(data, 0x38),
            platform_info=_platform_info(_number(data, 0x40, 8)),
            signing_key=_signing_key(key_info),
            chip_key_masked=bool(key_info & _MASK_CHIP_KEY),
            author_key_present=bool(key_info & _AUTHOR_KEY_PRESENT),
            report_data=data[0x50:0x90],
            measurement=data[0x90:0xC0],
            host_data=data[0xC0:0xE0],
            id_key_digest=data[0xE0:0x110],
            author_key_digest=data[0x110:0x140],
            report_id=data[0x140:0x160],
            report_id_ma=data[0x160:0x180],
            reported_tcb=_tcb(data, 0x180),
            product=_product(family=data[0x188], model=data[0x189]) if version >= 3 else None,
            chip_id=data[0x1A0:0x1E0],
            committed_tcb=_tcb(data, 0x1E0),
            current_firmware=(data[0x1EA], data[0x1E9], data[0x1E8]),
            committed_firmware=(data[0x1EE], data[0x1ED], data[0x1EC]),
            launch_tcb=_tcb(data, 0x1F0),
            launch_mitigations=_number(data, 0x1F8, 8) if has_mitigations else None,
            current_mitigations=_number(data, 0x200, 8) if has_mitigations else None,
        )


def bit_name(bit: GuestPolicy | PlatformInfo) -> str:
    """A single bit's name in manifests and verdicts: lower case with hyphens."""
    return (bit.name or "").lower().replace("_", "-")


def _reserved_tcb_bytes(product: Product) -> set[int]:
    return set(range(TCB_SIZE)) - set(TCB_LAYOUTS[product].values())


def _check_reserved(data: bytes, version: int) -> None:
    reserved = [(0x4C, 0x50), (0x18B, 0x1A0), (0x1EB, 0x1EC), (0x1EF, 0x1F0), (0x208, SIGNED_SIZE)]
    if version < 3:
        reserved.append((0x188, 0x18B))
    if version < 5:
        reserved.append((0x1F8, 0x208))
    s = SIGNED_SIZE + _NUMBER_FIELD
    reserved += [(SIGNED_SIZE + _NUMBER_SIZE, s), (s + _NUMBER_SIZE, REPORT_SIZE)]
    for start, end in reserved:
        if any(data[start:end]):
            raise _malformed(
                f"bytes {start:#x} to {end - 1:#x}",
                f"zeros, as version {version} reserves them",
                data[start:end].hex()[:80],
            )


def _guest_policy(number: int) -> GuestPolicy:
    if number & ~_ALL_POLICY or not number & POLICY_RESERVED_ONE:
        raise _malformed("guest policy", "reserved bits as the ABI has them", f"{number:#x}")
    return GuestPolicy(number & sum(GuestPolicy))


def _platform_info(number: int) -> PlatformInfo:
    if number & ~_ALL_PLATFORM:
        raise _malformed("platform information", "known bits only", f"{number:#x}")
    return PlatformInfo(number)


def _signing_key(key_info: int) -> SigningKey:
    kind = key_info >> 2
    if kind not in list(SigningKey):
        raise _malformed("key information", "VCEK, VLEK or none", f"{key_info:#x}")
    return SigningKey(kind)


def _product(family: int, model: int) -> Product:
    for of_family, models, product in _PROCESSORS:
        if family == of_family and model in models:
            return product
    raise _malformed("processor", "a known one", f"family {family:#x}, model {model:#x}")


def _tcb(data: bytes, offset: int) -> bytes:
    return data[offset : offset + TCB_SIZE]


def _number(data: bytes, offset: int, size: int) -> int:
    return int.from_bytes(data[offset : offset + size], "little")


def _malformed(field: str, expected: str, seen: str) -> FormatError:
    return FormatError(
        "bad-snp-report",
        f"the SEV-SNP report is malformed: {field}",
        expected=expected,
        seen=seen,
    )
