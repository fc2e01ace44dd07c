"""SIMULATED collateral with one thing different: another date, signer or subject."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from hashlib import sha256

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from confide.encoding.pem import write_chain
from confide.guest.coordinator.ca import Authority as NvidiaAuthority
from confide.protocol.collateral import Item
from confide.vendors.amd.report import Product
from tests.support import intel_certificates
from tests.support.intel_certificates import FMSPC, SHA256, Signer
from tests.support.production import Production, pcs_answer
from tests.support.simulated_amd import (
    MADE,
    NOW,
    TCBS,
    Authority,
    SimulatedChip,
    make_authority,
    make_crl,
    root,
    rsa_key,
)
from tests.support.simulated_gpu import SimulatedGpu, issue, ocsp_response
from tests.support.simulated_intel import SimulatedIntel, qe_identity, tcb_info

ARK, ASK, ASVK, CRL = (f"amd/milan/{part}" for part in ("ark", "ask", "asvk", "crl"))
TCB_INFO, QE_IDENTITY = f"intel/tcb-info/{FMSPC.hex()}", "intel/qe-identity"
ROOT_CRL, PLATFORM_CRL = "intel/crl/root", "intel/crl/platform"
DRIVER_RIM = "nvidia/rim/NV_GPU_DRIVER_GH100_550.127.05"
VBIOS_RIM = "nvidia/rim/NV_GPU_VBIOS_1010_0200_882_96009F0001"
HOUR = 3600


def vcek_name(chip: SimulatedChip, tcb: bytes = TCBS[Product.MILAN]) -> str:
    return f"amd/vcek/{chip.product.value}/{chip.hardware_id.hex()}/{tcb.hex()}"


def vcek(chip: SimulatedChip, tcb: bytes) -> tuple[str, Item]:
    """A genuine certificate of this chip at another TCB version."""
    return vcek_name(chip, tcb), Item(chip.but(certificate_tcb=tcb).certificate(), 0)


def asvk() -> Authority:
    return make_authority("SIMULATED SEV-VLEK milan", rsa_key("ask"), root(), serial=3)


def stranger(name: str = "SIMULATED ARK milan") -> Authority:
    """Who calls himself AMD's root."""
    return make_authority(name, rsa_key("stranger"), serial=1)


def amd_list(hours: int = 0, *, days: int = 30, issuer: Authority | None = None) -> Item:
    """The root's list as it was made so many hours later, good for so many days."""
    start = MADE + timedelta(hours=hours)
    return Item(make_crl(issuer=issuer or root(), start=start, end=start + timedelta(days=days)), 0)


def other_ask() -> Item:
    """A second issuer of the same product: AMD has none."""
    return Item(make_authority("SIMULATED SEV milan", rsa_key("second ask"), root()).der, 0)


def second_ask_of_stranger() -> Item:
    return Item(make_authority("SIMULATED SEV milan", rsa_key("ask"), stranger()).der, 0)


def intel_time(hours: int) -> str:
    made = datetime(2026, 5, 20, tzinfo=UTC) + timedelta(hours=hours)
    return made.strftime("%Y-%m-%dT%H:%M:%SZ")


def document(
    intel: SimulatedIntel,
    name: str = TCB_INFO,
    *,
    hours: int = 0,
    days: int = 30,
    **changes: object,
) -> Item:
    """TCB info or QE identity, issued so many hours later, good for so many days."""
    dates = {"issueDate": intel_time(hours), "nextUpdate": intel_time(hours + 24 * days)}
    if name == QE_IDENTITY:
        signed = intel.collateral(identity=qe_identity(**dates, **changes))
        inner, signature, chain = (
            signed.qe_identity,
            signed.qe_identity_signature,
            signed.qe_identity_chain,
        )
        return pcs_answer("enclaveIdentity", inner, signature, chain)
    signed = intel.collateral(info=tcb_info(**dates, **changes))
    return pcs_answer("tcbInfo", signed.tcb_info, signed.tcb_info_signature, signed.tcb_info_chain)


def intel_list(issuer: Signer, hours: int = 0, *, days: int = 30, number: int = 1) -> bytes:
    """A CA's list, made so many hours after ten days ago."""
    start = datetime.fromtimestamp(intel_certificates.NOW, UTC) + timedelta(days=-10, hours=hours)
    builder = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(issuer.certificate.subject)
        .last_update(start)
        .next_update(start + timedelta(days=days))
        .add_extension(x509.CRLNumber(number), critical=False)
    )
    return builder.sign(issuer.key, SHA256).public_bytes(Encoding.DER)


def platform_list(made: Production, hours: int = 0, **changes: int) -> Item:
    data = intel_list(made.intel.platform_ca, hours, **changes)
    return Item(data, 0, chain=write_chain(made.intel.pck_chain[1:]))


def answer_name(certificate: NvidiaAuthority) -> str:
    return f"nvidia/ocsp/{sha256(certificate.der).hexdigest()}"


def answer(chain: tuple[NvidiaAuthority, ...], **changes: object) -> Item:
    """An answer about the first certificate of a chain."""
    made = ocsp_response(chain[0], chain[1], **changes)  # type: ignore[arg-type]
    nonce = changes.get("nonce", bytes(range(32, 64)))
    above = write_chain(tuple(authority.der for authority in chain))
    return Item(made, 0, above, nonce if isinstance(nonce, bytes) else b"")


def rim(
    made: Production,
    gpu: SimulatedGpu,
    name: str,
    *,
    version: str = "",
    product: str = "GH100",
    chain: tuple[NvidiaAuthority, ...] = (),
) -> Item:
    """A genuine RIM that accepts what this GPU measures."""
    digests = {index: [value] for index, value in enumerate(gpu.measurements)}
    known = "550.127.05" if "DRIVER" in name else "96.00.9F.00.01"
    return Item(made.nvidia.rim(version or known, digests, product=product, chain=chain), 0)


def rim_chain(made: Production, days: int) -> tuple[NvidiaAuthority, ...]:
    """The chain of another signer of RIMs, which ends so many days after NOW."""
    above = made.nvidia.rim_chain[1:]
    return (issue("HCC RIM L4 Signer", above[0], ca=False, end=NOW + days * 24 * HOUR), *above)


def changed(item: Item, at: int) -> Item:
    """The item with one bit of its bytes turned."""
    data = bytearray(item.data)
    data[at % len(data)] ^= 1
    return replace(item, data=bytes(data))
