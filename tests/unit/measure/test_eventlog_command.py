"""`measure eventlog`: what is not computed here, what honest logs have, and what fails."""

from __future__ import annotations

import hashlib
import json
import struct
from pathlib import Path

import pytest

from measure.__main__ import main
from tests.support.measurement import builders


def test_a_bank_of_a_hash_that_not_every_python_has(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    digest = hashlib.sha256(b"v").digest()
    event = struct.pack("<IIIH32sH32xI", 0, 8, 2, 11, digest, 0x12, 1) + b"v"
    log = tmp_path / "log"
    log.write_bytes(builders.log_header([(11, 32), (0x12, 32)]) + event)
    register = hashlib.sha256(bytes(32) + digest).hexdigest()
    assert main(["eventlog", str(log)]) == 0
    said = capsys.readouterr()
    assert f"sha256  0 {register}" in said.out
    assert said.err == "measure: bank sm3 is not replayed: not every Python has it\n"
    assert main(["eventlog", str(log), "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed["registers"] == {"sha256": {"0": register}}
    assert printed["events"][0]["digests"]["sm3"] == bytes(32).hex()


def sm3_log() -> bytes:
    event = struct.pack("<IIIH32xI", 0, 8, 1, 0x12, 1) + b"v"
    return builders.log_header([(0x12, 32)]) + event


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (sm3_log(), "expected one of the banks sha1, sha256, sha384, sha512, seen sm3"),
        (builders.log_header(), "no event in the log extends a register"),
        (builders.log([(0, 3, b"StartupLocality\0\3")]), "no event in the log extends a register"),
    ],
    ids=["SM3 only", "no events", "no measurements"],
)
def test_a_log_of_which_nothing_can_be_checked_is_an_error(
    content: bytes, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log = tmp_path / "log"
    log.write_bytes(content)
    assert main(["eventlog", str(log)]) == 2
    printed = capsys.readouterr()
    assert said in printed.err
    assert printed.out == ""


def test_what_honest_logs_have_is_a_note(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A version that is logged as text and hashed as something else."""
    other = hashlib.sha256(b"the version's GUID").digest()
    log = tmp_path / "log"
    log.write_bytes(builders.log_header() + builders.log_event(0, 8, b"1.2\0", other))
    assert main(["eventlog", str(log)]) == 0
    assert "note: register 0, S_CRTM_VERSION at" in capsys.readouterr().out
    assert main(["eventlog", str(log), "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert len(printed["notes"]) == 1
    assert printed["contradictions"] == []


def test_a_lie_fails(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log = tmp_path / "log"
    log.write_bytes(builders.log_header() + builders.log_event(4, 5, b"one", bytes(32)))
    assert main(["eventlog", str(log)]) == 1
    assert "contradiction: register 4, ACTION at" in capsys.readouterr().out
    assert main(["eventlog", str(log), "--json"]) == 1
    assert len(json.loads(capsys.readouterr().out)["contradictions"]) == 1
