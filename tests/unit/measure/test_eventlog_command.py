"""`measure eventlog` on a log with a bank that is not replayed."""

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
