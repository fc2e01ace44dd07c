"""A TDX machine's registers and event log against predictions: MRTD, and each RTMR's events."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence

from measure import eventlog, pe
from measure.errors import MeasureError
from measure.eventlog import Event, EventLog, EventType
from measure.eventtext import summary
from measure.explain.commandline import command_lines, require_booted
from measure.explain.difference import (
    Clues,
    Consequences,
    Difference,
    Explanation,
    align,
    mark,
    nearest,
    unlogged,
)
from measure.explain.evidence import TdxEvidence
from measure.pcr import COMPONENT_OF_SECTION, Component
from measure.tdx import mrtd, tdvf
from measure.tdx.rtmr import BANK, COVERS, Prediction, RtmrEvent
from measure.uki import Section

# In a boot from disk, a section of the UKI shows in RTMR 2, and in the digests of whole images.
_CONSEQUENCES: Consequences = tuple(
    (("RTMR 2", component), (("RTMR 1", Component.UKI), ("RTMR 1", component)))
    for component in (*dict.fromkeys(COMPONENT_OF_SECTION.values()), Component.UKI_OTHER)
)
_GIVEN = "the command line given"
_COMPONENT_OF_TYPE = {
    EventType.EFI_HANDOFF_TABLES2: Component.MEMORY,
    EventType.EFI_PLATFORM_FIRMWARE_BLOB2: Component.VARIABLE_STORE,
    EventType.EFI_VARIABLE_DRIVER_CONFIG: Component.SECURE_BOOT,
    EventType.EFI_VARIABLE_AUTHORITY: Component.SECURE_BOOT,
    EventType.PLATFORM_CONFIG_FLAGS: Component.ACPI_TABLES,
    EventType.EFI_VARIABLE_BOOT: Component.BOOT_VARIABLES,
    EventType.EFI_BOOT_SERVICES_APPLICATION: Component.KERNEL,
    EventType.EFI_GPT_EVENT: Component.PARTITION_TABLE,
    EventType.EFI_ACTION: Component.BOOT_PATH,
    EventType.SEPARATOR: Component.BOOT_PATH,
}
_COMPONENT_OF_TEXT = {
    "LOADED_IMAGE::LoadOptions": Component.COMMAND_LINE,
    "Linux initrd": Component.INITRD,
    **{section.value: Component.UKI_OTHER for section in Section},
    **{section.value: component for section, component in COMPONENT_OF_SECTION.items()},
}


def explain(
    seen: TdxEvidence, predictions: Sequence[Prediction], expected_line: str, clues: Clues
) -> Explanation:
    """Compares with the nearest prediction.

    Args:
        seen: the evidence.
        predictions: at least one, for the same image.
        expected_line: the image's command line.
        clues: what else is known of the machine.

    Raises:
        InputError: the clues' command line is not the one that the log's digest is of.
    """
    prediction, found = nearest((each, _compare(seen, each, clues)) for each in predictions)
    if seen.log is not None and seen.rtmrs is not None:
        found = [*unlogged(_named(seen.rtmrs), _named(seen.log.rtmrs())), *found]
    if clues.command_line is not None and _is_given(clues.command_line, seen.log, found):
        found += command_lines("RTMR 2", expected_line, clues.command_line)
    return Explanation(prediction.shape.name, tuple(found))


def diff(expected: Prediction, seen: Prediction) -> list[Difference]:
    """Compares two predictions for machines of one name."""
    left, right = (p.mrtd[p.shape.page_order] for p in (expected, seen))
    found: list[Difference] = []
    if left != right:
        text = "the firmware's measured volumes, or the page order"
        found.append(Difference("MRTD", Component.FIRMWARE, text, left.hex(), right.hex()))
    found += _fields(expected, seen.shape.attributes, seen.shape.xfam)
    for rtmr in COVERS:
        found += align(f"RTMR {rtmr}", expected.of(rtmr), seen.of(rtmr))
    return mark(found, _CONSEQUENCES)


def _compare(seen: TdxEvidence, prediction: Prediction, clues: Clues) -> list[Difference]:
    found = [] if seen.mrtd is None else list(_mrtd(seen.mrtd, prediction, clues))
    found += _fields(prediction, seen.attributes, seen.xfam)
    if seen.log is not None:
        for rtmr in COVERS:
            logged = [
                _from_log(event)
                for event in seen.log.events
                if event.pcr == rtmr + 1 and event.type != EventType.NO_ACTION
            ]
            found += align(f"RTMR {rtmr}", prediction.of(rtmr), logged)
    elif seen.rtmrs is not None:
        for rtmr, value in prediction.rtmrs().items():
            if seen.rtmrs[rtmr] != value:
                found.append(_substituted(rtmr, seen.rtmrs[rtmr], prediction, clues))
    return mark(found, _CONSEQUENCES)


def _mrtd(value: bytes, prediction: Prediction, clues: Clues) -> Iterator[Difference]:
    order = prediction.shape.page_order
    if prediction.mrtd[order] == value:
        return
    for other, digest in prediction.mrtd.items():
        if digest == value:
            text = "the order in which the VMM adds and measures pages"
            yield Difference("MRTD", Component.VMM, text, order.value, other.value)
            return
    for name, data in clues.files:
        try:
            firmware = tdvf.parse(data, name)
        except MeasureError:
            continue
        if mrtd.measure(firmware, order) == value:
            yield Difference("MRTD", Component.FIRMWARE, "the firmware's file", "another", name)
            return
    text = "the firmware's measured volumes"
    yield Difference("MRTD", Component.FIRMWARE, text, prediction.mrtd[order].hex(), value.hex())


def _fields(
    prediction: Prediction, attributes: int | None, xfam: int | None
) -> Iterator[Difference]:
    shape = prediction.shape
    for name, expected, value in (
        ("attributes", shape.attributes, attributes),
        ("XFAM", shape.xfam, xfam),
    ):
        if value is not None and value != expected:
            text = "set by the VMM when it creates the machine"
            yield Difference(name, Component.VMM, text, f"{expected:#x}", f"{value:#x}")


def _substituted(rtmr: int, value: bytes, prediction: Prediction, clues: Clues) -> Difference:
    """A register without a log: tries every clue in place of every event."""
    events = prediction.of(rtmr)
    for name, digest in _candidates(clues):
        for at, event in enumerate(events):
            changed = [e.digest for e in (*events[:at], *events[at + 1 :])]
            changed.insert(at, digest)
            if eventlog.extend(changed, rtmr + 1, BANK) == value:
                return Difference(
                    f"RTMR {rtmr}",
                    event.component,
                    event.description,
                    event.digest.hex(),
                    f"{digest.hex()} ({name})",
                )
    return Difference(
        f"RTMR {rtmr}",
        Component.UNEXPLAINED,
        f"{COVERS[rtmr]} (no event log to say what of it)",
        prediction.rtmrs()[rtmr].hex(),
        value.hex(),
    )


def _candidates(clues: Clues) -> Iterator[tuple[str, bytes]]:
    """Digests that an event may have: of a file, of it as an image, of a command line."""
    if clues.command_line is not None:
        yield _GIVEN, _load_options(clues.command_line)
    for name, data in clues.files:
        yield name, hashlib.sha384(data).digest()
        try:
            yield name, pe.parse(data, name).authenticode(BANK)
        except MeasureError:
            continue


def _load_options(command_line: str) -> bytes:
    return hashlib.sha384((command_line + "\0").encode("utf-16-le", "replace")).digest()


def _is_given(command_line: str, log: EventLog | None, found: Sequence[Difference]) -> bool:
    """Whether the kernel was given this command line, by the log or by what explains RTMR 2.

    Raises:
        InputError: the log says that it was another one.
    """
    if log is None:
        return any(_GIVEN in difference.seen for difference in found)
    wanted = _load_options(command_line)
    logged = [event.digests[BANK] for event in log.events if event.pcr == 3]
    require_booted(wanted, logged, "RTMR 2")
    return True


def _named(rtmrs: Mapping[int, bytes]) -> dict[str, bytes]:
    return {f"RTMR {number}": value for number, value in rtmrs.items()}


def _from_log(event: Event) -> RtmrEvent:
    """A logged event in the form of a predicted one; the component is a guess for display."""
    text = summary(event)
    component = Component.ADDED
    if event.pcr == 3:
        component = _COMPONENT_OF_TEXT.get(text, component)
    elif event.pcr < 3 and event.type in _COMPONENT_OF_TYPE:
        component = _COMPONENT_OF_TYPE[EventType(event.type)]
    name = f"{event.type_name} {text!r}" if text else event.type_name
    return RtmrEvent(event.pcr - 1, component, name, event.digests[BANK])
