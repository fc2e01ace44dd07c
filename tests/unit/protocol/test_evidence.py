"""Evidence and vTPM reports: exactly their map, nothing more, nothing less."""

from __future__ import annotations

from typing import Any

import pytest

from confide.encoding.canonical import cbor_encode
from confide.errors import FormatError
from confide.protocol.evidence import Evidence, VtpmReport
from confide.protocol.gpu import REFUSALS

VALUE: dict[str, Any] = {
    "platform": "vtpm",
    "report": b"report",
    "endorsements": [b"leaf", b"issuer"],
    "event_log": b"log",
    "gpus": [],
    "gpu_refusal": "",
}
REPORT: dict[str, Any] = {"quote": b"q", "signature": b"s", "pcrs": {"0": bytes(32)}}


def test_round_trip() -> None:
    evidence = Evidence.parse(cbor_encode(VALUE))
    assert evidence == Evidence("vtpm", b"report", (b"leaf", b"issuer"), b"log")
    assert evidence.encode() == cbor_encode(VALUE)


@pytest.mark.parametrize("refusal", REFUSALS)
def test_why_there_are_no_gpus(refusal: str) -> None:
    evidence = Evidence.parse(cbor_encode({**VALUE, "gpu_refusal": refusal}))
    assert evidence.gpu_refusal == refusal
    assert Evidence.parse(evidence.encode()) == evidence


@pytest.mark.parametrize("field", VALUE)
def test_every_field_is_required(field: str) -> None:
    with pytest.raises(FormatError, match="no field"):
        Evidence.parse(cbor_encode({k: v for k, v in VALUE.items() if k != field}))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("platform", "sgx"),
        ("platform", b"vtpm"),
        ("report", "text"),
        ("endorsements", b"leaf"),
        ("endorsements", ["text"]),
        ("endorsements", [b""] * 9),
        ("endorsements", [bytes(16385)]),
        ("event_log", None),
        ("gpus", [{}]),
        ("gpus", None),
        ("gpu_refusal", "sun-too-hot"),
        ("gpu_refusal", "none"),
        ("gpu_refusal", b""),
        ("gpu_refusal", None),
        ("more", 1),
    ],
)
def test_refuses(field: str, value: Any) -> None:
    with pytest.raises(FormatError):
        Evidence.parse(cbor_encode({**VALUE, field: value}))


def test_refuses_oversize() -> None:
    with pytest.raises(FormatError, match="too large"):
        Evidence.parse(cbor_encode({**VALUE, "event_log": bytes(1 << 20)}))


def test_vtpm_report_round_trip() -> None:
    report = VtpmReport(b"q", b"s", {0: bytes(32), 11: b"\x01" * 32, 23: bytes(32)})
    assert VtpmReport.parse(report.encode()) == report


@pytest.mark.parametrize("key", ["24", "00", "-1", "1 ", "x", "", "٣", "²"])
def test_refuses_register_numbers(key: str) -> None:
    with pytest.raises(FormatError):
        VtpmReport.parse(cbor_encode({**REPORT, "pcrs": {key: bytes(32)}}))


@pytest.mark.parametrize(
    ("field", "value"),
    [("pcrs", {"0": bytes(31)}), ("pcrs", {"0": "00"}), ("pcrs", []), ("quote", "q"),
     ("signature", bytes(5000)), ("more", 1)],
)  # fmt: skip
def test_vtpm_report_refuses(field: str, value: Any) -> None:
    with pytest.raises(FormatError):
        VtpmReport.parse(cbor_encode({**REPORT, field: value}))
