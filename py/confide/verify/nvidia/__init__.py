"""Verifies the evidence of a machine's NVIDIA GPUs (Hopper, Blackwell), all of them together.

Rules that hold for every verdict which passes:
- There are as many GPUs as the policy wants, never none, and no GPU is counted twice.
- Each one's report is signed by a key that NVIDIA's device root certifies, made for the firmware
  that the report names, over the nonce that the machine's own report leads to.
- Each measurement that NVIDIA has reference values for is as they say. These are signed, up to
  NVIDIA's other root, and are for exactly this chip, driver and VBIOS.
- NVIDIA has confirmed every certificate above a GPU's leaf, and of the RIMs' signers, recently.
- Nothing was left to an NVSwitch: their evidence is not supported, so what relies on one fails.

Source: NVIDIA's published verifiers (attestation-sdk, nvtrust) for what is not in a specification.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from confide.errors import FormatError
from confide.protocol.policy.gpu import GpuPolicy, OptOut
from confide.vendors.nvidia.spdm import Field
from confide.verify.claims import InsecureAny
from confide.verify.nvidia.chain import Chain
from confide.verify.nvidia.collateral import GpuCollateral
from confide.verify.nvidia.device import Device, check_device, check_form, wanted_rims
from confide.verify.nvidia.measurements import check_conflict, check_measurements
from confide.verify.nvidia.revocation import Revocation
from confide.verify.nvidia.rim import SignedRim, verify_rim
from confide.verify.roots import NVIDIA_DEVICE, NVIDIA_RIM, Root
from confide.verify.verdict import Check, Verdict, check_equal
from confide.verify.x509 import spki_sha256

_MANIFEST = "manifest"


def verify_gpus(
    gpus: Sequence[Device | FormatError],
    *,
    nonce: bytes,
    policy: GpuPolicy,
    collateral: GpuCollateral,
    now: int,
    roots: tuple[Root, Root] = (NVIDIA_DEVICE, NVIDIA_RIM),
) -> Verdict:
    """All checks of all GPUs at `now` (unix seconds); never raises for bad evidence.

    Args:
        gpus: `ParsedEvidence.gpus`.
        nonce: 32 bytes: `protocol.gpu.gpu_nonce` of what the machine's verified report binds.
        policy: what the manifest demands.
        collateral: NVIDIA's reference values and revocation answers.
        now: unix seconds.
        roots: the pinned roots of devices and of RIMs.
    """
    device_root, rim_root = roots
    checks = [_check_count(gpus, policy)]
    labelled = {}
    for number, device in enumerate(gpus):
        label = f"GPU {number}"
        checks.append(check_form(label, device))
        if not isinstance(device, FormatError):
            labelled[label] = device
            checks += check_device(
                label, device, nonce=nonce, policy=policy, now=now, root=device_root
            )
    devices = list(labelled.values())
    checks.append(_check_distinct(devices))
    rims: dict[str, SignedRim] = {}
    for rim_id in wanted_rims(devices, policy):
        found, rim = verify_rim(rim_id, collateral.rims.get(rim_id), now=now, root=rim_root)
        checks += found
        if rim is not None:
            rims[rim_id] = rim
    for label, device in labelled.items():
        checks += _check_software(label, device, rims, policy)
    revocation = Revocation(collateral.ocsp, policy, now)
    # A GPU makes its leaf itself, so it cannot be revoked; the roots are pinned.
    chains = [device.chain[1:] for device in devices] + [rim.chain for rim in rims.values()]
    checks += [revocation.check(*pair) for pair in _issued(chains)]
    return Verdict(tuple(checks))


def _check_count(gpus: Sequence[object], policy: GpuPolicy) -> Check:
    low, high = policy.minimum_count, policy.maximum_count
    expected = str(low) if low == high else f"{low} to {high}"
    # A policy without GPUs cannot be read; one that was made by hand accepts none either.
    passed = 0 < low <= len(gpus) <= high
    return Check("number of GPUs", expected, str(len(gpus)), passed, _MANIFEST)


def _check_distinct(devices: Sequence[Device]) -> Check:
    """One GPU that answers twice is one GPU: neither its id nor one of its keys may come again."""
    uuids = [device.stated.uuid for device in devices]
    keys = [spki_sha256(certificate) for device in devices for certificate in device.chain[:2]]
    passed = len(set(uuids)) == len(uuids) and len(set(keys)) == len(keys)
    seen = f"{len(devices)} different GPUs" if passed else "one GPU more than once"
    return Check("GPUs are distinct", "each GPU once", seen, passed, "GPU certificates")


def _check_software(
    label: str, device: Device, rims: dict[str, SignedRim], policy: GpuPolicy
) -> list[Check]:
    """That the two RIMs are for this GPU, and that it measured what they say."""
    checks = []
    compared = []
    kinds = (
        (
            "driver",
            device.rims.driver,
            device.report.text(Field.DRIVER_VERSION),
            OptOut.WITHOUT_DRIVER_RIM,
        ),
        ("VBIOS", device.rims.vbios, device.report.vbios_version, OptOut.WITHOUT_VBIOS_RIM),
    )
    for what, rim_id, version, opt_out in kinds:
        name = f"{label} {what} measurements"
        if opt_out in policy.opt_outs:
            checks.append(InsecureAny(name, opt_out, _MANIFEST).check("not compared"))
        elif rim_id not in rims:
            checks.append(Check(name, f"as in {rim_id}", "no such RIM", False, "RIM"))
        else:
            rim = rims[rim_id].rim
            about = f"{rim.edition} {rim.product} {rim.version.upper()}"
            wanted = f"GPU {device.chip} {version.upper()}"
            checks.append(check_equal(f"{label} {what} RIM", wanted, about, "report"))
            checks.append(check_measurements(name, device.report, rim, policy))
            compared.append(rim)
    checks.append(check_conflict(f"{label} RIM indexes", compared))
    return checks


def _issued(chains: Iterable[Chain]) -> list[tuple[x509.Certificate, x509.Certificate]]:
    """Every (certificate, issuer) of the chains once; a chain's last one is a root."""
    pairs = {
        (certificate.public_bytes(Encoding.DER), issuer.public_bytes(Encoding.DER)): (
            certificate,
            issuer,
        )
        for chain in chains
        for certificate, issuer in pairwise(chain)
    }
    return list(pairs.values())
