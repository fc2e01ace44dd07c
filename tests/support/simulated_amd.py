"""SIMULATED: AMD's key hierarchy, a chip that signs reports, and revocation lists.

Made so that each check can be shown to fail, and so that what no published evidence has (Turin,
version 5, a revocation list) is there at all. It says nothing about any processor: the keys are
made on the spot, and only a test that puts `root_of` in the place of AMD's roots believes them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import cache

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from confide.protocol.evidence import Evidence
from confide.vendors.amd.report import POLICY_RESERVED_ONE, REPORT_SIZE, Product
from confide.verify.roots import Root
from confide.verify.x509 import PSS_SHA384, SHA384, spki_sha256

NOW = 1_800_000_000
DAY = timedelta(days=1)
MADE = datetime.fromtimestamp(NOW, UTC) - DAY
LAUNCH_DIGEST = bytes(range(48))
BINDING = bytes(range(100, 132))  # what the chip says in HOST_DATA: SHA-256 of some manifest
CSP_ID = "CN=simulated.cloud"
P384_ORDER = int(
    "ffffffffffffffffffffffffffffffffffffffffffffffffc7634d81f4372ddf581a0db248b0a77aecec196accc52973",
    16,
)
# The TCB version 1 2 3 4 (and FMC 9) in each product's layout
TCBS = {
    Product.MILAN: bytes([1, 2, 0, 0, 0, 0, 3, 4]),
    Product.GENOA: bytes([1, 2, 0, 0, 0, 0, 3, 4]),
    Product.TURIN: bytes([9, 1, 2, 3, 0, 0, 0, 4]),
}
CPUIDS = {
    Product.MILAN: bytes([0x19, 0x01, 1]),
    Product.GENOA: bytes([0x19, 0x11, 1]),
    Product.TURIN: bytes([0x1A, 0x02, 1]),
}
_SPL_OIDS = {
    Product.MILAN: ("3.1", "3.2", "3.4", "3.5", "3.6", "3.7", "3.3", "3.8"),
    Product.GENOA: ("3.1", "3.2", "3.4", "3.5", "3.6", "3.7", "3.3", "3.8"),
    Product.TURIN: ("3.9", "3.1", "3.2", "3.3", "3.5", "3.6", "3.7", "3.8"),
}


@cache
def rsa_key(name: str, bits: int = 4096) -> rsa.RSAPrivateKey:
    """One key per name and run: making one takes a second."""
    return rsa.generate_private_key(65537, bits)


def name_of(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


@dataclass(frozen=True)
class Authority:
    """A CA certificate with its key."""

    key: rsa.RSAPrivateKey
    certificate: x509.Certificate

    @property
    def der(self) -> bytes:
        return self.certificate.public_bytes(Encoding.DER)


def make_authority(
    common_name: str,
    key: rsa.RSAPrivateKey,
    issuer: Authority | None = None,
    *,
    ca: bool = True,
    made: datetime = MADE,
    serial: int = 1,
) -> Authority:
    usage = x509.KeyUsage(
        False, False, False, False, False, ca, ca and issuer is None, False, False
    )
    builder = (
        x509.CertificateBuilder()
        .subject_name(name_of(common_name))
        .issuer_name(issuer.certificate.subject if issuer else name_of(common_name))
        .serial_number(serial)
        .not_valid_before(made)
        .not_valid_after(made + 3650 * DAY)
        .public_key(key.public_key())
        .add_extension(x509.BasicConstraints(ca, None), critical=True)
        .add_extension(usage, critical=True)
    )
    signer = issuer.key if issuer else key
    return Authority(key, builder.sign(signer, SHA384, rsa_padding=PSS_SHA384))


@cache
def root(product: Product = Product.MILAN) -> Authority:
    key = rsa_key(f"ark {product.value}")
    return make_authority(f"SIMULATED ARK {product.value}", key, serial=1)


@cache
def intermediate(product: Product = Product.MILAN) -> Authority:
    common_name = f"SIMULATED SEV {product.value}"
    return make_authority(common_name, rsa_key("ask"), root(product), serial=2)


def root_of(product: Product) -> Root:
    return Root("SIMULATED", product.value, spki_sha256(root(product).certificate))


def make_crl(
    revoked: Sequence[x509.RevokedCertificate] = (),
    *,
    issuer: Authority | None = None,
    start: datetime = MADE,
    end: datetime = MADE + 30 * DAY,
    extensions: Sequence[tuple[x509.ExtensionType, bool]] = (),
) -> bytes:
    issuer = issuer or root()
    builder = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(issuer.certificate.subject)
        .last_update(start)
        .next_update(end)
    )
    for entry in revoked:
        builder = builder.add_revoked_certificate(entry)
    for extension, critical in extensions:
        builder = builder.add_extension(extension, critical)
    return builder.sign(issuer.key, SHA384, rsa_padding=PSS_SHA384).public_bytes(Encoding.DER)


def revoked_entry(serial: int, issuer: x509.Name | None = None) -> x509.RevokedCertificate:
    builder = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(MADE)
    if issuer is not None:
        names = x509.CertificateIssuer([x509.DirectoryName(issuer)])
        builder = builder.add_extension(names, critical=True)
    return builder.build()


def der_integer(value: int) -> bytes:
    return b"\x02\x01" + bytes([value]) if value < 128 else b"\x02\x02\0" + bytes([value])


@dataclass(frozen=True)
class SimulatedChip:
    """A chip, or a cloud's leased key (`csp_id`), whose report's fields a test may change."""

    product: Product = Product.MILAN
    version: int = 3
    csp_id: str | None = None
    hardware_id: bytes = bytes(range(1, 65))
    wrap_hardware_id: bool = False
    key: ec.EllipticCurvePrivateKey = field(
        default_factory=lambda: ec.generate_private_key(ec.SECP384R1())
    )
    signer: Authority | None = None
    certificate_tcb: bytes | None = None
    product_name: str | None = None
    serial: int = 7
    made: datetime = MADE
    guest_svn: int = 3
    policy: int = POLICY_RESERVED_ONE | 1 << 16
    vmpl: int = 0
    platform_info: int = 0b100101
    key_info: int | None = None
    measurement: bytes = LAUNCH_DIGEST
    host_data: bytes = BINDING
    id_key_digest: bytes = bytes(48)
    author_key_digest: bytes = bytes(48)
    family_id: bytes = bytes(16)
    image_id: bytes = bytes(16)
    reported_tcb: bytes | None = None
    committed_tcb: bytes | None = None
    current_tcb: bytes | None = None
    launch_tcb: bytes | None = None
    cpuid: bytes | None = None
    chip_id: bytes | None = None
    mitigations: tuple[int, int] = (0, 0)

    @property
    def issuer(self) -> Authority:
        return self.signer or intermediate(self.product)

    def certificate(self) -> bytes:
        arc = "1.3.6.1.4.1.3704.1."
        tcb = self.certificate_tcb or self.reported_tcb or TCBS[self.product]
        name = self.product_name or self.product.value.capitalize()
        extensions = {"1": der_integer(0), "2": b"\x16" + bytes([len(name)]) + name.encode()}
        for oid, value in zip(_SPL_OIDS[self.product], tcb, strict=True):
            extensions[oid] = der_integer(value)
        if self.csp_id is None:
            wrapping = b"\x04" + bytes([len(self.hardware_id)]) if self.wrap_hardware_id else b""
            extensions["4"] = wrapping + self.hardware_id
        else:
            extensions["5"] = b"\x16" + bytes([len(self.csp_id)]) + self.csp_id.encode()
        builder = (
            x509.CertificateBuilder()
            .subject_name(name_of("SIMULATED VLEK" if self.csp_id else "SIMULATED VCEK"))
            .issuer_name(self.issuer.certificate.subject)
            .serial_number(self.serial)
            .not_valid_before(self.made)
            .not_valid_after(self.made + 365 * DAY)
            .public_key(self.key.public_key())
        )
        for oid, extension in extensions.items():
            unknown = x509.UnrecognizedExtension(x509.ObjectIdentifier(arc + oid), extension)
            builder = builder.add_extension(unknown, critical=False)
        certificate = builder.sign(self.issuer.key, SHA384, rsa_padding=PSS_SHA384)
        return certificate.public_bytes(Encoding.DER)

    def unsigned_report(self, report_data: bytes) -> bytes:
        tcb = TCBS[self.product]
        key_info = (4 if self.csp_id else 0) if self.key_info is None else self.key_info
        chip_id = self.hardware_id.ljust(64, b"\0") if self.chip_id is None else self.chip_id
        report = bytearray(REPORT_SIZE)
        fields = {
            0x00: self.version.to_bytes(4, "little"),
            0x04: self.guest_svn.to_bytes(4, "little"),
            0x08: self.policy.to_bytes(8, "little"),
            0x10: self.family_id,
            0x20: self.image_id,
            0x30: self.vmpl.to_bytes(4, "little"),
            0x34: b"\1\0\0\0",
            0x38: self.current_tcb or tcb,
            0x40: self.platform_info.to_bytes(8, "little"),
            0x48: key_info.to_bytes(4, "little"),
            0x50: report_data,
            0x90: self.measurement,
            0xC0: self.host_data,
            0xE0: self.id_key_digest,
            0x110: self.author_key_digest,
            0x140: b"\x14" * 32,
            0x160: b"\xff" * 32,
            0x180: self.reported_tcb or tcb,
            0x188: (self.cpuid or CPUIDS[self.product]) if self.version >= 3 else b"",
            0x1A0: chip_id,
            0x1E0: self.committed_tcb or tcb,
            0x1E8: bytes([29, 55, 1, 0, 29, 55, 1, 0]),
            0x1F0: self.launch_tcb or tcb,
            0x1F8: b"".join(m.to_bytes(8, "little") for m in self.mitigations),
        }
        for offset, value in fields.items():
            report[offset : offset + len(value)] = value
        return bytes(report)

    def report(self, report_data: bytes) -> bytes:
        return sign_report(self.unsigned_report(report_data), self.key)

    def evidence(self, report_data: bytes) -> Evidence:
        """With VCEK or VLEK, intermediate and root."""
        chain = (self.certificate(), self.issuer.der, root(self.product).der)
        return Evidence("sev-snp", self.report(report_data), chain, b"")

    def but(self, **changes: object) -> SimulatedChip:
        """The same chip with other values."""
        return replace(self, **changes)  # type: ignore[arg-type]


def sign_report(report: bytes, key: ec.EllipticCurvePrivateKey) -> bytes:
    r, s = decode_dss_signature(key.sign(report[:0x2A0], ec.ECDSA(SHA384)))
    return with_signature(report, r, s)


def with_signature(report: bytes, r: int, s: int) -> bytes:
    signature = r.to_bytes(72, "little") + s.to_bytes(72, "little")
    return report[:0x2A0] + signature.ljust(0x200, b"\0")
