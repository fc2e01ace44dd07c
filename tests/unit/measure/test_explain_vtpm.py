"""What a TPM's event log, or another image, differs in: the component is named."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence

import cbor2
import pytest

from measure import direct, eventlog, eventtext, explain, pcr, shapes
from measure.errors import FormatError, InputError
from measure.explain import evidence
from measure.explain.evidence import VtpmEvidence
from measure.pcr import Component
from measure.shapes import Shape
from tests.support.measurement import builders
from tests.support.measurement.samples import (
    changed_uki,
    log_bytes,
    log_of,
    measurements,
    predict,
)

BOTH = (shapes.OVMF_DISK, shapes.OVMF_DIRECT)


def names(
    found: Iterable[explain.Difference], *, causes: bool = True
) -> set[tuple[str, Component]]:
    return {(d.register, d.component) for d in found if d.follows is not causes}


def explained(
    log: eventlog.EventLog,
    line: str | None = None,
    kernel: explain.Kernel | None = None,
    machines: Sequence[Shape] = (shapes.OVMF_DISK,),
) -> Sequence[explain.Difference]:
    clues = explain.Clues(command_line=line, kernel=kernel)
    seen = VtpmEvidence(log, None)
    return explain.explain(seen, measurements(machines=machines), "m", clues).differences


def test_no_difference() -> None:
    assert explained(log_of(predict())) == ()
    assert explain.diff(measurements(), measurements(), "a", "b") == []
    assert "no difference" in explain.render([])


@pytest.mark.parametrize(
    ("changes", "cause", "follows"),
    [
        ({"cmdline": b"quiet"}, ("PCR 11", Component.COMMAND_LINE),
         {("PCR 9", Component.COMMAND_LINE), ("PCR 4", Component.UKI)}),
        ({"initrd": b"x"}, ("PCR 11", Component.INITRD),
         {("PCR 9", Component.INITRD), ("PCR 4", Component.UKI)}),
        ({"osrel": b"x"}, ("PCR 11", Component.OS_RELEASE),
         {("PCR 9", Component.INITRD), ("PCR 4", Component.UKI)}),
        ({"linux": builders.pe([(".text", b"other code!")])}, ("PCR 11", Component.KERNEL),
         {("PCR 4", Component.KERNEL), ("PCR 4", Component.UKI)}),
        ({"uname": b"x"}, ("PCR 11", Component.UKI_OTHER), {("PCR 4", Component.UKI)}),
        ({"text": b"x" * 64}, ("PCR 4", Component.UKI), set()),
    ],
)  # fmt: skip
def test_explain_names_the_cause(
    changes: dict[str, bytes],
    cause: tuple[str, Component],
    follows: set[tuple[str, Component]],
) -> None:
    found = explained(log_of(predict(changed_uki(**changes))))
    assert names(found) == {cause}
    assert names(found, causes=False) == follows
    rendered = explain.render(found)
    first = rendered.splitlines()[0]
    assert first.startswith(f"{cause[0]}: {cause[1].value}: ")
    assert rendered.count("  expected  ") == rendered.count("  seen      ") == len(found)


def test_explain_shows_both_digests() -> None:
    seen = predict(changed_uki(initrd=b"x"))
    found = explained(log_of(seen))
    (cause,) = [d for d in found if not d.follows]
    assert cause.expected == hashlib.sha256(b"initrd bytes").hexdigest()
    assert cause.seen.startswith(hashlib.sha256(b"x").hexdigest())


def test_explain_firmware_and_partition_table() -> None:
    other = builders.firmware(strings=["2025.03-test"])
    found = explained(log_of(predict(flash=other)))
    assert ("PCR 0", Component.FIRMWARE) in names(found)
    log = log_of(predict(), builders.log_event(5, 0x80000006, b"second table"))
    found = explained(log)
    assert names(found) == {("PCR 5", Component.PARTITION_TABLE)}
    assert found[0].expected == "nothing"


def test_explain_missing_event() -> None:
    prediction = predict()
    events = tuple(e for e in prediction.events if e.component is not Component.INITRD)
    found = explained(log_of(pcr.Prediction(prediction.shape, events)))
    assert {(d.register, d.seen) for d in found} == {("PCR 9", "nothing"), ("PCR 11", "nothing")}


@pytest.mark.parametrize(
    ("register", "kind", "data", "component"),
    [
        (0, 8, b"v\0", Component.FIRMWARE),
        (2, 0x80000003, b"driver", Component.ADDED),
        (4, 0x80000003, b"program", Component.UKI),
        (4, 0x80000007, b"action", Component.BOOT_PATH),
        (5, 0x80000006, b"table", Component.PARTITION_TABLE),
        (5, 0x80000007, b"action", Component.BOOT_PATH),
        (7, 0x80000001, bytes(32), Component.SECURE_BOOT),
        (9, 6, bytes(8) + b"more", Component.ADDED),
        (11, 0x0D, ".initrd\0".encode("utf-16-le"), Component.INITRD),
        (11, 0x0D, ".splash\0".encode("utf-16-le"), Component.UKI_OTHER),
        (11, 0x0D, "enter-initrd\0".encode("utf-16-le"), Component.ADDED),
        (12, 6, bytes(8) + b"credential", Component.ADDED),
        (12, 0x0D, b"not what is hashed", Component.COMMAND_LINE),
        (13, 0x0D, ".initrd\0".encode("utf-16-le"), Component.ADDED),
    ],
)
def test_an_event_too_many_is_called_what_it_looks_like(
    register: int, kind: int, data: bytes, component: Component
) -> None:
    (found,) = explained(log_of(predict(), builders.log_event(register, kind, data, b"d" * 32)))
    assert (found.register, found.component) == (f"PCR {register}", component)
    assert found.expected == "nothing" and found.seen.startswith((b"d" * 32).hex())


def test_root_hash_is_named_when_the_command_line_is_known() -> None:
    other = "cd" * 32
    line = builders.COMMAND_LINE.decode().replace(builders.ROOT_HASH, other)
    log = log_of(predict(changed_uki(cmdline=line.encode())))
    found = explained(log, line.strip())
    assert names(found) == {("PCR 11", Component.ROOT_HASH), ("PCR 11", Component.COMMAND_LINE)}
    (root,) = [d for d in found if d.component is Component.ROOT_HASH]
    assert (root.description, root.expected, root.seen) == (
        "layer base", f"{builders.ROOT_HASH} (12 blocks)", f"{other} (12 blocks)",
    )  # fmt: skip
    with pytest.raises(InputError, match="not the command line"):
        explained(log, "quiet")


def test_a_replaced_command_line_is_read_from_register_12() -> None:
    line = "console=ttyS0 init=/evil"
    passed = builders.log_event(12, 0x0D, (line + "\0").encode("utf-16-le"))
    found = explained(log_of(predict(), passed))
    assert ("PCR 12", Component.COMMAND_LINE) in names(found)
    (root,) = [d for d in found if d.component is Component.ROOT_HASH]
    assert root.seen == "nothing"
    assert any(d.seen == line for d in found)
    # A text that is not what was hashed is not believed.
    lie = builders.log_event(12, 0x0D, (line + "\0").encode("utf-16-le"), bytes(32))
    found = explained(log_of(predict(), lie))
    assert names(found) == {("PCR 12", Component.COMMAND_LINE)}


def test_what_a_host_writes_cannot_act_on_a_terminal() -> None:
    line = "quiet \x1b[2J\x1b]0;title\x07 \u202e confide.layer=\x1b[1m"
    passed = builders.log_event(12, 0x0D, (line + "\0").encode("utf-16-le"))
    rendered = explain.render(explained(log_of(predict(), passed)))
    assert "words that are not layers" in rendered
    assert all(" " <= character <= "~" or character == "\n" for character in rendered)


def test_differences_come_in_the_order_of_the_machines() -> None:
    """The same in every run: the machines' names are never put into a set."""
    other = changed_uki(initrd=b"another")

    def diff(machines: Sequence[Shape]) -> list[explain.Difference]:
        sides = [measurements(uki, machines=machines) for uki in (None, other)]
        return explain.diff(sides[0], sides[1], "a", "b")

    one_by_one = [difference for shape in BOTH for difference in diff([shape])]
    assert len({difference.register for difference in one_by_one}) > 2
    assert diff(BOTH) == list(dict.fromkeys(one_by_one))
    assert diff(BOTH[::-1]) != diff(BOTH)


def test_diff_names_root_hash() -> None:
    line = builders.COMMAND_LINE.replace(builders.ROOT_HASH.encode(), b"cd" * 32)
    found = explain.diff(measurements(), measurements(changed_uki(cmdline=line)), "a", "b")
    assert ("command line", Component.ROOT_HASH) in names(found)


def test_summary_never_prints_control_characters() -> None:
    event = eventlog.Event(4, 0x80000007, {}, b"\x1b[2J\n" + b"\xff" * 300, 0)
    assert eventtext.summary(event).startswith("?[2J?")
    assert len(eventtext.summary(event)) == 100


def test_the_nearest_machine_is_compared_with() -> None:
    measured = measurements(machines=BOTH)
    for shape in BOTH:
        seen = VtpmEvidence(log_of(predict(shape=shape)), None)
        found = explain.explain(seen, measured, "m", explain.Clues())
        assert (found.compared_with, found.differences) == (shape.name, ())


def test_a_direct_boots_command_line_has_the_firmwares_word() -> None:
    line = builders.COMMAND_LINE.decode().strip()
    booted = direct.load_options(line, (2025, 2))
    log = log_of(predict(shape=shapes.OVMF_DIRECT))
    assert explained(log, booted, machines=BOTH) == ()
    other = "cd" * 32
    changed = line.replace(builders.ROOT_HASH, other)
    uki = changed_uki(cmdline=changed.encode())
    log = log_of(predict(uki, shape=shapes.OVMF_DIRECT))
    found = explained(log, direct.load_options(changed, (2025, 2)), machines=BOTH)
    assert ("PCR 9", Component.ROOT_HASH) in names(found)


def bzimage() -> bytes:
    """A PE image whose first bytes are also a kernel's setup header."""
    image = bytearray(builders.pe([(".a", bytes(0x400))]))
    image[0x202:0x206] = b"HdrS"
    image[0x22C:0x230] = (0x7FFFFFFF).to_bytes(4, "little")
    return bytes(image)


@pytest.mark.parametrize(
    ("memory", "text"), [(1 << 30, "1024 MiB"), (2 << 30, "2048 MiB"), (4 << 30, "more than 2 GiB")]
)
def test_a_kernel_that_an_old_qemu_rewrote_is_recognised(memory: int, text: str) -> None:
    kernel = bzimage()
    rewritten = direct.rewritten_kernel(kernel, 12, memory, "k")
    assert rewritten != kernel
    log = log_of(predict(changed_uki(linux=rewritten), shape=shapes.OVMF_DIRECT))
    measured = measurements(changed_uki(linux=kernel), machines=[shapes.OVMF_DIRECT])
    clues = explain.Clues(kernel=explain.Kernel(kernel, 12))
    (found,) = explain.explain(VtpmEvidence(log, None), measured, "m", clues).differences
    assert found.component is Component.VMM and text in found.description
    clues = explain.Clues(kernel=explain.Kernel(kernel, 5000))
    (found,) = explain.explain(VtpmEvidence(log, None), measured, "m", clues).differences
    assert found.component is Component.KERNEL


UNBOUND_NOTE = "PCR 15 is not in the quote, so nothing says what the machine was launched for"


def role_evidence(log: bytes, registers: dict[int, bytes]) -> bytes:
    """What a role with a vTPM sends, written here without the code that reads it."""
    pcrs = {str(number): value for number, value in registers.items()}
    report = cbor2.dumps({"quote": b"", "signature": b"", "pcrs": pcrs}, canonical=True)
    fields = {"platform": "vtpm", "report": report, "endorsements": [], "event_log": log}
    return cbor2.dumps({**fields, "gpus": []}, canonical=True)


def explain_role(data: bytes) -> explain.Explanation:
    seen = evidence.parse(data, "evidence")
    return explain.explain(seen, measurements(), "m", explain.Clues())


def test_evidence_of_a_role() -> None:
    prediction = predict()
    found = explain_role(role_evidence(log_bytes(prediction), prediction.pcrs()))
    assert (found.differences, found.notes) == ((), (UNBOUND_NOTE,))


def test_registers_that_the_running_system_extends_are_not_the_logs_business() -> None:
    prediction = predict()
    registers = {**prediction.pcrs(), 10: b"i" * 32, 15: b"s" * 32}
    found = explain_role(role_evidence(log_bytes(prediction), registers))
    assert found.differences == ()


def test_a_log_alone_is_not_taken_for_the_machines_state() -> None:
    seen = VtpmEvidence(log_of(predict()), None)
    found = explain.explain(seen, measurements(), "m", explain.Clues())
    assert len(found.notes) == 1 and "host's word" in found.notes[0]


def test_a_log_that_does_not_replay_to_the_quoted_registers_is_said_so() -> None:
    quoted = predict(changed_uki(initrd=b"x")).pcrs()
    found = explain_role(role_evidence(log_bytes(predict()), quoted))
    assert {(d.register, d.component) for d in found.differences} == {
        (f"PCR {number}", Component.EVENT_LOG) for number in (4, 9, 11)
    }
    (nine,) = [d for d in found.differences if d.register == "PCR 9"]
    assert (nine.expected, nine.seen) == (quoted[9].hex(), predict().pcrs()[9].hex())


def test_a_log_that_contradicts_itself_is_noted() -> None:
    lie = builders.log_event(1, 0x80000007, b"nothing to see", bytes(32))
    registers = predict().pcrs() | log_of(predict(), lie).replay()
    found = explain_role(role_evidence(log_bytes(predict()) + lie, registers))
    assert found.differences == ()
    assert len(found.notes) == 2 and "not that of its data" in found.notes[0]


def test_a_quote_that_leaves_out_predicted_registers_is_said_so() -> None:
    """Else the log alone, the host's word, would look like a comparison with the quote."""
    registers = {number: value for number, value in predict().pcrs().items() if number != 4}
    found = explain_role(role_evidence(log_bytes(predict()), registers))
    assert found.differences == ()
    note, _ = found.notes
    assert note == "not in the quote, so the event log is the host's word: PCR 4"
    (note,) = explain_role(role_evidence(log_bytes(predict()), {})).notes
    assert note.startswith("an event log alone")


def test_without_a_log_the_registers_are_compared() -> None:
    found = explain_role(role_evidence(b"", predict(changed_uki(initrd=b"x")).pcrs()))
    assert [d.register for d in found.differences] == ["PCR 4", "PCR 9", "PCR 11"]
    assert {d.component for d in found.differences} == {Component.UNEXPLAINED}
    assert explain_role(role_evidence(b"", predict().pcrs())).differences == ()
    missing = explain_role(role_evidence(b"", {0: predict().pcrs()[0]}))
    assert {d.seen for d in missing.differences} == {"nothing"}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"platform": "s390"}, "does not fit the evidence's platform"),
        ({"platform": "sev-snp"}, "does not fit the evidence's platform"),
        ({"platform": "tdx", "report": bytes(1024)}, "does not fit the evidence's platform"),
        ({"report": "text"}, "not an evidence map"),
        ({"event_log": None}, "not an evidence map"),
        ({"report": cbor2.dumps({"pcrs": {"24": bytes(32)}})}, "invalid register"),
        ({"report": cbor2.dumps({"pcrs": {"4": bytes(31)}})}, "invalid register"),
        ({"report": cbor2.dumps({"pcrs": {"four": bytes(32)}})}, "invalid register"),
        ({"report": cbor2.dumps({"pcrs": {"04": bytes(32)}})}, "invalid register"),
        ({"report": cbor2.dumps({"pcrs": {4: bytes(32)}})}, "not a map"),
        ({"report": cbor2.dumps({"pcrs": [1]})}, "not a map"),
        ({"report": cbor2.dumps([1])}, "not a map"),
        ({"report": b"\xff"}, "not CBOR"),
    ],
)
def test_damaged_evidence(change: dict[str, object], message: str) -> None:
    fields = cbor2.loads(role_evidence(b"", {0: bytes(32)}))
    with pytest.raises(FormatError, match=message):
        evidence.parse(cbor2.dumps({**fields, **change}, canonical=True), "evidence")


def test_an_image_without_the_platform() -> None:
    with pytest.raises(InputError, match="not measured for platform sev-snp"):
        explain.explain(evidence.SnpEvidence(bytes(48), None), measurements(), "m", explain.Clues())
