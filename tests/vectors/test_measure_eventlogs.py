"""Recorded event logs of other projects: the replay of each equals the recorded registers.

Data: go-eventlog, go-tdx-guest and trustee (named in eventlog-replays.json with their replays),
dstack, local-vtpm.
"""

from __future__ import annotations

import base64
import collections
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from measure import ccel, eventcheck, eventlog, pcr
from measure.errors import FormatError, NotCryptoAgileError
from measure.explain import evidence
from measure.explain.evidence import TdxEvidence

# Made by an old firmware that logged SHA-1 only, so there is nothing to compare.
SHA1_ONLY = {
    "go-eventlog/debian-10.bin",
    "go-eventlog/ebs_event_missing_eventlog",
    "go-eventlog/option_rom_eventlog",
}


# Separators beyond the first of a register. Firmware of edk2 before 2024.11 puts two into RTMR 0;
# a build that maps the separators of all eight TPM registers puts three and five.
SECOND_SEPARATORS = {
    "go-eventlog/CCEL_unpadded.data.bin": {1: 1},
    "go-eventlog/event_log.bin": {1: 2, 2: 4},
    "trustee/CCEL_data_ovmf": {1: 1},
    "trustee/eventlog/CCEL_data_grub": {1: 1},
    "trustee/eventlog/CCEL_data_ovmf": {1: 1},
}
TABLES = {
    "go-eventlog/CCEL.bin": 65536,
    "go-eventlog/cos-113-intel-tdx.table.bin": 262144,
    "go-tdx-guest/ccel_table.dat": 262144,
}


def replays(vectors: Path) -> dict[str, dict[str, dict[str, str]]]:
    recorded = json.loads((vectors / "eventlog-replays.json").read_text())
    return {name: entry["replay"] for name, entry in recorded.items()}


def test_every_recorded_log_replays(vectors: Path) -> None:
    compared = 0
    for name, banks in replays(vectors).items():
        if name in SHA1_ONLY:
            continue
        log = eventlog.parse((vectors / name).read_bytes(), name)
        for bank, registers in banks.items():
            seen = {str(pcr): value.hex() for pcr, value in log.replay(bank).items()}
            assert {n: seen.get(n) for n in registers} == registers, (name, bank)
            compared += len(registers)
    assert compared > 200


def test_sha1_only_logs_are_refused(vectors: Path) -> None:
    for name in SHA1_ONLY:
        with pytest.raises(NotCryptoAgileError):
            eventlog.parse((vectors / name).read_bytes(), name)


def test_an_event_whose_size_is_wrong(vectors: Path) -> None:
    with pytest.raises(FormatError):
        eventlog.parse((vectors / "go-eventlog" / "short_no_action_eventlog").read_bytes())


def test_cloud_registers(vectors: Path) -> None:
    """What upstream's own tests expect of the registers, not our recording of a replay."""
    expected = json.loads((vectors / "go-eventlog" / "expected-pcrs.json").read_text())
    compared = 0
    for name, entry in expected.items():
        if f"go-eventlog/{name}" in SHA1_ONLY:
            continue
        log = eventlog.parse((vectors / "go-eventlog" / name).read_bytes(), name)
        for bank, registers in entry["pcrs"].items():
            replay, size = log.replay(bank), eventlog.Algorithm[bank].size
            for number, value in registers.items():
                assert replay.get(int(number), bytes(size)).hex() == value, (name, bank, number)
                compared += 1
    assert compared > 100


def test_local_registers_in_every_bank(vectors: Path) -> None:
    """The SHA-384 bank of recorded boots; test_measure_vtpm.py has the SHA-256 bank."""
    recorded = json.loads((vectors / "local-vtpm" / "expected.json").read_text())
    compared = 0
    for run in recorded["runs"].values():
        if "file" not in run or "pcr_sha384" not in run:
            continue
        log = eventlog.parse((vectors / "local-vtpm" / run["file"]).read_bytes())
        replay = log.replay("sha384")
        for number, value in run["pcr_sha384"].items():
            if number != "10":
                assert replay.get(int(number), bytes(48)).hex() == value
                compared += 1
    assert compared == 8 * 15


def logs(vectors: Path) -> Iterator[tuple[str, eventlog.EventLog]]:
    """Every crypto-agile log among the vectors."""
    named = {*replays(vectors), "dstack/ccel.bin"}
    named |= {f"local-vtpm/{path.name}" for path in (vectors / "local-vtpm").glob("*.eventlog.bin")}
    for name in sorted(named - SHA1_ONLY):
        yield name, eventlog.parse((vectors / name).read_bytes(), name)


def test_no_recorded_log_contradicts_itself(vectors: Path) -> None:
    """All that is odd in them is a second separator, a note. Old shims logged one byte too many."""
    seen = {}
    for name, log in logs(vectors):
        found = eventcheck.check(log)
        assert not any(item.is_contradiction for item in found), name
        assert all("second separator" in item.message for item in found), name
        if found:
            seen[name] = dict(collections.Counter(item.event.pcr for item in found))
    assert seen == SECOND_SEPARATORS


def test_a_changed_byte_of_an_event_that_is_hashed_is_found(vectors: Path) -> None:
    """Every event of these types in every log, not only those that are written for the test."""
    tried = 0
    for name, log in logs(vectors):
        data = (vectors / name).read_bytes()
        known = len(eventcheck.check(log))
        for event in log.events:
            if event.type_name not in ("SEPARATOR", "EFI_ACTION", "EFI_GPT_EVENT"):
                continue
            digests = sum(2 + len(value) for value in event.digests.values())
            at = event.offset + 12 + digests + 4
            changed = data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]
            found = eventcheck.check(eventlog.parse(changed, name))
            assert len(found) > known
            assert any(c.event.offset == event.offset and c.is_contradiction for c in found)
            tried += 1
    assert tried > 150


def test_which_logs_are_of_confidential_computing(vectors: Path) -> None:
    for name, log in logs(vectors):
        expected = "CCEL" in name or "ccel" in name or "tdx" in name or "event_log.bin" in name
        assert log.is_ccel == expected, name
        if expected:
            assert set(log.rtmrs()) == {0, 1, 2, 3}
        else:
            with pytest.raises(FormatError, match="not a confidential-computing event log"):
                log.rtmrs()


def test_ccel_tables(vectors: Path) -> None:
    for name, size in TABLES.items():
        table = ccel.parse_table((vectors / name).read_bytes(), name)
        assert (table.technology, table.log_size) == (ccel.Technology.TDX, size)
    log = (vectors / "go-tdx-guest/ccel_data.dat").read_bytes()
    table.check_log(log, "log")
    with pytest.raises(FormatError, match="longer than its ACPI table says"):
        table.check_log(log + b"\xff", "log")


def test_ccel_and_quote_of_the_same_machine(vectors: Path) -> None:
    quote = (vectors / "go-tdx-guest/cos-113-tdx-quote.dat").read_bytes()
    log = (vectors / "go-tdx-guest/ccel_data.dat").read_bytes()
    seen = evidence.with_log(evidence.parse(quote, "quote"), log, "log")
    assert isinstance(seen, TdxEvidence) and seen.log is not None and seen.rtmrs is not None
    replayed = seen.log.rtmrs()
    assert [replayed[n] for n in (0, 1, 2)] == [seen.rtmrs[n] for n in (0, 1, 2)]
    assert replayed[0].hex().startswith("3fa2f61f")


def test_upstream_reads_the_same_events(vectors: Path) -> None:
    """Trustee's own parser: register, digest, data, and whether the digest is that of the data."""
    compared = 0
    for path in sorted((vectors / "trustee/eventlog").glob("*_out.json")):
        log = eventlog.parse((path.parent / path.name.removesuffix("_out.json")).read_bytes())
        upstream = json.loads(path.read_text())["uefi_event_logs"]
        extended = [event for event in log.events if event.type_name != "NO_ACTION"]
        assert len(upstream) == len(extended)
        for theirs, ours in zip(upstream, extended, strict=True):
            assert theirs["index"] == ours.pcr
            assert [d["digest"] for d in theirs["digests"]] == [ours.digests["sha384"].hex()]
            assert base64.b64decode(theirs["event"]) == ours.data
            compared += 1
    assert compared > 100


def test_googles_boot_path_begins_as_predicted(vectors: Path) -> None:
    """Registers 2, 3 and 4 up to the first program, in every log of a machine of Google's."""
    compared = 0
    for name, log in logs(vectors):
        digests = {
            n: [e.digests["sha256"] for e in log.events if e.pcr == n]
            for n in (2, 3, 4)
            if "sha256" in log.banks
        }
        if not any(e.data.startswith(b"GCE NonHostInfo") for e in log.events):
            continue
        separator = pcr.separator_event(4).digest
        assert digests[2] == digests[3] == [separator]
        action = pcr.action_event(4, pcr.CALLING_APPLICATION).digest
        assert digests[4][:2] == [action, separator], name
        compared += 1
    assert compared == 7
