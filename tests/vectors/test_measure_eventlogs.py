"""Recorded event logs of other projects: the replay of each equals the recorded registers.

Data: go-eventlog, go-tdx-guest and trustee (named in eventlog-replays.json with their replays).
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from measure import eventlog
from measure.errors import FormatError, NotCryptoAgileError

# Made by an old firmware that logged SHA-1 only, so there is nothing to compare.
SHA1_ONLY = {
    "go-eventlog/debian-10.bin",
    "go-eventlog/ebs_event_missing_eventlog",
    "go-eventlog/option_rom_eventlog",
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
        if "sha256" not in entry["pcrs"]:
            continue  # debian-10.bin, in SHA1_ONLY
        replay = eventlog.parse((vectors / "go-eventlog" / name).read_bytes(), name).replay()
        for number, value in entry["pcrs"]["sha256"].items():
            assert replay.get(int(number), bytes(32)).hex() == value, (name, number)
            compared += 1
    assert compared > 20
