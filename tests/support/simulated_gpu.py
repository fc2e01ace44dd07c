"""SIMULATED NVIDIA GPUs, for tests only: keys, reports, reference values and revocation answers.

Everything has the wire format of the real thing and hangs from roots made on the spot, so the real
verifier runs on it with those roots. No GPU was asked and nothing was measured.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import cached_property
from itertools import pairwise

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import ocsp
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from lxml import etree
from signxml.algorithms import (
    CanonicalizationMethod,
    DigestAlgorithm,
    SignatureConstructionMethod,
    SignatureMethod,
)
from signxml.signer import XMLSigner

from confide.encoding.messages import from_map
from confide.guest.coordinator.ca import Authority
from confide.protocol.certificates import key_usage
from confide.protocol.gpu import GpuDevice, GpuEvidence
from confide.protocol.policy.gpu import GpuPolicy
from confide.vendors.nvidia.rim import rim_ids
from confide.vendors.nvidia.spdm import Field, Report, request
from confide.verify.nvidia.collateral import GpuCollateral, OcspAnswer
from confide.verify.roots import Root
from confide.verify.verdict import Verdict
from confide.verify.x509 import spki_sha256
from tests.support.judged import judge_gpus

NOW = 1_800_000_000
NONCE = bytes(range(32))
OCSP_NONCE = bytes(range(32, 64))
FWID = hashlib.sha384(b"simulated firmware").digest()
DRIVER = "550.127.05"
VBIOS = "96.00.9F.00.01"
DRIVER_INDEXES = (7, *range(21, 42))
VBIOS_INDEXES = (*range(7), *range(8, 13))
BLOCKS = 64
_DAY = 86400


def issue(
    name: str,
    issuer: Authority | None,
    *,
    ca: bool = True,
    extensions: Sequence[x509.ExtensionType] = (),
    path_length: int | None = None,
    start: int = NOW - 30 * _DAY,
    end: int = NOW + 300 * _DAY,
    curve: ec.EllipticCurve | None = None,
) -> Authority:
    """A certificate in NVIDIA's profile: P-384, ECDSA with SHA-384; self-signed without issuer."""
    key = ec.generate_private_key(curve or ec.SECP384R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer.certificate.subject if issuer else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(datetime.fromtimestamp(start, UTC))
        .not_valid_after(datetime.fromtimestamp(end, UTC))
        .add_extension(key_usage(ca=ca), critical=True)
    )
    if ca:
        builder = builder.add_extension(x509.BasicConstraints(True, path_length), critical=True)
    for extension in extensions:
        builder = builder.add_extension(extension, critical=False)
    return Authority(key, builder.sign(issuer.key if issuer else key, hashes.SHA384()))


def composite_fwid(digest: bytes) -> x509.UnrecognizedExtension:
    """Hopper's encoding: version, the key (left out: a NULL), SHA-384 and the digest."""
    return _extension("2.23.133.5.4.1", bytes.fromhex("020101" + "0500") + _fwid(digest))


def tcb_info_fwids(*digests: bytes, flags: bytes = b"\x80\0\0\1") -> x509.UnrecognizedExtension:
    """Blackwell's encoding: a vendor, a list of digests, operational flags."""
    fwids = b"".join(map(_fwid, digests))
    body = b"\x80\x06NVIDIA" + b"\xa6" + _length(len(fwids)) + fwids
    return _extension("2.23.133.5.4.1.1", body + bytes([0x87, len(flags) + 1, 0]) + flags)


@dataclass(frozen=True)
class SimulatedGpu:
    """A GPU that reports whatever a test gives it."""

    uuid: str
    chain: tuple[Authority, ...]
    architecture: str = "hopper"
    measurements: tuple[bytes, ...] = tuple(
        hashlib.sha384(bytes([index])).digest() for index in range(BLOCKS)
    )
    opaque: Mapping[int, bytes] = field(
        default_factory=lambda: {
            Field.VBIOS_VERSION: bytes.fromhex("009f009601000000"),
            Field.CHIP_SKU: b"882\0",
            Field.PROJECT: b"1010\0",
            Field.PROJECT_SKU: b"0200\0",
            Field.DRIVER_VERSION: DRIVER.encode() + b"\0",
            Field.NVDEC0_STATUS: b"\xaa",
            Field.FWID: FWID,
            Field.PROTECTED_PCIE: b"\x55",
        }
    )

    @property
    def device(self) -> GpuDevice:
        return GpuDevice(self.architecture, self.uuid, tuple(a.der for a in self.chain))

    @property
    def chip(self) -> str:
        return "GH100" if self.architecture == "hopper" else "GB100"

    def with_opaque(self, values: Mapping[int, bytes | None]) -> SimulatedGpu:
        """The same GPU with opaque fields added, changed or (None) removed."""
        merged = {**self.opaque, **values}
        return replace(self, opaque={k: v for k, v in merged.items() if v is not None})

    def with_measurement(self, index: int, value: bytes) -> SimulatedGpu:
        values = list(self.measurements)
        values[index] = value
        return replace(self, measurements=tuple(values))

    def report(self, nonce: bytes = NONCE) -> bytes:
        blocks = b"".join(
            bytes([number, 1])
            + (len(value) + 3).to_bytes(2, "little")
            + b"\x01"
            + len(value).to_bytes(2, "little")
            + value
            for number, value in enumerate(self.measurements, 1)
        )
        opaque = b"".join(
            kind.to_bytes(2, "little") + len(value).to_bytes(2, "little") + value
            for kind, value in self.opaque.items()
        )
        message = request(nonce) + b"\x11\x60\0\0" + bytes([len(self.measurements)])
        message += len(blocks).to_bytes(3, "little") + blocks + b"\x77" * 32
        message += len(opaque).to_bytes(2, "little") + opaque
        r, s = decode_dss_signature(self.chain[0].key.sign(message, ec.ECDSA(hashes.SHA384())))
        return message + r.to_bytes(48, "big") + s.to_bytes(48, "big")

    def evidence(self, nonce: bytes = NONCE) -> bytes:
        return GpuEvidence.of(self.device, self.report(nonce)).encode()


class SimulatedNvidia:
    """All of NVIDIA that a verifier meets: two roots, what hangs from them, and the responder."""

    def __init__(self) -> None:
        self.device_root = issue("SIMULATED NVIDIA Device Identity CA", None)
        self.identity = {
            chip: issue(f"NVIDIA {chip} Identity", self.device_root) for chip in ("GH100", "GB100")
        }
        self.provisioner = {
            chip: issue(f"NVIDIA {chip} Provisioner ICA 1", identity)
            for chip, identity in self.identity.items()
        }
        self.rim_root = issue("SIMULATED NVIDIA CoRIM signing Root CA", None)
        self.rim_ca = issue("NVIDIA Reference Value GH100 CA", self.rim_root)
        self.rim_l3 = issue("NVIDIA Reference Value L3", self.rim_ca, path_length=0)
        self.rim_signer = issue("HCC RIM L4 Signer", self.rim_l3, ca=False)

    @cached_property
    def roots(self) -> tuple[Root, Root]:
        return (
            Root("SIMULATED NVIDIA", "devices", spki_sha256(self.device_root.certificate)),
            Root("SIMULATED NVIDIA", "RIMs", spki_sha256(self.rim_root.certificate)),
        )

    @property
    def rim_chain(self) -> tuple[Authority, ...]:
        return (self.rim_signer, self.rim_l3, self.rim_ca, self.rim_root)

    def gpu(
        self,
        uuid: str = "GPU-0",
        fwid: x509.UnrecognizedExtension | None = None,
        chip: str = "GH100",
    ) -> SimulatedGpu:
        boot_rom = issue(f"{chip} A01 GSP BROM", self.provisioner[chip])
        leaf = issue(
            f"{chip} A01 GSP FMC LF",
            boot_rom,
            ca=False,
            extensions=[fwid or composite_fwid(FWID)],
        )
        chain = (leaf, boot_rom, self.provisioner[chip], self.identity[chip], self.device_root)
        architecture = "hopper" if chip == "GH100" else "blackwell"
        return SimulatedGpu(uuid, chain, architecture)

    def rim(
        self,
        version: str,
        active: Mapping[int, Sequence[bytes]],
        *,
        product: str = "GH100",
        chain: Sequence[Authority] = (),
    ) -> bytes:
        """A signed RIM with these digests at these indexes."""
        return sign_rim(rim_tree(version, active, product=product), chain or self.rim_chain)

    def rims(self, gpu: SimulatedGpu) -> dict[str, bytes]:
        """The two RIMs that say of this GPU what it says of itself."""
        ids = rim_ids(Report.parse(gpu.report()), gpu.chip)
        values = {index: [value] for index, value in enumerate(gpu.measurements)}
        driver = gpu.opaque[Field.DRIVER_VERSION].rstrip(b"\0").decode()
        return {
            ids.driver: self.rim(driver, {i: values[i] for i in DRIVER_INDEXES}, product=gpu.chip),
            ids.vbios: self.rim(VBIOS, {i: values[i] for i in VBIOS_INDEXES}, product=gpu.chip),
        }

    def answer(self, certificate: Authority, issuer: Authority, **changes: object) -> OcspAnswer:
        return OcspAnswer(ocsp_response(certificate, issuer, **changes), OCSP_NONCE)  # type: ignore[arg-type]

    def answers(self, *gpus: SimulatedGpu) -> tuple[OcspAnswer, ...]:
        """A good answer for every certificate that is asked about."""
        chains = [gpu.chain[1:] for gpu in gpus] + [self.rim_chain]
        pairs = {(c.der, i.der): (c, i) for chain in chains for c, i in pairwise(chain)}
        return tuple(self.answer(*pair) for pair in pairs.values())

    def collateral(self, *gpus: SimulatedGpu) -> GpuCollateral:
        rims: dict[str, bytes] = {}
        for gpu in gpus:
            rims |= self.rims(gpu)
        return GpuCollateral(rims, self.answers(*gpus))


def ocsp_response(
    certificate: Authority,
    issuer: Authority,
    *,
    status: ocsp.OCSPCertStatus = ocsp.OCSPCertStatus.GOOD,
    revoked_at: int | None = None,
    reason: x509.ReasonFlags | None = None,
    nonce: bytes | None = OCSP_NONCE,
    this_update: int = NOW - 3600,
    next_update: int | None = NOW + 3600,
    responder: Authority | None = None,
    cert_id: hashes.HashAlgorithm | None = None,
) -> bytes:
    """A SIMULATED answer, by default from a responder that the issuer certified for it."""
    if responder is None:
        usage = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.OCSP_SIGNING])
        responder = issue("SIMULATED OCSP responder", issuer, ca=False, extensions=[usage])
    builder = ocsp.OCSPResponseBuilder().add_response(
        certificate.certificate,
        issuer.certificate,
        cert_id or hashes.SHA384(),
        status,
        datetime.fromtimestamp(this_update, UTC),
        None if next_update is None else datetime.fromtimestamp(next_update, UTC),
        None if revoked_at is None else datetime.fromtimestamp(revoked_at, UTC),
        reason,
    )
    builder = builder.responder_id(ocsp.OCSPResponderEncoding.HASH, responder.certificate)
    builder = builder.certificates([responder.certificate])
    if nonce is not None:
        builder = builder.add_extension(x509.OCSPNonce(nonce), critical=False)
    return builder.sign(responder.key, hashes.SHA384()).public_bytes(Encoding.DER)


def rim_tree(
    version: str, active: Mapping[int, Sequence[bytes]], *, product: str = "GH100"
) -> etree._Element:
    """An unsigned RIM document."""
    swid = "http://standards.iso.org/iso/19770/-2/2015/schema.xsd"
    sha = "http://www.w3.org/2001/04/xmlenc#sha384"
    root = etree.Element(f"{{{swid}}}SoftwareIdentity", nsmap={"s": swid, "h": sha}, name=product)
    meta = etree.SubElement(root, f"{{{swid}}}Meta", product=product, edition="GPU")
    meta.set("colloquialVersion", version)
    payload = etree.SubElement(root, f"{{{swid}}}Payload")
    for index in range(BLOCKS):
        digests = active.get(index, [bytes(48)])
        resource = etree.SubElement(payload, f"{{{swid}}}Resource", type="Measurement", size="48")
        resource.set("index", str(index))
        resource.set("active", str(index in active))
        resource.set("alternatives", str(len(digests)))
        resource.set("name", f"Measurement_{index}")
        for number, digest in enumerate(digests):
            resource.set(f"{{{sha}}}Hash{number}", digest.hex())
    return root


def sign_rim(root: etree._Element, chain: Sequence[Authority]) -> bytes:
    """The document with an enveloped signature by the first of the chain."""
    signer = XMLSigner(
        method=SignatureConstructionMethod.enveloped,
        signature_algorithm=SignatureMethod.ECDSA_SHA384,
        digest_algorithm=DigestAlgorithm.SHA384,
        c14n_algorithm=CanonicalizationMethod.CANONICAL_XML_1_1,
    )
    signed = signer.sign(root, key=chain[0].key, cert=[a.certificate for a in chain])
    return etree.tostring(signed)


def policy(**changes: object) -> GpuPolicy:
    """A strict policy for one simulated Hopper or Blackwell GPU."""
    rules = {"driver": {"minimum": "550.90.07"}, "vbios": {"exact": [VBIOS]}}
    value: dict[str, object] = {
        "architectures": {"hopper": rules, "blackwell": rules},
        "minimum_count": 1,
        "maximum_count": 1,
        "modes": ["single-gpu"],
        "insecure_ignored_measurements": [],
        "insecure_revoked_grace_hours": 0,
        "opt_outs": [],
    }
    return from_map(GpuPolicy, value | changes, "GPU policy")


def verify(
    nvidia: SimulatedNvidia,
    *gpus: SimulatedGpu | bytes,
    collateral: GpuCollateral | None = None,
    now: int = NOW,
    nonce: bytes = NONCE,
    **changes: object,
) -> Verdict:
    """The verdict on these GPUs, by default with everything that they need."""
    simulated = [gpu for gpu in gpus if isinstance(gpu, SimulatedGpu)]
    return judge_gpus(
        [gpu if isinstance(gpu, bytes) else gpu.evidence() for gpu in gpus],
        nonce=nonce,
        policy=policy(**changes),
        collateral=nvidia.collateral(*simulated) if collateral is None else collateral,
        now=now,
        roots=nvidia.roots,
    )


def _fwid(digest: bytes) -> bytes:
    return bytes.fromhex("303d0609608648016503040202" + "0430") + digest


def _extension(oid: str, body: bytes) -> x509.UnrecognizedExtension:
    der = b"\x30" + _length(len(body)) + body
    return x509.UnrecognizedExtension(x509.ObjectIdentifier(oid), der)


def _length(size: int) -> bytes:
    return bytes([size]) if size < 128 else bytes([0x81, size])
