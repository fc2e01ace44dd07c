"""Real NVIDIA evidence and reference values, published by NVIDIA and others, with known verdicts.

The device and RIM roots are the pinned ones. No revocation answers were recorded, so no whole
verdict on them passes: the tests state exactly which checks fail, and for what reason. Everything
is verified at a pinned time, because most RIM signers' certificates have ended.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from cryptography import x509

from confide.encoding.messages import from_map
from confide.errors import FormatError
from confide.protocol.gpu import GpuEvidence
from confide.protocol.policy.gpu import GpuPolicy
from confide.vendors.nvidia.rim import Rim, load_rim_xml, rim_ids
from confide.vendors.nvidia.spdm import Field, Report, request
from confide.verify.nvidia.chain import check_chain, load_chain
from confide.verify.nvidia.collateral import GpuCollateral
from confide.verify.nvidia.device import report_signature_is_valid
from confide.verify.nvidia.measurements import differing
from confide.verify.nvidia.rim import verify_rim
from confide.verify.roots import NVIDIA_DEVICE, NVIDIA_RIM
from confide.verify.verdict import Verdict
from tests.support.judged import judge_gpus
from tests.support.nvidia_vectors import (
    FILES,
    INVALID_SIGNATURE,
    PINNED,
    SDK,
    SERIALIZED,
    SERIALIZED_SWITCHES,
    SWITCHES,
    Recorded,
    pem_chain,
    recorded,
    serialized,
)

VERSIONS = {
    "hopper": ("535.86.09", "96.00.5E.00.01", "NV_GPU_VBIOS_1010_0200_882_96005E0001"),
    "blackwell": ("575.32", "97.00.88.00.0F", "NV_GPU_VBIOS_G525_0220_886_970088000F"),
    "hopper-expired": ("570.124.03", "96.00.5E.00.04", "NV_GPU_VBIOS_1010_0205_862_96005E0004"),
    "hopper-580": ("580.159.03", "96.00.74.00.20", "NV_GPU_VBIOS_1010_0205_862_9600740020"),
    "hopper-550": ("550.90.07", "96.00.9F.00.01", "NV_GPU_VBIOS_1010_0200_882_96009F0001"),
    "trustee": ("550.90.07", "96.00.9F.00.01", "NV_GPU_VBIOS_1010_0200_882_96009F0001"),
}
EVERYTHING: dict[str, object] = {
    "architectures": {
        "hopper": {"driver": {"minimum": "0.0"}, "vbios": {"minimum": "0.0"}},
        "blackwell": {"driver": {"minimum": "0.0"}, "vbios": {"minimum": "0.0"}},
    },
    "minimum_count": 1,
    "maximum_count": 8,
    "modes": ["single-gpu", "multi-gpu"],
    "insecure_ignored_measurements": [],
    "insecure_revoked_grace_hours": 0,
    "opt_outs": [],
}
SWITCH_RIM = f"{SDK}/testdata/switchVBIOSRim_NV_SWITCH_BIOS_5612_0002_890_9610550001.xml"
SWITCH_RIM_SIGNED = 1_790_000_000  # seconds: its signer was certified later than the others
# Each file, and its signature's verdict. Among them the one that the vectors' index calls altered
# and whose signature is right all the same: it has other values at index 9, and NVIDIA signed them.
RIMS = {
    f"{SDK}/testdata/NV_GPU_DRIVER_GH100_550.144.03.xml": True,
    f"{SDK}/testdata/incorrect_signature_driver_rim.xml": False,
    f"{SDK}/sample_rims/NV_GPU_DRIVER_GH100_535.86.09_measurement_mismatch.xml": False,
    f"{SDK}/sample_rims/NV_GPU_DRIVER_GH100_570.124.03_expired.xml": False,
    f"{SDK}/sample_rims/NV_GPU_VBIOS_1010_0200_882_96005E0001_measurement_mismatch.xml": True,
    f"{SDK}/sample_rims/NV_SWITCH_BIOS_5612_0002_890_9610550001_invalid_signature.xml": False,
    f"{SDK}/sample_rims/NV_SWITCH_BIOS_5612_0002_890_9610550001_measurement_mismatch.xml": False,
    SWITCH_RIM: True,
}
each_gpu = pytest.mark.parametrize("name", FILES)


def verify(device: Recorded, rims: dict[str, bytes] | None = None, **changes: object) -> Verdict:
    architecture = "blackwell" if "blackwell" in device.name else "hopper"
    return judge_gpus(
        [device.evidence(architecture).encode()],
        nonce=device.nonce,
        policy=from_map(GpuPolicy, EVERYTHING | changes, "GPU policy"),
        collateral=GpuCollateral(rims or {}),
        now=PINNED,
    )


def failed(verdict: Verdict) -> set[str]:
    """Names of failed checks, without those for which nothing was recorded: revocation."""
    return {c.name for c in verdict.checks if not c.passed and not c.name.startswith("revocation")}


@each_gpu
def test_report_of_a_real_gpu(vectors: Path, name: str) -> None:
    device = recorded(vectors, FILES[name])
    report = Report.parse(device.report)
    chain = load_chain(device.certificates, "GPU's")
    assert report_signature_is_valid(chain[0], report)
    assert all(check.passed for check in check_chain("GPU", chain, NVIDIA_DEVICE, PINNED))
    driver, vbios, vbios_rim = VERSIONS[name]
    assert (report.text(Field.DRIVER_VERSION), report.vbios_version) == (driver, vbios)
    chip = "GB100" if name == "blackwell" else "GH100"
    assert rim_ids(report, chip).vbios == vbios_rim
    kind = "NV_GPU_CC_DRIVER" if chip == "GB100" else "NV_GPU_DRIVER"
    assert rim_ids(report, chip).driver == f"{kind}_{chip}_{driver}"


@each_gpu
def test_verdict_without_reference_values(vectors: Path, name: str) -> None:
    device = recorded(vectors, FILES[name])
    ids = rim_ids(Report.parse(device.report), "GB100" if name == "blackwell" else "GH100")
    expected = {ids.driver, ids.vbios, "GPU 0 driver measurements", "GPU 0 VBIOS measurements"}
    if name == "hopper":
        expected |= {"GPU 0 firmware id", "GPU 0 confidential mode"}  # its driver says neither
    if name == "blackwell":
        expected |= {"GPU 0 confidential mode"}
    verdict = verify(device)
    assert failed(verdict) == expected
    revocation = [c for c in verdict.checks if c.name.startswith("revocation")]
    assert len(revocation) == 3
    assert not any(check.passed for check in revocation)


@pytest.mark.parametrize("name", INVALID_SIGNATURE)
def test_invalid_signature(vectors: Path, name: str) -> None:
    device = recorded(vectors, INVALID_SIGNATURE[name])
    leaf = x509.load_der_x509_certificate(device.certificates[0])
    assert not report_signature_is_valid(leaf, Report.parse(device.report))
    assert not verify(device).passed


def test_invalid_signature_is_named(vectors: Path) -> None:
    assert "GPU 0 report signature" in failed(
        verify(recorded(vectors, INVALID_SIGNATURE["hopper"]))
    )


@pytest.mark.parametrize(("name", "count"), SERIALIZED.items())
def test_serialized_evidence(vectors: Path, name: str, count: int) -> None:
    devices = serialized(vectors, name)
    assert len(devices) == count
    for device in devices:
        report = Report.parse(device.report)
        chain = load_chain(device.certificates, "GPU's")
        assert report_signature_is_valid(chain[0], report)
        assert all(check.passed for check in check_chain("GPU", chain, NVIDIA_DEVICE, PINNED))


def test_eight_gpus_that_rely_on_switches_are_refused(vectors: Path) -> None:
    devices = serialized(vectors, "nvtrust/gpu_evidence.json")
    verdict = judge_gpus(
        [d.evidence(uuid=f"GPU-{n}").encode() for n, d in enumerate(devices)],
        nonce=devices[0].nonce,
        policy=from_map(GpuPolicy, EVERYTHING, "GPU policy"),
        collateral=GpuCollateral(),
        now=PINNED,
    )
    for number in range(8):
        checks = {c.name: c for c in verdict.checks if c.name.startswith(f"GPU {number} ")}
        assert checks[f"GPU {number} report signature"].passed
        assert checks[f"GPU {number} nonce"].passed
        assert checks[f"GPU {number} firmware id"].passed
        assert "not supported" in checks[f"GPU {number} NVSwitch"].seen
        assert not checks[f"GPU {number} NVSwitch"].passed
    assert next(c for c in verdict.checks if c.name == "GPUs are distinct").passed


@pytest.mark.parametrize("name", SWITCHES)
def test_switch_report_is_genuine_and_not_accepted(vectors: Path, name: str) -> None:
    device = recorded(vectors, SWITCHES[name])
    chain = load_chain(device.certificates, "switch's")
    assert report_signature_is_valid(chain[0], Report.parse(device.report))
    assert all(check.passed for check in check_chain("switch", chain, NVIDIA_DEVICE, PINNED))
    (evidence,) = (c for c in verify(device).checks if c.name == "GPU 0 evidence")
    assert not evidence.passed
    assert "NVSwitch, which is not supported" in evidence.seen


@pytest.mark.parametrize(("name", "count"), SERIALIZED_SWITCHES.items())
def test_serialized_switches(vectors: Path, name: str, count: int) -> None:
    devices = serialized(vectors, name)
    assert len(devices) == count
    for device in devices:
        chain = load_chain(device.certificates, "switch's")
        assert report_signature_is_valid(chain[0], Report.parse(device.report))
        assert not verify(device).passed


@pytest.mark.parametrize(("name", "valid"), RIMS.items())
def test_rim(vectors: Path, name: str, valid: bool) -> None:
    now = SWITCH_RIM_SIGNED if name == SWITCH_RIM else PINNED
    checks, rim = verify_rim(name, (vectors / name).read_bytes(), now=now)
    assert (rim is not None) is valid
    assert all(check.passed for check in checks) is valid


def test_all_rims_of_nvtrust(vectors: Path) -> None:
    files = sorted((vectors / "nvtrust").glob("*.swidtag"))
    assert len(files) == 26
    for file in files:
        checks, rim = verify_rim(file.name, file.read_bytes(), now=PINNED)
        assert rim is not None
        assert all(check.passed for check in checks)
        if file.name.endswith("_PROD.swidtag"):
            number = file.name.split("_")[3]
            assert rim.rim.version.replace(".", "") == number


def test_signers_certificates_have_ended_by_now(vectors: Path) -> None:
    xml = (vectors / "nvtrust/1010_0200_882_96005E0001_PROD.swidtag").read_bytes()
    checks, rim = verify_rim("RIM", xml, now=PINNED + 2 * 365 * 86400)
    assert rim is not None
    assert [check.name for check in checks if not check.passed] == ["RIM signer validity"]


def test_rim_whose_certificates_lead_nowhere(vectors: Path) -> None:
    """Its XML signature is right: a check of that alone would accept it."""
    name = f"{SDK}/testdata/incorrect_cert_chain_driver_rim.xml"
    checks, rim = verify_rim("RIM", (vectors / name).read_bytes(), now=PINNED)
    assert rim is not None
    wrong = [check.name for check in checks if not check.passed]
    assert wrong == ["RIM signer root", "RIM signer chain"]


@pytest.mark.parametrize("name", ["rim_root.crt", "incorrect_rim_root.crt"])
def test_only_nvidias_rim_root_is_pinned(vectors: Path, name: str) -> None:
    (der,) = pem_chain((vectors / SDK / "testdata" / name).read_bytes())
    chain = load_chain([der], "root")
    checks = check_chain("RIM", chain, NVIDIA_RIM, PINNED)
    assert checks[0].passed is (name == "rim_root.crt")


# Report, RIM file, indexes that differ, and how many are active (12 or 22 or 31).
COMPARISONS = [
    ("hopper", "nvtrust/1010_0200_882_96005E0001_PROD.swidtag", [], 12),
    (
        "hopper",
        f"{SDK}/sample_rims/NV_GPU_VBIOS_1010_0200_882_96005E0001_measurement_mismatch.xml",
        [9],
        12,
    ),
    ("hopper", "nvtrust/1010_0200_882_96005E0001_test_no_gpu.swidtag", [1, 2, 3, 9], 12),
    (
        "hopper",
        f"{SDK}/sample_rims/NV_GPU_DRIVER_GH100_535.86.09_measurement_mismatch.xml",
        [7, 21, 22, 25, 26, 27, 29, 30, 31, 32, 34, 37, 39, 40, 41],
        22,
    ),
    ("hopper-expired", "nvtrust/1010_0205_862_96005E0004_PROD.swidtag", [9], 12),
    ("hopper-580", "nvtrust/1010_0205_862_9600740020_PROD.swidtag", [9], 12),
]


@pytest.mark.parametrize(("name", "rim_file", "expected", "active"), COMPARISONS)
def test_comparison(
    vectors: Path, name: str, rim_file: str, expected: list[int], active: int
) -> None:
    report = Report.parse(recorded(vectors, FILES[name]).report)
    rim = Rim.read(load_rim_xml((vectors / rim_file).read_bytes()))
    assert differing(report, rim) == expected
    assert len(rim.active) == active


def test_switch_measurements(vectors: Path) -> None:
    report = Report.parse(recorded(vectors, SWITCHES["switch-testdata"]).report)
    rim = Rim.read(load_rim_xml((vectors / SWITCH_RIM).read_bytes()))
    assert differing(report, rim) == []
    assert len(rim.active) == 31


def test_a_whole_verdict_on_real_values(vectors: Path) -> None:
    """Hopper and its own VBIOS RIM: all twelve measurements match, and what fails is named."""
    rims = {
        "NV_GPU_VBIOS_1010_0200_882_96005E0001": (
            vectors / "nvtrust/1010_0200_882_96005E0001_PROD.swidtag"
        ).read_bytes()
    }
    opt_outs = ["insecure_accept_unstated_mode", "insecure_without_driver_rim"]
    verdict = verify(recorded(vectors, FILES["hopper"]), rims, opt_outs=opt_outs)
    seen = {c.name: c for c in verdict.checks}
    assert seen["GPU 0 VBIOS measurements"].seen == "12 of 12 as in the RIM"
    assert seen["GPU 0 VBIOS RIM"].passed
    assert failed(verdict) == {"GPU 0 firmware id"}
    assert "insecure_without_driver_rim" in seen["GPU 0 driver measurements"].expected


def test_a_rim_under_another_ones_id_is_refused(vectors: Path) -> None:
    """Genuine, but for another VBIOS than the report's."""
    other = (vectors / "nvtrust/1010_0200_882_96005E0003_PROD.swidtag").read_bytes()
    rims = {"NV_GPU_VBIOS_1010_0200_882_96005E0001": other}
    verdict = verify(recorded(vectors, FILES["hopper"]), rims)
    assert "GPU 0 VBIOS RIM" in failed(verdict)


def test_parsed_as_nvidia_parses_it(vectors: Path) -> None:
    folder = vectors / SDK / "testdata"
    for prefix, files in (("", FILES["hopper-550"]), ("switch_", SWITCHES["switch-testdata"])):
        report = Report.parse(recorded(vectors, files).report)
        lines = (folder / f"{prefix}spdm_parsed_output.txt").read_text().splitlines()
        values = [
            line.split("= 0x")[1] for line in lines if "].DMTFSpecMeasurementValue = " in line
        ]
        signature = next(line for line in lines if ".Signature = " in line).split("= 0x")[1]
        assert [value.hex() for value in report.measurements] == values
        assert report.signature.hex() == signature
        parsed = json.loads((folder / f"{prefix}spdm_req_parsed_output.json").read_text())
        nonce = bytes.fromhex(parsed["Nonce"][2:])
        assert request(nonce)[4:36] == nonce


def test_claims_of_trustee(vectors: Path) -> None:
    """The same report as another project's verifier reads it."""
    text = (vectors / "trustee/nvidia/hopperAttestationReport-claims.txt").read_text()
    claims = json.loads(text)
    report = Report.parse(recorded(vectors, FILES["trustee"]).report)
    assert report.text(Field.DRIVER_VERSION) == claims["config"]["driver_version"]
    assert report.vbios_version.lower() == claims["config"]["vbios_version"]
    assert report.opaque[Field.FWID].hex() == claims["config"]["fwid"]
    blocks = {str(n): value.hex() for n, value in enumerate(report.measurements, 1)}
    assert blocks == claims["measurements"]


def test_blackwells_firmware_id_is_not_the_last_48_bytes(vectors: Path) -> None:
    """Its certificate lists two, the second of all zeros: reading from the end finds only that."""
    device = recorded(vectors, FILES["blackwell"])
    (check,) = (c for c in verify(device).checks if c.name == "GPU 0 firmware id")
    assert check.passed
    assert "(and 1 of all zeros, not used)" in check.seen


# 1: complete; 2: the root only; 3: without the root; 4: a broken certificate.
@pytest.mark.parametrize("case", [1, 2, 3, 4])
def test_certificate_chain_cases(vectors: Path, case: int) -> None:
    device = recorded(vectors, FILES["trustee"])
    data = (vectors / f"trustee/nvidia/hopper_cert_chain_case{case}.txt").read_bytes()
    try:
        certificates = pem_chain(data)
    except ValueError:
        assert case == 4
        return
    changed = Recorded(device.name, device.report, certificates)
    check = verify(changed).checks[1]
    assert check.name == "GPU 0 evidence"
    assert check.passed is (case == 1)


def test_root_of_trustee_is_the_pinned_one(vectors: Path) -> None:
    for name in ("trustee/nvidia/nvidia_device_root.pem", "nvtrust/verifier_device_root.pem"):
        (der,) = pem_chain((vectors / name).read_bytes())
        assert check_chain("root", load_chain([der], "root"), NVIDIA_DEVICE, PINNED)[0].passed


def test_a_byte_after_the_report(vectors: Path) -> None:
    """The signature stands where the lengths say, whatever comes after; in evidence nothing may."""
    device = recorded(vectors, FILES["trustee"])
    report, end = Report.parse_first(device.report + b"\0")
    assert end == len(device.report)
    leaf = x509.load_der_x509_certificate(device.certificates[0])
    assert report_signature_is_valid(leaf, report)
    with pytest.raises(FormatError, match="bytes follow after its end"):
        Report.parse(device.report + b"\0")


def test_evidence_round_trip(vectors: Path) -> None:
    evidence = recorded(vectors, FILES["hopper"]).evidence()
    assert GpuEvidence.parse(evidence.encode()) == evidence
