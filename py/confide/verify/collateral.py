"""Which items of collateral some evidence needs, and those of them that are there.

Pure selection: nothing is verified here and nothing fetched. Whoever fetches runs the selection,
gets what `Shelf.missing` names, and runs it again, until nothing new is named: a reference value
names its signers only once it is there.

Evidence that cannot be read needs nothing: its verifier says what is wrong with it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from itertools import pairwise

from cryptography import x509
from cryptography.hazmat.primitives import hashes

from confide.encoding.x509 import load_certificate
from confide.errors import FormatError
from confide.protocol.collateral import Bundle, Item
from confide.protocol.evidence import Evidence
from confide.protocol.manifest import Manifest, RoleEntry
from confide.protocol.policy.vtpm import InsecureCloud
from confide.vendors.amd.certificates import EndorsementKey
from confide.vendors.amd.report import Product, Report, SigningKey
from confide.vendors.intel import pcs
from confide.vendors.intel.collateral import TdxCollateral
from confide.vendors.intel.quote import Quote
from confide.vendors.nvidia.spdm import NONCE_SIZE
from confide.verify.nvidia.collateral import GpuCollateral, OcspAnswer
from confide.verify.nvidia.device import Device, read_device
from confide.verify.nvidia.rim import rim_signers
from confide.verify.snp.collateral import SnpCollateral
from confide.verify.x509 import extension

MAX_ISSUERS = 3
_TURIN_CHIP_ID_SIZE = 8

About = tuple[x509.Certificate, ...]
"""The certificate that an item is about, and for a question to its issuer, that one's; unverified.

Empty for the items whose names say everything.
"""


class Shelf:
    """A bundle, and what was asked for and is not in it: names, and what these are about."""

    def __init__(self, bundle: Bundle) -> None:
        self._bundle = bundle
        self.missing: dict[str, About] = {}

    def take(self, name: str, *about: x509.Certificate) -> Item | None:
        """The item of this name; None, and noted, if there is none."""
        item = self._bundle.get(name)
        if item is None:
            self.missing[name] = about
        return item

    def data(self, name: str, *about: x509.Certificate) -> bytes | None:
        """The bytes of the item of this name."""
        item = self.take(name, *about)
        return item.data if item else None


def missing_for(
    evidence: Evidence, role: RoleEntry, manifest: Manifest, bundle: Bundle
) -> Mapping[str, About]:
    """The items that verifying this evidence would need and `bundle` does not have, by name."""
    shelf = Shelf(bundle)
    if evidence.platform == "sev-snp":
        snp_collateral(evidence, shelf)
    elif evidence.platform == "tdx":
        tdx_collateral(evidence, shelf)
    elif isinstance(manifest.platforms.vtpm, InsecureCloud):
        with_issuers(evidence, shelf)
    if role.gpus is not None:
        gpu_collateral(evidence, shelf)
    return shelf.missing


def snp_collateral(evidence: Evidence, shelf: Shelf) -> SnpCollateral:
    """AMD's certificates that did not come with the evidence, and the revocation list."""
    try:
        report = Report.parse(evidence.report)
        product = _product(report, evidence)
    except FormatError:
        return SnpCollateral()
    prefix = f"amd/{product.value}"
    key, intermediate, root = [*evidence.endorsements, None, None, None][:3]
    if key is None and report.signing_key is SigningKey.VCEK:
        key = shelf.data(vcek_name(product, report.chip_id, report.reported_tcb))
    if intermediate is None:
        is_vlek = report.signing_key is SigningKey.VLEK
        intermediate = shelf.data(f"{prefix}/{'asvk' if is_vlek else 'ask'}")
    if root is None:
        root = shelf.data(f"{prefix}/ark")
    return SnpCollateral(key, intermediate, root, shelf.data(f"{prefix}/crl"))


def vcek_name(product: Product, chip_id: bytes, tcb: bytes) -> str:
    """The item that is the VCEK of a chip (64 bytes) at a TCB version (8 bytes)."""
    size = _TURIN_CHIP_ID_SIZE if product is Product.TURIN else len(chip_id)
    return f"amd/vcek/{product.value}/{chip_id[:size].hex()}/{tcb.hex()}"


def tdx_collateral(evidence: Evidence, shelf: Shelf) -> TdxCollateral | None:
    """Intel's statements on the quote's kind of platform; None if one is missing or unreadable."""
    try:
        platform = pcs.Platform.of(Quote.parse(evidence.report))
    except FormatError:
        return None
    names = {
        pcs.Item.TCB_INFO: f"intel/tcb-info/{platform.fmspc.hex()}",
        pcs.Item.QE_IDENTITY: "intel/qe-identity",
        pcs.Item.ROOT_CRL: "intel/crl/root",
        pcs.Item.PCK_CRL: f"intel/crl/{platform.ca}",
    }
    found = {kind: shelf.take(name) for kind, name in names.items()}
    answers = {kind: intel_answer(item) for kind, item in found.items() if item is not None}
    try:
        return pcs.collateral(answers)
    except FormatError:
        return None


def intel_answer(item: Item) -> pcs.Answer:
    """An item as Intel's service gave it."""
    return pcs.Answer(item.data, item.chain.decode("ascii", "replace"))


def gpu_collateral(evidence: Evidence, shelf: Shelf) -> GpuCollateral:
    """Reference values for every GPU, and NVIDIA's answers for every certificate."""
    found = [read_device(f"GPU {number}", data)[1] for number, data in enumerate(evidence.gpus)]
    devices = [device for device in found if device is not None]
    rims = {}
    questions: dict[str, About] = {}
    for device in devices:
        # A GPU makes its own leaf, and the root is pinned: NVIDIA is asked about those between.
        questions |= _questions(device.chain[1:])
    for rim_id in _rim_ids(devices):
        xml = shelf.data(f"nvidia/rim/{rim_id}")
        if xml is not None:
            rims[rim_id] = xml
            questions |= _questions(rim_signers(xml))
    answers = [shelf.take(name, *about) for name, about in questions.items()]
    ocsp = tuple(OcspAnswer(a.data, a.nonce.ljust(NONCE_SIZE, b"\0")) for a in answers if a)
    return GpuCollateral(rims, ocsp)


def with_issuers(evidence: Evidence, shelf: Shelf) -> Evidence:
    """VTPM evidence with the issuers of its attestation key, as far as they are there."""
    chain = list(evidence.endorsements)
    try:
        while len(chain) <= MAX_ISSUERS:
            certificate = load_certificate(chain[-1], "attestation key")
            key = extension(certificate, x509.AuthorityKeyIdentifier)
            if certificate.issuer == certificate.subject or key is None or not key.key_identifier:
                break
            issuer = shelf.data(f"google/issuer/{key.key_identifier.hex()}", certificate)
            if issuer is None:
                break
            chain.append(issuer)
    except (FormatError, IndexError):
        return evidence
    return replace(evidence, endorsements=tuple(chain))


def _product(report: Report, evidence: Evidence) -> Product:
    """Version 2 of the report does not say what processor it is from; the certificate does."""
    if evidence.endorsements:
        return EndorsementKey.parse(evidence.endorsements[0]).product
    if report.product is None:
        raise FormatError(
            "no-endorsement-key",
            "the report does not say what processor it is from, and no certificate came with it",
            expected="a report of version 3 or later, or the endorsement key's certificate",
        )
    return report.product


def _rim_ids(devices: Iterable[Device]) -> dict[str, None]:
    return dict.fromkeys(
        rim_id for device in devices for rim_id in (device.rims.driver, device.rims.vbios)
    )


def _questions(chain: About) -> dict[str, About]:
    """What to ask of each certificate but the last, by the item's name: (certificate, issuer)."""
    return {
        f"nvidia/ocsp/{certificate.fingerprint(hashes.SHA256()).hex()}": (certificate, issuer)
        for certificate, issuer in pairwise(chain)
    }
