"""What a TDX machine's quote or event log differs in: the component is named."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Sequence
from dataclasses import replace

import pytest

from measure import eventlog, explain
from measure.errors import FormatError, InputError
from measure.explain import Clues, Explanation, evidence, tdx
from measure.explain.evidence import TdxEvidence
from measure.pcr import Component
from measure.tdx import mrtd, tdvf
from measure.tdx.rtmr import Prediction, RtmrEvent
from measure.tdx.shape import Boot, PageOrder, TdxShape
from tests.support.measurement import builders, platforms, tdx_builders

LINE = "console=ttyS0 quiet"
SHAPE = TdxShape("test-1", 1 << 30, (2026, 8), PageOrder.SINGLE, 1 << 28, 0xE7, Boot.DIRECT)
MRTD = {PageOrder.SINGLE: b"S" * 48, PageOrder.TWO: b"T" * 48}
NO_CLUES = Clues()
APPLICATION, ACTION, TAG, IPL = 0x80000003, 0x80000007, 6, 0x0D


def sha384(data: bytes) -> bytes:
    return hashlib.sha384(data).digest()


def load_options(line: str) -> bytes:
    return sha384((line + "\0").encode("utf-16-le"))


EVENTS = (
    RtmrEvent(0, Component.MEMORY, "TD HOB", sha384(b"hob")),
    RtmrEvent(0, Component.ACPI_TABLES, "ACPI tables", sha384(b"acpi")),
    RtmrEvent(1, Component.KERNEL, "PE image of the kernel", sha384(b"kernel")),
    RtmrEvent(1, Component.BOOT_PATH, "separator", sha384(bytes(4))),
    RtmrEvent(2, Component.COMMAND_LINE, "command line given to the kernel", load_options(LINE)),
    RtmrEvent(2, Component.INITRD, "initrd given to the kernel", sha384(b"initrd")),
)
PREDICTION = Prediction(SHAPE, MRTD, EVENTS)


def seen_in(prediction: Prediction, log: eventlog.EventLog | None = None) -> TdxEvidence:
    mrtd = prediction.mrtd[prediction.shape.page_order]
    attributes, xfam = prediction.shape.attributes, prediction.shape.xfam
    return TdxEvidence(log, mrtd, prediction.rtmrs(), attributes, xfam)


def changed(at: int, digest: bytes) -> Prediction:
    """The prediction with another digest in event number `at`."""
    event = replace(EVENTS[at], digest=digest)
    return replace(PREDICTION, events=(*EVENTS[:at], event, *EVENTS[at + 1 :]))


def ccel_bytes(events: Sequence[RtmrEvent]) -> bytes:
    """A confidential-computing log; the separator is logged as one."""
    data = builders.log_header([(0x0C, 48)])
    for event in events:
        separator = event.description == "separator"
        text = bytes(4) if separator else event.description.encode()
        kind = 4 if separator else APPLICATION if event.rtmr == 1 else IPL
        data += struct.pack("<IIIH", event.rtmr + 1, kind, 1, 0x0C) + event.digest
        data += struct.pack("<I", len(text)) + text
    return data


def ccel(events: Sequence[RtmrEvent]) -> eventlog.EventLog:
    return eventlog.parse(ccel_bytes(events))


def explained(seen: TdxEvidence, clues: Clues = NO_CLUES) -> Explanation:
    return tdx.explain(seen, [PREDICTION], LINE, clues)


def test_the_predicted_machine_is_no_difference() -> None:
    for log in (None, ccel(EVENTS)):
        found = explained(seen_in(PREDICTION, log))
        assert (found.compared_with, found.differences) == ("test-1", ())


@pytest.mark.parametrize("at", [0, 1, 2, 4, 5])
def test_each_component_is_named_by_the_log(at: int) -> None:
    other = changed(at, sha384(b"other"))
    (found,) = explained(seen_in(other, ccel(other.events))).differences
    event = EVENTS[at]
    assert (found.register, found.component) == (f"RTMR {event.rtmr}", event.component)
    assert found.expected == event.digest.hex()
    assert found.seen.startswith(sha384(b"other").hex())


def test_mrtd_of_the_other_page_order() -> None:
    seen = replace(seen_in(PREDICTION), mrtd=MRTD[PageOrder.TWO])
    (found,) = explained(seen).differences
    assert (found.register, found.component) == ("MRTD", Component.VMM)
    assert (found.expected, found.seen) == (PageOrder.SINGLE.value, PageOrder.TWO.value)


def test_mrtd_of_other_firmware() -> None:
    (found,) = explained(replace(seen_in(PREDICTION), mrtd=bytes(48))).differences
    assert (found.register, found.component) == ("MRTD", Component.FIRMWARE)
    assert (found.expected, found.seen) == ((b"S" * 48).hex(), "00" * 48)


def test_mrtd_of_a_firmware_to_try() -> None:
    first, second = tdx_builders.firmware(), tdx_builders.firmware(store=b"V" * 0x1000)
    longer = tdx_builders.firmware(tdx_builders.changed(3, 3, 0x3000))
    values = [mrtd.measure(tdvf.parse(f, "f"), PageOrder.SINGLE) for f in (first, second, longer)]
    assert values[0] == values[1] != values[2]  # the variable store is not in MRTD
    seen = replace(seen_in(PREDICTION), mrtd=values[2])
    files = [("no firmware", b"x"), ("first", first), ("longer", longer)]
    (found,) = explained(seen, Clues(files=files)).differences
    assert (found.register, found.component) == ("MRTD", Component.FIRMWARE)
    assert (found.expected, found.seen) == ("another", "longer")


@pytest.mark.parametrize(
    ("rtmr", "kind", "data", "component"),
    [
        (0, 0x8000000B, b"\x03hob", Component.MEMORY),
        (0, 0x80000002, bytes(32), Component.BOOT_VARIABLES),
        (0, 0x0D, b".initrd\0", Component.ADDED),
        (1, APPLICATION, b"program", Component.KERNEL),
        (1, 0x80000006, b"table", Component.PARTITION_TABLE),
        (2, IPL, ".cmdline\0".encode("utf-16-le"), Component.COMMAND_LINE),
        (2, IPL, ".splash\0".encode("utf-16-le"), Component.UKI_OTHER),
        (2, APPLICATION, b"program", Component.ADDED),
        (2, TAG, b"Linux initrd\0", Component.INITRD),
        (3, ACTION, b"of the running system", Component.ADDED),
    ],
)
def test_an_event_too_many_is_called_what_it_looks_like(
    rtmr: int, kind: int, data: bytes, component: Component
) -> None:
    extra = struct.pack("<IIIH", rtmr + 1, kind, 1, 0x0C) + b"d" * 48
    log = eventlog.parse(ccel_bytes(EVENTS) + extra + struct.pack("<I", len(data)) + data)
    (found,) = explained(TdxEvidence(log, None, None, None, None)).differences
    assert (found.register, found.component) == (f"RTMR {rtmr}", component)
    assert found.expected == "nothing" and found.seen.startswith((b"d" * 48).hex())


def test_attributes_and_xfam() -> None:
    (found,) = explained(replace(seen_in(PREDICTION), attributes=1)).differences
    assert (found.register, found.expected, found.seen) == ("attributes", "0x10000000", "0x1")
    (found,) = explained(replace(seen_in(PREDICTION), xfam=3)).differences
    assert (found.register, found.expected, found.seen) == ("XFAM", "0xe7", "0x3")


def test_a_log_that_does_not_replay_to_the_quote() -> None:
    quoted = seen_in(changed(5, sha384(b"other")), ccel(EVENTS))
    (found,) = explained(quoted).differences
    assert (found.register, found.component) == ("RTMR 2", Component.EVENT_LOG)


def test_without_a_log_only_the_register_is_known() -> None:
    (found,) = explained(seen_in(changed(1, sha384(b"other")))).differences
    assert (found.register, found.component) == ("RTMR 0", Component.UNEXPLAINED)


@pytest.mark.parametrize(("at", "component"), [(2, Component.KERNEL), (5, Component.INITRD)])
def test_without_a_log_files_are_tried(at: int, component: Component) -> None:
    data = builders.pe([(".text", b"other")])
    digest = sha384(data)
    seen = seen_in(changed(at, digest))
    wrong = ("wrong", b"something else")
    (found,) = explained(seen, Clues(files=[wrong, ("right", data)])).differences
    assert (found.component, found.seen) == (component, f"{digest.hex()} (right)")
    assert explained(seen, Clues(files=[wrong])).differences[0].component is Component.UNEXPLAINED


def test_a_command_line_names_the_layer() -> None:
    line = f"{LINE} confide.layer=base,{'ab' * 32},12"
    other = changed(4, load_options(line))
    for log in (None, ccel(other.events)):
        found = explained(seen_in(other, log), Clues(command_line=line)).differences
        assert [d.component for d in found] == [Component.COMMAND_LINE, Component.ROOT_HASH]
    with pytest.raises(InputError, match="not the command line"):
        explained(seen_in(other, ccel(other.events)), Clues(command_line="quiet"))
    # Without a log, a command line that explains nothing is not believed.
    found = explained(seen_in(other), Clues(command_line="quiet")).differences
    assert [d.component for d in found] == [Component.UNEXPLAINED]


def test_the_nearest_shape_is_compared_with() -> None:
    far = replace(changed(0, bytes(48)), shape=replace(SHAPE, name="far"))
    seen = seen_in(changed(5, sha384(b"other")))
    found = tdx.explain(seen, [far, PREDICTION], LINE, NO_CLUES)
    assert found.compared_with == "test-1" and len(found.differences) == 1


def test_diff() -> None:
    assert tdx.diff(PREDICTION, PREDICTION) == []
    other = replace(changed(5, bytes(48)), mrtd={**MRTD, PageOrder.SINGLE: bytes(48)})
    found = tdx.diff(PREDICTION, other)
    assert [(d.register, d.component) for d in found] == [
        ("MRTD", Component.FIRMWARE), ("RTMR 2", Component.INITRD),
    ]  # fmt: skip


MRCONFIGID = bytes(range(32)) + bytes(16)


def td_info(prediction: Prediction) -> bytes:
    """The part that a TDREPORT and a quote share: attributes to RTMR 3."""
    shape = prediction.shape
    mrtd = prediction.mrtd[shape.page_order] + MRCONFIGID + b"\xee" * 96
    rtmrs = b"".join(prediction.rtmrs()[number] for number in range(4))
    return struct.pack("<QQ", shape.attributes, shape.xfam) + mrtd + rtmrs


QUOTE_4 = struct.pack("<HHI40x", 4, 2, 0x81) + b"\x11" * 120
QUOTE_5 = struct.pack("<HHI40xHI", 5, 2, 0x81, 3, 648) + b"\x11" * 120


@pytest.mark.parametrize("start", [QUOTE_4, QUOTE_5], ids=["quote 4", "quote 5"])
def test_quote(start: bytes) -> None:
    data = start + td_info(PREDICTION) + bytes(64)
    assert evidence.parse(data, "q") == replace(seen_in(PREDICTION), mrconfigid=MRCONFIGID)
    for size in (len(start), len(data) - 65):
        with pytest.raises(FormatError, match="truncated"):
            evidence.parse(data[:size], "q")


def test_tdreport() -> None:
    data = b"\x81" + bytes(511) + td_info(PREDICTION)
    seen = evidence.parse(data.ljust(1024, b"\0"), "r")
    assert seen == replace(seen_in(PREDICTION), mrconfigid=MRCONFIGID)


def test_a_quote_of_an_enclave_is_refused() -> None:
    for version in (3, 4, 5):
        with pytest.raises(FormatError):
            evidence.parse(struct.pack("<HHI", version, 2, 0) + bytes(1000), "q")
    sgx = struct.pack("<HHI40xHI", 5, 2, 0x81, 1, 384) + bytes(1000)
    with pytest.raises(FormatError, match="not of a TDX machine"):
        evidence.parse(sgx, "q")


def test_a_log_goes_with_a_quote_once() -> None:
    log = builders.log_header([(0x0C, 48)])
    event = struct.pack("<IIIH", 1, IPL, 1, 0x0C) + bytes(48) + struct.pack("<I", 0)
    quote = evidence.parse(QUOTE_4 + td_info(PREDICTION), "q")
    both = evidence.with_log(quote, log + event, "ccel")
    assert isinstance(both, TdxEvidence) and both.log is not None and both.mrtd is not None
    with pytest.raises(InputError, match="takes no event log"):
        evidence.with_log(both, log + event, "ccel")
    with pytest.raises(InputError, match="takes no event log"):
        evidence.with_log(evidence.SnpEvidence(bytes(48), None), log + event, "ccel")


def test_a_ccel_is_tdx_evidence() -> None:
    data = builders.log_header([(0x0C, 48)])
    data += struct.pack("<IIIH", 3, IPL, 1, 0x0C) + sha384(b"x") + struct.pack("<I", 0)
    seen = evidence.parse(data, "ccel")
    assert isinstance(seen, TdxEvidence) and seen.rtmrs is None
    assert explain.render(explained(seen).differences).startswith("RTMR 0: ")


def test_a_log_alone_leaves_out_what_only_a_quote_has() -> None:
    """Else MRTD, the firmware itself, would look compared."""
    found = explain.explain(
        TdxEvidence(ccel(EVENTS), None, None, None, None),
        platforms.measurements(),
        "m",
        NO_CLUES,
    )
    assert any("not compared: MRTD, attributes and XFAM" in note for note in found.notes)
    assert any("host's word" in note for note in found.notes)
