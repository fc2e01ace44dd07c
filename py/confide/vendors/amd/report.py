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

from confide.encoding.reader import Reader
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
                "the TCB version is wrong",
                f"{TCB_SIZE} bytes as {product.value} has them",
                data.hex(),
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
        """Reads exactly one report.

        Raises:
            FormatError: another size or version, a reserved bit that is set, an unknown processor.
        """
        if len(data) != REPORT_SIZE:
            raise _malformed("its size is wrong", f"{REPORT_SIZE} bytes", f"{len(data)} bytes")
        reader = Reader(data, _malformed)

        def number(size: int) -> int:
            return reader.number(size, "the report")

        def take(size: int) -> bytes:
            return reader.take(size, "the report")

        version = number(4)
        if version not in VERSIONS:
            raise _malformed(
                "the version is not supported", f"{VERSIONS[0]} to {VERSIONS[-1]}", str(version)
            )
        reserved = f"version {version} reserves them"
        guest_svn, policy = number(4), number(8)
        family_id, image_id, vmpl = take(16), take(16), number(4)
        algorithm = number(4)
        if algorithm != ECDSA_P384_SHA384:
            raise _malformed(
                "the signature algorithm is not supported", str(ECDSA_P384_SHA384), str(algorithm)
            )
        current_tcb, platform_info, key_info = take(TCB_SIZE), number(8), number(4)
        reader.zeros(4, reserved)
        report_data, measurement, host_data = take(64), take(DIGEST_SIZE), take(32)
        id_key_digest, author_key_digest = take(DIGEST_SIZE), take(DIGEST_SIZE)
        report_id, report_id_ma, reported_tcb = take(32), take(32), take(TCB_SIZE)
        product = None
        if version >= 3:
            product = _product(family=number(1), model=number(1))
            take(1)  # the stepping
        else:
            reader.zeros(3, reserved)
        reader.zeros(21, reserved)
        chip_id, committed_tcb = take(CHIP_ID_SIZE), take(TCB_SIZE)
        firmware = []
        for _ in ("current", "committed"):
            build, minor, major = take(3)
            firmware.append((major, minor, build))
            reader.zeros(1, reserved)
        launch_tcb = take(TCB_SIZE)
        launch_mitigations, current_mitigations = None, None
        if version >= 5:
            launch_mitigations, current_mitigations = number(8), number(8)
        else:
            reader.zeros(16, reserved)
        reader.zeros(SIGNED_SIZE - reader.offset, reserved)
        numbers = []
        for _ in ("r", "s"):
            numbers.append(number(_NUMBER_SIZE))
            reader.zeros(_NUMBER_FIELD - _NUMBER_SIZE, reserved)
        reader.zeros(reader.left, reserved)
        return cls(
            signed=data[:SIGNED_SIZE],
            signature_r=numbers[0],
            signature_s=numbers[1],
            version=version,
            guest_svn=guest_svn,
            policy=_guest_policy(policy),
            policy_abi=(policy >> 8 & 0xFF, policy & 0xFF),
            family_id=family_id,
            image_id=image_id,
            vmpl=vmpl,
            current_tcb=current_tcb,
            platform_info=_platform_info(platform_info),
            signing_key=_signing_key(key_info),
            chip_key_masked=bool(key_info & _MASK_CHIP_KEY),
            author_key_present=bool(key_info & _AUTHOR_KEY_PRESENT),
            report_data=report_data,
            measurement=measurement,
            host_data=host_data,
            id_key_digest=id_key_digest,
            author_key_digest=author_key_digest,
            report_id=report_id,
            report_id_ma=report_id_ma,
            reported_tcb=reported_tcb,
            product=product,
            chip_id=chip_id,
            committed_tcb=committed_tcb,
            current_firmware=firmware[0],
            committed_firmware=firmware[1],
            launch_tcb=launch_tcb,
            launch_mitigations=launch_mitigations,
            current_mitigations=current_mitigations,
        )


def bit_name(bit: GuestPolicy | PlatformInfo) -> str:
    """A single bit's name in manifests and verdicts: lower case with hyphens."""
    return (bit.name or "").lower().replace("_", "-")


def _reserved_tcb_bytes(product: Product) -> set[int]:
    return set(range(TCB_SIZE)) - set(TCB_LAYOUTS[product].values())


def _guest_policy(number: int) -> GuestPolicy:
    if number & ~_ALL_POLICY or not number & POLICY_RESERVED_ONE:
        raise _malformed(
            "the guest policy is wrong", "reserved bits as the ABI has them", f"{number:#x}"
        )
    return GuestPolicy(number & sum(GuestPolicy))


def _platform_info(number: int) -> PlatformInfo:
    if number & ~_ALL_PLATFORM:
        raise _malformed(
            "the platform information has unknown bits", "known bits only", f"{number:#x}"
        )
    return PlatformInfo(number)


def _signing_key(key_info: int) -> SigningKey:
    kind = key_info >> 2
    if kind not in list(SigningKey):
        raise _malformed("the key information is not known", "VCEK, VLEK or none", f"{key_info:#x}")
    return SigningKey(kind)


def _product(family: int, model: int) -> Product:
    for of_family, models, product in _PROCESSORS:
        if family == of_family and model in models:
            return product
    raise _malformed(
        "the processor is not supported",
        "Milan, Genoa or Turin",
        f"family {family:#x}, model {model:#x}",
    )


def _malformed(problem: str, expected: str, seen: str) -> FormatError:
    return FormatError(
        "bad-snp-report",
        f"the SEV-SNP report is malformed: {problem}",
        expected=expected,
        seen=seen,
    )
