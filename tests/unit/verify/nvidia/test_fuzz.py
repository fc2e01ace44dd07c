"""Whatever bytes come: the documented error or a value, soon, and never a passing verdict."""

from __future__ import annotations

import contextlib
import time

import pytest
from cryptography import x509
from hypothesis import given, settings
from hypothesis import strategies as st

from confide.errors import FormatError
from confide.protocol.gpu import GpuEvidence
from confide.vendors.nvidia.fwid import COMPOSITE_OID, TCB_INFO_OID, firmware_identity
from confide.vendors.nvidia.rim import Rim, load_rim_xml, signing_certificates
from confide.vendors.nvidia.spdm import Field, Report, request
from confide.verify.nvidia.collateral import GpuCollateral, OcspAnswer
from confide.verify.nvidia.rim import verify_rim
from tests.support.judged import judge_gpus
from tests.support.simulated_gpu import NONCE, NOW, SimulatedGpu, SimulatedNvidia, issue, policy

# No deadline for one example: on a busy machine it would measure the machine.
BOUNDED = settings(max_examples=200, deadline=None)
SOON = 5.0  # seconds of processor time, some hundred times what is needed
NVIDIA = SimulatedNvidia()
GPU = NVIDIA.gpu()
RIMS = NVIDIA.rims(GPU)
RIM = next(iter(RIMS.values()))
GENUINE = verify_rim("RIM", RIM, now=NOW, root=NVIDIA.roots[1])[1]

blocks = st.lists(st.binary(max_size=60), max_size=8)
opaque_fields = st.dictionaries(st.integers(0, 40), st.binary(max_size=40), max_size=8)


def read(data: bytes) -> None:
    """All that a report is asked for."""
    with contextlib.suppress(FormatError):
        report = Report.parse(data)
        assert len(report.signed) + len(report.signature) == len(data)
        with contextlib.suppress(FormatError):
            _ = report.vbios_version
        for field in Field:
            for ask in (report.text, report.flag):
                with contextlib.suppress(FormatError):
                    ask(field)


@BOUNDED
@given(st.binary(max_size=400))
def test_reports_of_any_bytes(data: bytes) -> None:
    read(data)
    read(request(NONCE) + data)
    read(request(NONCE) + b"\x11\x60\0\0" + data)


@BOUNDED
@given(blocks, opaque_fields)
def test_reports_of_any_content(measurements: list[bytes], opaque: dict[int, bytes]) -> None:
    gpu = SimulatedGpu("GPU", GPU.chain, "hopper", tuple(measurements), opaque)
    report = Report.parse(gpu.report())
    assert report.measurements == tuple(measurements)
    assert report.opaque == opaque
    verdict = judge_gpus(
        [gpu.evidence()], nonce=NONCE, policy=policy(), collateral=GpuCollateral(), now=NOW
    )
    assert not verdict.passed


@BOUNDED
@given(st.binary(max_size=300))
def test_evidence_of_any_bytes(data: bytes) -> None:
    with contextlib.suppress(FormatError):
        GpuEvidence.parse(data)
    verdict = judge_gpus([data], nonce=NONCE, policy=policy(), collateral=GpuCollateral(), now=NOW)
    assert not verdict.passed


@BOUNDED
@given(st.binary(max_size=200), st.sampled_from([COMPOSITE_OID, TCB_INFO_OID]))
def test_firmware_ids_of_any_bytes(data: bytes, oid: x509.ObjectIdentifier) -> None:
    leaf = issue("leaf", None, ca=False, extensions=[x509.UnrecognizedExtension(oid, data)])
    with contextlib.suppress(FormatError):
        firmware_identity(leaf.certificate)


@BOUNDED
@given(st.text(max_size=300) | st.text("<>/!?&;[]\"'= aA-", max_size=300))
def test_xml_of_any_text(text: str) -> None:
    for data in (text.encode(errors="surrogatepass"), RIM[:200] + text.encode(errors="replace")):
        with contextlib.suppress(FormatError):
            root = load_rim_xml(data)
            with contextlib.suppress(FormatError):
                Rim.read(root)
            signing_certificates(root)


@BOUNDED
@given(st.integers(0, len(RIM)), st.integers(0, len(RIM)), st.binary(max_size=30))
def test_rims_with_anything_inside(start: int, end: int, piece: bytes) -> None:
    """Cut open anywhere, something else put in: an error, or the values that were signed."""
    start, end = min(start, end), max(start, end)
    changed = RIM[:start] + piece + RIM[end:]
    checks, signed = verify_rim("RIM", changed, now=NOW, root=NVIDIA.roots[1])
    if signed is not None and all(check.passed for check in checks):
        assert signed == GENUINE


@BOUNDED
@given(st.lists(st.binary(max_size=200), max_size=3), st.binary(min_size=32, max_size=32))
def test_collateral_of_any_bytes(pieces: list[bytes], nonce: bytes) -> None:
    rims = dict.fromkeys(RIMS, b"".join(pieces))
    collateral = GpuCollateral(rims, tuple(OcspAnswer(piece, nonce) for piece in pieces))
    verdict = judge_gpus(
        [GPU.evidence()],
        nonce=NONCE,
        policy=policy(),
        collateral=collateral,
        now=NOW,
        roots=NVIDIA.roots,
    )
    assert not verdict.passed


@pytest.mark.parametrize(
    "xml",
    [
        b"<a " + b" ".join(b'x%d=""' % n for n in range(20_000)) + b"/>",
        b"<a>" + b"<b/>" * 60_000 + b"</a>",
        b'<a xmlns="' + b"x" * 250_000 + b'"/>',
        b"<a>" + b"&amp;" * 50_000 + b"</a>",
        RIM.replace(b"<ds:X509Certificate>", b"<ds:X509Certificate>" + b"A" * 60_000),
    ],
)
def test_large_xml_is_refused_soon(xml: bytes) -> None:
    start = time.process_time()
    checks, signed = verify_rim("RIM", xml, now=NOW, root=NVIDIA.roots[1])
    assert signed is None
    assert not checks[0].passed
    assert time.process_time() - start < SOON
