"""One GPU's evidence by itself: who made it, that it signed this nonce, how it is set up.

What it is measured against (RIMs) and whether its certificates are revoked is for verify_gpus,
which does that once for all GPUs.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.x509.oid import NameOID

from confide.errors import FormatError
from confide.protocol.gpu import GpuDevice, GpuEvidence
from confide.protocol.policy.gpu import GpuPolicy, OptOut
from confide.vendors.nvidia.fwid import firmware_identity
from confide.vendors.nvidia.rim import RimIds, rim_ids
from confide.vendors.nvidia.spdm import DISABLED, ENABLED, Field, Report
from confide.verify.claims import Claim, Equals, InsecureAny, OneOf
from confide.verify.nvidia.chain import Chain, check_chain, load_chain, public_key
from confide.verify.roots import NVIDIA_DEVICE, Root
from confide.verify.verdict import Check, check_equal

# Which architecture a chip is, by the name in its certificates. A chip that is not here is refused.
CHIPS = {"GH100": "hopper", "GB100": "blackwell"}
UNSTATED = "unstated"
PROTECTED_PCIE = "protected-pcie"

_REPORT = "report"
_MANIFEST = "manifest"
_PROVISIONER = 2  # place in the chain of the first certificate that NVIDIA itself signed for a chip
_MODES = {0: "single-gpu", 1: "multi-gpu", 2: PROTECTED_PCIE}


@dataclass(frozen=True)
class Device:
    """One GPU's evidence, read and not verified.

    Attributes:
        stated: what the machine's driver says of the GPU.
        report: the GPU's signed measurements.
        chain: its certificates, leaf first, root last.
        chip: the chip that they name, such as "GH100".
        rims: the ids of the reference values that the report has to match.
    """

    stated: GpuDevice
    report: Report
    chain: Chain
    chip: str
    rims: RimIds

    @classmethod
    def parse(cls, evidence: GpuEvidence) -> Device:
        """Reads report and certificates.

        Raises:
            FormatError: one of these is malformed, or not of a GPU.
        """
        report = Report.parse(evidence.report)
        chain = load_chain(evidence.device.certificates, "GPU's")
        chip = _chip(chain)
        return cls(evidence.device, report, chain, chip, rim_ids(report, chip))


def check_form(label: str, device: Device | FormatError) -> Check:
    """Passes if the GPU's evidence could be read; `label` is how checks name the GPU."""
    name, expected = f"{label} evidence", "well-formed evidence of one GPU"
    if isinstance(device, FormatError):
        return Check(name, expected, str(device), False, "evidence format")
    seen = f"{device.stated.architecture} {device.stated.uuid}"
    return Check(name, expected, seen, True, "evidence format")


def check_device(
    label: str,
    device: Device,
    *,
    nonce: bytes,
    policy: GpuPolicy,
    now: int,
    root: Root = NVIDIA_DEVICE,
) -> list[Check]:
    """Chain, signature, nonce, firmware, kind, mode and versions of one GPU."""
    report = device.report
    signed = report_signature_is_valid(device.chain[0], report)
    architecture = device.stated.architecture
    rules = policy.architectures.get(architecture)
    checks = [
        *check_chain(f"{label} certificates", device.chain, root, now),
        Check(
            f"{label} report signature",
            "valid, by the GPU's leaf key",
            "valid" if signed else "not valid",
            signed,
            "GPU certificate",
        ),
        check_equal(f"{label} nonce", nonce, report.nonce, "machine's report"),
        *_check_firmware(label, device),
        OneOf(f"{label} architecture", tuple(policy.architectures), _MANIFEST).check(architecture),
        _check_chip(label, device),
        *_check_mode(label, device, policy),
    ]
    versions = (
        ("driver", report.text(Field.DRIVER_VERSION), rules.driver if rules else None),
        ("VBIOS", report.vbios_version, rules.vbios if rules else None),
    )
    for what, version, rule in versions:
        passed = rule is not None and rule.accepts(version)
        expected = str(rule) if rule else f"no {architecture} GPU is accepted"
        checks.append(Check(f"{label} {what} version", expected, version, passed, _MANIFEST))
    return checks


def wanted_rims(devices: Iterable[Device], policy: GpuPolicy) -> list[str]:
    """The ids of the RIMs that the policy wants for these GPUs, in order, each once."""
    wanted: dict[str, None] = {}
    for device in devices:
        if OptOut.WITHOUT_DRIVER_RIM not in policy.opt_outs:
            wanted[device.rims.driver] = None
        if OptOut.WITHOUT_VBIOS_RIM not in policy.opt_outs:
            wanted[device.rims.vbios] = None
    return list(wanted)


def report_signature_is_valid(leaf: x509.Certificate, report: Report) -> bool:
    """Whether the leaf's P-384 key signed the request and response, by ECDSA with SHA-384."""
    half = len(report.signature) // 2
    r, s = (
        int.from_bytes(part, "big") for part in (report.signature[:half], report.signature[half:])
    )
    try:
        key = public_key(leaf, "GPU's leaf")
        key.verify(encode_dss_signature(r, s), report.signed, ec.ECDSA(hashes.SHA384()))
    except (InvalidSignature, FormatError):
        return False
    return True


def _chip(chain: Chain) -> str:
    """The chip in the name of the provisioner: "NVIDIA GH100 Provisioner ICA 1"."""
    name = _common_name(chain[_PROVISIONER])
    match = re.match(r"NVIDIA ([A-Z0-9_]{2,8}) Provisioner ", name)
    if match is None:
        raise FormatError(
            "bad-gpu-evidence",
            "the GPU's certificates do not name its chip",
            expected="a provisioner of GPUs",
            seen=ascii(name)[:80],
        )
    chip = match[1]
    if chip.startswith("LS"):
        raise FormatError(
            "nvswitch-unsupported",
            "this is the evidence of an NVSwitch, which is not supported",
            expected="evidence of a GPU",
            seen=chip,
        )
    return chip


def _check_chip(label: str, device: Device) -> Check:
    """The chip is of the stated architecture, and certificates and report agree on it."""
    expected = [chip for chip, kind in CHIPS.items() if kind == device.stated.architecture]
    stated = device.report.opaque.get(Field.CHIP_INFO, device.chip.encode()).rstrip(b"\0")
    leaf = _common_name(device.chain[0]).split(" ")[0]
    agreed = stated == device.chip.encode() and leaf == device.chip
    seen = device.chip
    if not agreed:
        seen += f", but the leaf says {leaf[:16]!a} and the report {stated[:16]!a}"
    passed = agreed and device.chip in expected
    return Check(f"{label} chip", " or ".join(expected), seen, passed, "certificates")


def _check_firmware(label: str, device: Device) -> list[Check]:
    """The leaf's key was made for the firmware that the report names, in an operational state.

    A value of all zeros matches nothing, although Blackwell's leaf lists such an entry too.
    """
    name = f"{label} firmware id"
    reported = device.report.opaque.get(Field.FWID, b"")
    try:
        identity = firmware_identity(device.chain[0])
    except FormatError as error:
        return [Check(name, error.expected, error.seen, False, "GPU certificate")]
    seen = " ".join(fwid.hex() for fwid in identity.used) or "none"
    padding = len(identity.fwids) - len(identity.used)
    if padding:
        seen += f" (and {padding} of all zeros, not used)"
    states = ", ".join(identity.states)
    return [
        Check(
            name,
            reported.hex() or "a report that names its firmware",
            seen,
            any(reported) and identity.used == (reported,),
            _REPORT,
        ),
        Check(
            f"{label} firmware state",
            "neither debug nor recovery nor insecure",
            states or "none of these",
            not states,
            "GPU certificate",
        ),
    ]


def _check_mode(label: str, device: Device, policy: GpuPolicy) -> list[Check]:
    """How the GPU protects its traffic. Protected PCIe trusts switches that are not verified."""
    name = f"{label} confidential mode"
    mode = _mode(device.report)
    claim: Claim = OneOf(name, policy.modes, _MANIFEST)
    if mode == UNSTATED and OptOut.UNSTATED_MODE in policy.opt_outs:
        claim = InsecureAny(name, OptOut.UNSTATED_MODE, _MANIFEST)
    switches = Equals(f"{label} NVSwitch", "none relied upon", _REPORT)
    seen = "relied upon: not supported" if mode == PROTECTED_PCIE else "none relied upon"
    return [claim.check(mode), switches.check(seen)]


def _mode(report: Report) -> str:
    """The mode by name. Before the feature flag there were two, and one flag told them apart."""
    try:
        feature, protected = report.flag(Field.FEATURE_FLAG), report.flag(Field.PROTECTED_PCIE)
    except FormatError:
        return "unreadable"
    if protected == ENABLED:
        return PROTECTED_PCIE
    if feature is not None:
        return _MODES.get(feature, f"unknown ({feature})")
    return _MODES[0] if protected == DISABLED else UNSTATED


def _common_name(certificate: x509.Certificate) -> str:
    names = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    return str(names[0].value) if len(names) == 1 else ""
