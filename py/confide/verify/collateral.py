"""Which items of collateral some evidence needs, and those of them that are there.

Nothing is verified here and nothing is fetched. A program that fetches runs the selection, gets
what `Shelf.missing` names, and runs it again, until nothing new is named: a reference value names
its signers only once it is there.

Evidence that cannot be read needs nothing: its verifier says what is wrong with it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from cryptography import x509
from cryptography.hazmat.primitives import hashes

from confide.errors import FormatError
from confide.protocol.collateral import Bundle, Item
from confide.protocol.manifest import Manifest, RoleEntry
from confide.protocol.policy.gpu import GpuPolicy
from confide.protocol.policy.snp import OptOut, SnpPolicy
from confide.vendors.amd.report import Product, SigningKey
from confide.vendors.intel import pcs
from confide.vendors.intel.collateral import TdxCollateral
from confide.vendors.nvidia.spdm import NONCE_SIZE
from confide.verify.machine import SNP_CERTIFICATES, SnpEvidence, TdxEvidence
from confide.verify.nvidia.collateral import GpuCollateral, OcspAnswer
from confide.verify.nvidia.device import Device, wanted_rims
from confide.verify.nvidia.rim import rim_signers
from confide.verify.parsed import ParsedEvidence
from confide.verify.snp.collateral import SnpCollateral

_TURIN_CHIP_ID_SIZE = 8

About = tuple[x509.Certificate, ...]
"""The certificate that an item is about, its issuer and those above, up to the root; unverified.

Empty for the items whose names say everything.
"""


class Shelf:
    """A bundle, and what was asked for: what is not in it, and about what that is; and the rest."""

    def __init__(self, bundle: Bundle) -> None:
        self._bundle = bundle
        self.missing: dict[str, About] = {}
        self.taken: set[str] = set()

    def take(self, name: str, *about: x509.Certificate) -> Item | None:
        """The item of this name; None, which is noted as missing, if the bundle lacks it."""
        item = self._bundle.get(name)
        if item is None:
            self.missing[name] = about
        else:
            self.taken.add(name)
        return item

    def data(self, name: str, *about: x509.Certificate) -> bytes | None:
        """The bytes of the item of this name."""
        item = self.take(name, *about)
        return item.data if item else None


def missing_for(
    evidence: ParsedEvidence, role: RoleEntry, manifest: Manifest, bundle: Bundle
) -> Mapping[str, About]:
    """The items that verifying this evidence needs and `bundle` does not have, by name.

    Only what the manifest's policy looks at is needed; a platform that it refuses needs none.
    """
    return _select(evidence, role, manifest, bundle).missing


def taken_by(
    evidence: ParsedEvidence, role: RoleEntry, manifest: Manifest, bundle: Bundle
) -> set[str]:
    """The items of `bundle` that verifying this evidence takes, by name."""
    return _select(evidence, role, manifest, bundle).taken


def _select(evidence: ParsedEvidence, role: RoleEntry, manifest: Manifest, bundle: Bundle) -> Shelf:
    shelf = Shelf(bundle)
    machine, platforms = evidence.machine, manifest.platforms
    match machine:
        case SnpEvidence() if role.snp and platforms.snp is not None:
            snp_collateral(machine, platforms.snp, shelf)
        case TdxEvidence() if role.tdx and platforms.tdx is not None:
            tdx_collateral(machine, shelf)
        case _:
            return shelf
    if role.gpus is not None:
        gpu_collateral(evidence.gpus, role.gpus, shelf)
    return shelf


def snp_collateral(evidence: SnpEvidence, policy: SnpPolicy, shelf: Shelf) -> SnpCollateral:
    """AMD's certificates that did not come with the evidence, and the revocation list.

    The list is left out if the policy does without it. The root comes with the list, also where the
    evidence has it: a program that keeps the list checks its signature by it.
    """
    report, key = evidence.report, evidence.endorsement_key
    product = key.product if key is not None else report.product
    if product is None:
        raise AssertionError("SnpEvidence.parse refuses a report without a product and a key")
    prefix = f"amd/{product.value}"
    vcek, intermediate, root, crl = None, None, None, None
    if key is None and report.signing_key is SigningKey.VCEK:
        vcek = shelf.data(vcek_name(product, report.chip_id, report.reported_tcb))
    if not evidence.issuers:
        is_vlek = report.signing_key is SigningKey.VLEK
        intermediate = shelf.data(f"{prefix}/{'asvk' if is_vlek else 'ask'}")
    if len(evidence.issuers) < len(SNP_CERTIFICATES) - 1:
        root = shelf.data(f"{prefix}/ark")
    if OptOut.WITHOUT_REVOCATION not in policy.opt_outs:
        crl = shelf.data(f"{prefix}/crl")
        shelf.take(f"{prefix}/ark")
    return SnpCollateral(vcek, intermediate, root, crl)


def vcek_name(product: Product, chip_id: bytes, tcb: bytes) -> str:
    """The item that is the VCEK of a chip (64 bytes) at a TCB version (8 bytes)."""
    size = _TURIN_CHIP_ID_SIZE if product is Product.TURIN else len(chip_id)
    return f"amd/vcek/{product.value}/{chip_id[:size].hex()}/{tcb.hex()}"


def tdx_collateral(evidence: TdxEvidence, shelf: Shelf) -> TdxCollateral | FormatError:
    """Intel's statements on the quote's kind of platform; or what is wrong with them."""
    chain = evidence.pck_chain
    if isinstance(chain, FormatError):
        return chain
    try:
        platform = pcs.Platform.of(chain.certificates[0], chain.pck)
    except FormatError as error:
        return error
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
    except FormatError as error:
        return error


def intel_answer(item: Item) -> pcs.Answer:
    """An item as Intel's service gave it."""
    return pcs.Answer(item.data, item.chain.decode("ascii", "replace"))


def gpu_collateral(
    gpus: Iterable[Device | FormatError], policy: GpuPolicy, shelf: Shelf
) -> GpuCollateral:
    """Reference values for every GPU, as far as the policy wants them, and NVIDIA's answers.

    The answers are about every certificate between a GPU's own and a pinned root.
    """
    devices = [device for device in gpus if isinstance(device, Device)]
    rims = {}
    questions: dict[str, About] = {}
    for device in devices:
        # A GPU makes its own leaf, and the root is pinned: NVIDIA is asked about those between.
        questions |= _questions(device.chain[1:])
    for rim_id in wanted_rims(devices, policy):
        xml = shelf.data(f"nvidia/rim/{rim_id}")
        if xml is not None:
            rims[rim_id] = xml
            questions |= _questions(rim_signers(xml))
    answers = [shelf.take(name, *about) for name, about in questions.items()]
    ocsp = tuple(OcspAnswer(a.data, a.nonce.ljust(NONCE_SIZE, b"\0")) for a in answers if a)
    return GpuCollateral(rims, ocsp)


def _questions(chain: About) -> dict[str, About]:
    """What to ask of each certificate but the last, by the item's name: it and those above it."""
    return {
        f"nvidia/ocsp/{certificate.fingerprint(hashes.SHA256()).hex()}": chain[at:]
        for at, certificate in enumerate(chain[:-1])
    }
