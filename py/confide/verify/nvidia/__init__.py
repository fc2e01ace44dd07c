"""Verifies the evidence of a machine's NVIDIA GPUs (Hopper, Blackwell), all of them together.

Rules that hold for every verdict which passes:
- There are as many GPUs as the policy wants, never none, and no GPU is counted twice.
- Each one's report is signed by a key that NVIDIA's device root vouches for, made for the firmware
  that the report names, over the nonce that the machine's own report leads to.
- Each measurement that NVIDIA has reference values for is as they say. These are signed, up to
  NVIDIA's other root, and are for exactly this chip, driver and VBIOS.
- NVIDIA answered for every certificate above a GPU's leaf, and of the RIMs' signers, lately.
- Nothing was left to an NVSwitch: their evidence is not supported, so what relies on one fails.

Source: NVIDIA's published verifiers (attestation-sdk, nvtrust) for what is not in a specification.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from confide.protocol.policy.gpu import GpuPolicy, OptOut
from confide.vendors.nvidia.spdm import Field
from confide.verify.claims import InsecureAny
from confide.verify.nvidia.chain import Chain
from confide.verify.nvidia.collateral import GpuCollateral
from confide.verify.nvidia.device import Device, check_device, read_device
from confide.verify.nvidia.measurements import check_conflict, check_measurements
from confide.verify.nvidia.revocation import Revocation
from confide.verify.nvidia.rim import SignedRim, verify_rim
from confide.verify.roots import NVIDIA_DEVICE, NVIDIA_RIM, Root
from confide.verify.verdict import Check, Verdict, check_equal
from confide.verify.x509 import spki_sha256

_MANIFEST = "manifest"


def verify_gpus(
    evidences: Sequence[bytes],
    *,
    nonce: bytes,
    policy: GpuPolicy,
    collateral: GpuCollateral,
    now: int,
    roots: tuple[Root, Root] = (NVIDIA_DEVICE, NVIDIA_RIM),
) -> Verdict:
    """All checks of all GPUs at `now` (unix seconds); never raises for bad evidence.

    `evidences` are the items of `Evidence.gpus`, `nonce` is `formats.gpu.gpu_nonce` of the data
    that the machine's report was found to bind. `roots` vouch for devices and for RIMs.
    """
    device_root, rim_root = roots
    checks = [_check_count(evidences, policy)]
    devices = []
    for number, data in enumerate(evidences):
        read, device = read_device(f"GPU {number}", data)
        checks.append(read)
        if device is not None:
            devices.append(device)
            checks += check_device(device, nonce=nonce, policy=policy, now=now, root=device_root)
    checks.append(_check_distinct(devices))
    rims: dict[str, SignedRim] = {}
    for rim_id in _wanted_rims(devices, policy):
        found, rim = verify_rim(rim_id, collateral.rims.get(rim_id), now=now, root=rim_root)
        checks += found
        if rim is not None:
            rims[rim_id] = rim
    for device in devices:
        checks += _check_software(device, rims, policy)
    revocation = Revocation(collateral.ocsp, policy, now)
    # A GPU makes its leaf itself, so nobody can revoke it; the roots are pinned.
    chains = [device.chain[1:] for device in devices] + [rim.chain for rim in rims.values()]
    checks += [revocation.check(*pair) for pair in _issued(chains)]
    return Verdict(tuple(checks))


def _check_count(evidences: Sequence[bytes], policy: GpuPolicy) -> Check:
    low, high = policy.minimum_count, policy.maximum_count
    expected = str(low) if low == high else f"{low} to {high}"
    # A policy without GPUs cannot be read; one that was made by hand accepts none either.
    passed = 0 < low <= len(evidences) <= high
    return Check("number of GPUs", expected, str(len(evidences)), passed, _MANIFEST)


def _check_distinct(devices: Sequence[Device]) -> Check:
    """One GPU that answers twice is one GPU: neither its id nor one of its keys may come again."""
    uuids = [device.evidence.device.uuid for device in devices]
    keys = [spki_sha256(certificate) for device in devices for certificate in device.chain[:2]]
    passed = len(set(uuids)) == len(uuids) and len(set(keys)) == len(keys)
    seen = f"{len(devices)} different GPUs" if passed else "one GPU more than once"
    return Check("GPUs are distinct", "each GPU once", seen, passed, "GPU certificates")


def _wanted_rims(devices: Iterable[Device], policy: GpuPolicy) -> list[str]:
    """Each id once, in order, without those that the policy does without."""
    wanted: dict[str, None] = {}
    for device in devices:
        if OptOut.WITHOUT_DRIVER_RIM not in policy.opt_outs:
            wanted[device.rims.driver] = None
        if OptOut.WITHOUT_VBIOS_RIM not in policy.opt_outs:
            wanted[device.rims.vbios] = None
    return list(wanted)


def _check_software(device: Device, rims: dict[str, SignedRim], policy: GpuPolicy) -> list[Check]:
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
        name = f"{device.label} {what} measurements"
        if opt_out in policy.opt_outs:
            checks.append(InsecureAny(name, opt_out, _MANIFEST).check("not compared"))
        elif rim_id not in rims:
            checks.append(Check(name, f"as in {rim_id}", "no such RIM", False, "RIM"))
        else:
            rim = rims[rim_id].rim
            about = f"{rim.edition} {rim.product} {rim.version.upper()}"
            wanted = f"GPU {device.chip} {version.upper()}"
            checks.append(check_equal(f"{device.label} {what} RIM", wanted, about, "report"))
            checks.append(check_measurements(name, device.report, rim, policy))
            compared.append(rim)
    checks.append(check_conflict(f"{device.label} RIM indexes", compared))
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
