"""A TPM's registers and event log against predictions: register by register, event by event."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from measure import direct, pe
from measure.errors import MeasureError
from measure.eventlog import Event, EventLog, EventType, initial_value
from measure.eventtext import summary, utf16
from measure.explain.commandline import command_lines, require_booted
from measure.explain.difference import (
    NOTHING,
    Clues,
    Consequences,
    Difference,
    Explanation,
    Kernel,
    align,
    mark,
    nearest,
    unlogged,
)
from measure.pcr import COMPONENT_OF_SECTION, Component, PcrEvent, Prediction
from measure.uki import Section, digest

# A difference in the first of these shows again in the second ones.
CONSEQUENCES: Consequences = (
    (("PCR 12", Component.COMMAND_LINE), (("PCR 9", Component.COMMAND_LINE),)),
    (
        ("PCR 11", Component.COMMAND_LINE),
        (("PCR 9", Component.COMMAND_LINE), ("PCR 4", Component.UKI)),
    ),
    (("PCR 11", Component.INITRD), (("PCR 9", Component.INITRD), ("PCR 4", Component.UKI))),
    (("PCR 11", Component.OS_RELEASE), (("PCR 9", Component.INITRD), ("PCR 4", Component.UKI))),
    (("PCR 11", Component.KERNEL), (("PCR 4", Component.KERNEL), ("PCR 4", Component.UKI))),
    (("PCR 11", Component.UKI_OTHER), (("PCR 4", Component.UKI),)),
)
# Below 2 GiB, where QEMU before 10 puts the initrd depends on the machine's memory, in bytes.
_MEMORY_SIZES = range(256 << 20, (2 << 30) + (129 << 20), 128 << 20)


def explain(
    log: EventLog,
    quoted: Mapping[int, bytes],
    predictions: Sequence[Prediction],
    expected_line: str,
    clues: Clues,
) -> Explanation:
    """Compares a log with the prediction that is nearest to it.

    Args:
        log: the machine's event log.
        quoted: registers of the same machine, as far as they are known.
        predictions: at least one, for the same image.
        expected_line: the image's command line.
        clues: what else is known of the machine.

    Raises:
        InputError: the clues' command line is not the one that the log's digest is of.
        FormatError: the log has no SHA-256 bank.
    """
    log.replay()
    prediction, found = nearest((each, _compare(log, each)) for each in predictions)
    if clues.kernel is not None:
        found = [_recognise(difference, clues.kernel) for difference in found]
    seen_line = clues.command_line
    if seen_line is None:
        seen_line = _replaced_command_line(log)
    else:
        wanted = digest((seen_line + "\0").encode("utf-16-le", "replace"))
        require_booted(wanted, [e.digests["sha256"] for e in log.events if e.pcr == 9], "PCR 9")
    if seen_line is not None:
        register = "PCR 11" if prediction.of(11) else "PCR 9"
        found += command_lines(register, expected_line, seen_line)
    # The running system extends registers that no prediction covers, and logs that elsewhere.
    covered = {n: value for n, value in quoted.items() if n in prediction.shape.covers}
    hidden = _differs_from_quote(log, covered)
    return Explanation(prediction.shape.name, (*hidden, *found))


def diff(expected: Prediction, seen: Prediction) -> list[Difference]:
    """Compares two predictions for machines of one shape."""
    found: list[Difference] = []
    for pcr in expected.shape.predicted:
        found += align(f"PCR {pcr}", expected.of(pcr), seen.of(pcr))
    return mark(found, CONSEQUENCES)


def _differs_from_quote(log: EventLog, quoted: Mapping[int, bytes]) -> list[Difference]:
    """The quoted registers that the log does not replay to."""
    values = log.replay()
    start = {number: initial_value(number, "sha256", log.startup_locality) for number in quoted}
    return unlogged(
        {f"PCR {number}": value for number, value in sorted(quoted.items())},
        {f"PCR {number}": value for number, value in (start | values).items()},
    )


def without_log(quoted: Mapping[int, bytes], predictions: Sequence[Prediction]) -> Explanation:
    """The registers that differ, when there is no log that could say why."""
    found = {
        prediction.shape.name: [
            Difference(
                f"PCR {number}",
                Component.UNEXPLAINED,
                f"{prediction.shape.covers[number]} (no event log to say what of it)",
                value.hex(),
                quoted[number].hex() if number in quoted else NOTHING,
            )
            for number, value in prediction.pcrs().items()
            if quoted.get(number) != value
        ]
        for prediction in predictions
    }
    name = min(found, key=lambda shape: len(found[shape]))
    return Explanation(name, tuple(found[name]))


def _compare(log: EventLog, prediction: Prediction) -> list[Difference]:
    found: list[Difference] = []
    for pcr in prediction.shape.predicted:
        seen = [_from_log(e) for e in log.events if e.pcr == pcr and e.type != EventType.NO_ACTION]
        found += align(f"PCR {pcr}", prediction.of(pcr), seen)
    return mark(found, CONSEQUENCES)


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


def _replaced_command_line(log: EventLog) -> str | None:
    """The command line in PCR 12's event, if it says what was hashed.

    The stub measures there (UTF-16 with its NUL) what was passed to it instead of its own.
    """
    for event in log.events:
        if event.pcr == 12 and digest(event.data) == event.digests["sha256"]:
            return utf16(event.data)
    return None


def _recognise(difference: Difference, kernel: Kernel) -> Difference:
    """Says so if the kernel that was started is this one with its header rewritten by QEMU."""
    if (difference.register, difference.component) != ("PCR 4", Component.KERNEL):
        return difference
    for memory in _MEMORY_SIZES:
        try:
            patched = direct.rewritten_kernel(kernel.image, kernel.initrd_size, memory, "kernel")
            rewritten = pe.parse(patched, "kernel").authenticode().hex()
        except MeasureError:
            return difference
        if difference.seen.startswith(rewritten):
            size = f"{memory >> 20} MiB" if memory <= 2 << 30 else "more than 2 GiB"
            description = f"QEMU before 10 rewrote the kernel's setup header ({size} of memory)"
            return replace(difference, component=Component.VMM, description=description)
    return difference
