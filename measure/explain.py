"""Says which component makes a boot, or another image, differ from a prediction.

The event log is the host's word: it means something only if it replays to the registers of a
quote. Digests are compared; what the log says in words is shown, never believed.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass, replace
from difflib import SequenceMatcher
from typing import Any

from measure import gpt, report
from measure.errors import InputError, MeasureError
from measure.eventlog import Event, EventLog, EventType
from measure.image import Layer, parse_layers
from measure.pcr import COMPONENT_OF_SECTION, Component, PcrEvent
from measure.uki import Section, digest

NOTHING = "nothing"
_SUMMARY_LENGTH = 100
# A difference in the first of these shows again in the second ones.
_CONSEQUENCES = (
    ((12, Component.COMMAND_LINE), ((9, Component.COMMAND_LINE),)),
    ((11, Component.COMMAND_LINE), ((9, Component.COMMAND_LINE), (4, Component.UKI))),
    ((11, Component.INITRD), ((9, Component.INITRD), (4, Component.UKI))),
    ((11, Component.OS_RELEASE), ((9, Component.INITRD), (4, Component.UKI))),
    ((11, Component.KERNEL), ((4, Component.KERNEL), (4, Component.UKI))),
    ((11, Component.UKI_OTHER), ((4, Component.UKI),)),
)


@dataclass(frozen=True)
class Difference:
    """One thing that is not as expected.

    Attributes:
        pcr: the register in which it shows.
        component: what differs.
        description: which event of that register, or which part of the component.
        expected, seen: the two values: a digest in hex with what it was logged as, or text.
        follows: it differs only because another listed difference makes it differ.
    """

    pcr: int
    component: Component
    description: str
    expected: str
    seen: str
    follows: bool = False


def explain(
    log: EventLog, measured: dict[str, Any], file: str, command_line: str | None = None
) -> list[Difference]:
    """Compares a log with what a parsed measurements.json (named `file`) predicts first.

    Args:
        command_line: the command line of the machine, if it is known (/proc/cmdline). The log has
            only its digest, so only with this text can a changed root hash be named.

    Raises:
        InputError: `command_line` is not the one that the log's digest is of.
        FormatError: the log has no SHA-256 bank, or the measurements are malformed.
    """
    (prediction, *_) = report.predictions(measured, file)
    log.replay()
    found: list[Difference] = []
    for pcr in prediction.shape.predicted:
        seen = [_from_log(e) for e in log.events if e.pcr == pcr and e.type != EventType.NO_ACTION]
        found += _align(prediction.of(pcr), seen)
    if command_line is None:
        command_line = _replaced_command_line(log)
    else:
        _require_booted(log, command_line)
    if command_line is not None:
        found += _command_lines(measured["command_line"], command_line)
    return _mark(found)


def diff(a: dict[str, Any], b: dict[str, Any], file_a: str, file_b: str) -> list[Difference]:
    """Compares two parsed measurements.json, `a` expected and `b` seen.

    Raises:
        FormatError: malformed measurements.
    """
    (expected, *_) = report.predictions(a, file_a)
    (seen, *_) = report.predictions(b, file_b)
    found: list[Difference] = []
    for pcr in expected.shape.predicted:
        found += _align(expected.of(pcr), seen.of(pcr))
    return _mark(found + _command_lines(a["command_line"], b["command_line"]))


def render(found: Sequence[Difference]) -> str:
    """The differences for people: causes first, each with expected and seen below each other."""
    if not found:
        return "no difference: every predicted register is as expected"
    lines = []
    for difference in sorted(found, key=lambda d: d.follows):
        note = " (follows from the above)" if difference.follows else ""
        lines += [
            f"PCR {difference.pcr}: {difference.component.value}: {difference.description}{note}",
            f"  expected  {difference.expected}",
            f"  seen      {difference.seen}",
        ]
    return "\n".join(lines)


def summary(event: Event) -> str:
    """What an event's data says, in printable ASCII, at most 100 characters."""
    data = event.data
    if event.type in (EventType.IPL, EventType.S_CRTM_VERSION):
        text = _utf16(data)
    elif event.type == EventType.EVENT_TAG:
        text = data[8:].decode("ascii", "replace")  # after tag and size, 4 bytes each
    elif event.type in (EventType.ACTION, EventType.EFI_ACTION, EventType.PLATFORM_CONFIG_FLAGS):
        text = data.decode("ascii", "replace")
    elif event.type_name.startswith("EFI_VARIABLE_") and len(data) >= 32:
        characters, size = struct.unpack_from("<QQ", data, 16)
        text = f"{_utf16(data[32 : 32 + 2 * min(characters, 64)])} ({size} bytes)"
    elif event.type == EventType.EFI_GPT_EVENT:
        entries = range(gpt.HEADER_SIZE + 8, len(data) - gpt.ENTRY_SIZE + 1, gpt.ENTRY_SIZE)
        text = ", ".join(_utf16(data[at + 56 : at + gpt.ENTRY_SIZE]) for at in entries)
    else:
        text = data[:24].hex()
    text = text.rstrip("\0")[:_SUMMARY_LENGTH]
    return "".join(c if " " <= c <= "~" else "?" for c in text)


def _utf16(data: bytes) -> str:
    return data.decode("utf-16-le", "replace").rstrip("\0")


def _from_log(event: Event) -> PcrEvent:
    """A logged event in the form of a predicted one; the component is a guess for display."""
    text = summary(event)
    component = Component.ADDED
    if event.pcr == 0:
        component = Component.FIRMWARE
    elif event.pcr == 4 and event.type == EventType.EFI_BOOT_SERVICES_APPLICATION:
        component = Component.UKI
    elif event.pcr == 5 and event.type == EventType.EFI_GPT_EVENT:
        component = Component.PARTITION_TABLE
    elif event.pcr in (4, 5):
        component = Component.BOOT_PATH
    elif event.pcr == 7:
        component = Component.SECURE_BOOT
    elif event.pcr == 12 and event.type == EventType.IPL:
        component = Component.COMMAND_LINE
    elif event.pcr == 11 and text in {section.value for section in Section}:
        component = COMPONENT_OF_SECTION.get(Section(text), Component.UKI_OTHER)
    name = f"{event.type_name} {text!r}" if text else event.type_name
    return PcrEvent(event.pcr, component, name, event.digests["sha256"])


def _align(expected: list[PcrEvent], seen: list[PcrEvent]) -> list[Difference]:
    """The differences between two event lists of one register, after matching equal digests."""
    found: list[Difference] = []
    matcher = SequenceMatcher(
        None, [e.digest for e in seen], [e.digest for e in expected], autojunk=False
    )
    for tag, seen_from, seen_to, expected_from, expected_to in matcher.get_opcodes():
        if tag == "equal":
            continue
        wanted, got = expected[expected_from:expected_to], seen[seen_from:seen_to]
        for index in range(max(len(wanted), len(got))):
            left = wanted[index] if index < len(wanted) else None
            right = got[index] if index < len(got) else None
            event = left or right
            assert event is not None
            found.append(
                Difference(
                    event.pcr,
                    event.component,
                    left.description if left else "an event that should not be there",
                    left.digest.hex() if left else NOTHING,
                    f"{right.digest.hex()} ({right.description})" if right else NOTHING,
                )
            )
    return found


def _replaced_command_line(log: EventLog) -> str | None:
    """The command line in PCR 12's event, if it says what was hashed.

    The stub measures there (UTF-16 with its NUL) what was passed to it instead of its own.
    """
    for event in log.events:
        if event.pcr == 12 and digest(event.data) == event.digests["sha256"]:
            return _utf16(event.data)
    return None


def _require_booted(log: EventLog, command_line: str) -> None:
    wanted = digest((command_line + "\0").encode("utf-16-le"))
    seen = [e.digests["sha256"] for e in log.events if e.pcr == 9]
    if wanted not in seen:
        raise InputError(
            "this is not the command line that the event log was made with",
            expected=f"its digest {wanted.hex()} in PCR 9",
            seen=", ".join(value.hex() for value in seen[:4]) or NOTHING,
        )


def _command_lines(expected: str, seen: str) -> list[Difference]:
    """Layers whose root hash differs, then the other words."""
    found: list[Difference] = []
    layers = _layers(expected), _layers(seen)
    for name in dict.fromkeys([*layers[0], *layers[1]]):
        left, right = (str(side.get(name, NOTHING)) for side in layers)
        if left != right:
            found.append(Difference(11, Component.ROOT_HASH, f"layer {name}", left, right))
    left, right = _other_words(expected), _other_words(seen)
    if left != right:
        description = "words that are not layers"
        found.append(Difference(11, Component.COMMAND_LINE, description, left, right))
    return found


def _layers(command_line: str) -> dict[str, str]:
    try:
        return {la.name: _layer_text(la) for la in parse_layers(command_line, "command line")}
    except MeasureError as error:
        return {"(malformed)": str(error)}


def _layer_text(layer: Layer) -> str:
    return f"{layer.root_hash} ({layer.data_blocks} blocks)"


def _other_words(command_line: str) -> str:
    return (
        " ".join(w for w in command_line.split() if not w.startswith("confide.layer=")) or NOTHING
    )


def _mark(found: list[Difference]) -> list[Difference]:
    """Marks what follows from a cause that is listed too."""
    places = {(d.pcr, d.component) for d in found}
    following = {
        effect for cause, effects in _CONSEQUENCES if cause in places for effect in effects
    }
    return [replace(d, follows=(d.pcr, d.component) in following) for d in found]
