"""Every parser, with hostile input: it returns or raises MeasureError, and it is bounded."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from measurement import builders

from measure import (
    eventlog,
    eventtext,
    explain,
    fat,
    firmware,
    gpt,
    image,
    pcr,
    pe,
    report,
    shapes,
    uki,
    verity,
)
from measure.errors import MeasureError

Parser = Callable[[bytes], object]


def parse_fat(data: bytes) -> object:
    volume = fat.Volume(data, "f", 0, len(data))
    return [volume.read(file) for file in volume.files()]


def parse_pe(data: bytes) -> object:
    parsed = pe.parse(data, "f")
    return parsed.authenticode(), [parsed.content(s) for s in parsed.sections]


def parse_uki(data: bytes) -> object:
    parsed = uki.parse(data, "f")
    return parsed.command_line, parsed.initrd, list(parsed.measured_sections())


def parse_log(data: bytes) -> object:
    log = eventlog.parse(data)
    return [log.replay(bank) for bank in log.banks], [eventtext.summary(e) for e in log.events]


def parse_disk(data: bytes) -> object:
    parsed = image.parse(data, "f")
    verity.check_layers(data, parsed, "f")
    return parsed


def parse_layers(data: bytes) -> object:
    return image.parse_layers(data.decode("latin-1"), "f")


def measurements() -> bytes:
    disk, code = builders.bootable_disk(), builders.firmware()
    parsed = image.parse(disk, "d")
    prediction = pcr.Prediction(shapes.OVMF_DISK, ())
    return report.encode(
        report.build(
            "n", {"disk": disk, "firmware": code}, parsed, report.Predictions([prediction])
        )
    )


PARSERS: dict[str, tuple[Parser, bytes]] = {
    "pe": (parse_pe, builders.pe([(".a", b"A" * 9)], certificate=b"C" * 8)),
    "uki": (parse_uki, builders.uki()),
    "gpt": (lambda data: gpt.parse(data, "f"), builders.disk([("p", gpt.ESP_TYPE, b"1")])),
    "fat12": (parse_fat, builders.fat({"D/A": b"x" * 600, "B": b"y"}, bits=12)),
    "fat16": (parse_fat, builders.fat({"D/A": b"x" * 600, "B": b"y"}, bits=16)),
    "firmware": (lambda data: firmware.measure(data, "f"), builders.firmware()),
    "eventlog": (parse_log, builders.log([(4, 0x80000001, b"x" * 40), (9, 6, b"tag")])),
    "disk": (parse_disk, builders.bootable_disk()),
    "report": (lambda data: report.parse(data, "f"), measurements()),
    "layers": (parse_layers, b"confide.layer=a," + b"ab" * 32 + b",1 quiet"),
}
LIMITS = settings(
    max_examples=60, deadline=5_000, derandomize=True, database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)  # fmt: skip


def never_crashes(parser: Parser, data: bytes) -> None:
    try:
        parser(data)
    except MeasureError as error:
        assert str(error)


@pytest.mark.parametrize("name", PARSERS)
def test_the_unchanged_input_is_accepted(name: str) -> None:
    parser, valid = PARSERS[name]
    parser(valid)


@pytest.mark.parametrize("name", PARSERS)
def test_random_bytes(name: str) -> None:
    parser, valid = PARSERS[name]

    @LIMITS
    @given(st.binary(max_size=400), st.integers(0, 64))
    def check(data: bytes, prefix: int) -> None:
        never_crashes(parser, valid[:prefix] + data)

    check()


@pytest.mark.parametrize("name", PARSERS)
def test_changed_bytes_and_cuts(name: str) -> None:
    """Changes favour the start, where the headers are."""
    parser, valid = PARSERS[name]
    last = len(valid) - 1
    place = st.integers(0, min(last, 1500)) | st.integers(0, last)
    value = st.sampled_from([b"\0", b"\xff", b"\x01", b"\x80", b"\xff" * 4, bytes(8), b"\x7f" * 8])
    changes = st.lists(st.tuples(place, value | st.binary(min_size=1, max_size=8)), max_size=6)

    @LIMITS
    @given(changes, st.none() | st.integers(0, last))
    def check(edits: list[tuple[int, bytes]], cut: int | None) -> None:
        data = bytearray(valid)
        for offset, new in edits:
            data[offset : offset + len(new)] = new
        never_crashes(parser, bytes(data[:cut]))

    check()


@LIMITS
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=5),
        lambda inner: (
            st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
        ),
        max_leaves=8,
    ),
    st.sampled_from(["image", "files", "layers", "command_line", "platforms", "format"]),
)
def test_any_value_in_a_report(value: object, field: str) -> None:
    changed = json.loads(PARSERS["report"][1])
    changed[field] = value
    never_crashes(PARSERS["report"][0], report.encode(changed))


@LIMITS
@given(st.text(max_size=200), st.text(max_size=200))
def test_command_lines(expected: str, seen: str) -> None:
    a = json.loads(PARSERS["report"][1])
    b = json.loads(PARSERS["report"][1])
    a["command_line"], b["command_line"] = expected, seen
    explain.render(explain.diff(a, b, "a", "b"))
