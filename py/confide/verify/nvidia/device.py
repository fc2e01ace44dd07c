"""One GPU's evidence by itself: who made it, that it signed this nonce, how it is set up.

What it is measured against (RIMs) and whether its certificates are revoked is for verify_gpus,
which does that once for all GPUs.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.x509.oid import NameOID

from confide.errors import FormatError
from confide.protocol.gpu import GpuEvidence
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
    """A GPU whose evidence could be read; `label` is how checks name it."""

    label: str
    evidence: GpuEvidence
    report: Report
    chain: Chain
    chip: str
    rims: RimIds


def read_device(label: str, data: bytes) -> tuple[Check, Device | None]:
    """Parse everything in one GPU's evidence; None if it is not of the form."""
    name = f"{label} evidence"
    expected = "well-formed evidence of one GPU"
    try:
        evidence = GpuEvidence.parse(data)
        report = Report.parse(evidence.report)
        chain = load_chain(evidence.device.certificates, "GPU's")
        chip = _chip(chain)
        device = Device(label, evidence, report, chain, chip, rim_ids(report, chip))
    except FormatError as error:
        return Check(name, expected, str(error), False, "evidence format"), None
    seen = f"{evidence.device.architecture} {evidence.device.uuid}"
    return Check(name, expected, seen, True, "evidence format"), device


def check_device(
    device: Device, *, nonce: bytes, policy: GpuPolicy, now: int, root: Root = NVIDIA_DEVICE
) -> list[Check]:
    """Chain, signature, nonce, firmware, kind, mode and versions of one GPU."""
    label, report = device.label, device.report
    signed = report_signature_is_valid(device.chain[0], report)
    architecture = device.evidence.device.architecture
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
        *_check_firmware(device),
        OneOf(f"{label} architecture", tuple(policy.architectures), _MANIFEST).check(architecture),
        _check_chip(device),
        *_check_mode(device, policy),
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


def _check_chip(device: Device) -> Check:
    """The chip is of the stated architecture, and certificates and report agree on it."""
    expected = [chip for chip, kind in CHIPS.items() if kind == device.evidence.device.architecture]
    stated = device.report.opaque.get(Field.CHIP_INFO, device.chip.encode()).rstrip(b"\0")
    leaf = _common_name(device.chain[0]).split(" ")[0]
    agreed = stated == device.chip.encode() and leaf == device.chip
    seen = device.chip
    if not agreed:
        seen += f", but the leaf says {leaf[:16]!a} and the report {stated[:16]!a}"
    passed = agreed and device.chip in expected
    return Check(f"{device.label} chip", " or ".join(expected), seen, passed, "certificates")


def _check_firmware(device: Device) -> list[Check]:
    """The leaf's key was made for the firmware that the report names, in an operational state.

    All zeros is no identity and matches nothing, though Blackwell's leaf lists such an entry too.
    """
    name = f"{device.label} firmware id"
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
            f"{device.label} firmware state",
            "neither debug nor recovery nor insecure",
            states or "none of these",
            not states,
            "GPU certificate",
        ),
    ]


def _check_mode(device: Device, policy: GpuPolicy) -> list[Check]:
    """How the GPU protects its traffic. Protected PCIe trusts switches that nobody verified."""
    name = f"{device.label} confidential mode"
    mode = _mode(device.report)
    claim: Claim = OneOf(name, policy.modes, _MANIFEST)
    if mode == UNSTATED and OptOut.UNSTATED_MODE in policy.opt_outs:
        claim = InsecureAny(name, OptOut.UNSTATED_MODE, _MANIFEST)
    switches = Equals(f"{device.label} NVSwitch", "none relied upon", _REPORT)
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
