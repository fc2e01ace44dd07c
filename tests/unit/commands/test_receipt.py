"""`confide receipt verify`: what it prints, and its exit status."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from confide.commands.cli import main
from confide.commands.status import ExitStatus
from tests.support.kept import ANSWER, KeptService, keep
from tests.support.simulated_machine import NOW, SimulatedMachine, manifest_bytes

PASSED, FAILED, USAGE, _ = ExitStatus


@pytest.fixture(scope="module")
def service() -> KeptService:
    return KeptService(SimulatedMachine("coordinator"), manifest_bytes(), now=NOW)


@pytest.fixture
def receipt(service: KeptService, tmp_path: Path) -> Path:
    return keep(tmp_path / "receipts", service.attested(), service.receipt())


@pytest.fixture
def words(receipt: Path) -> list[str]:
    """The whole command, with the manifest that lies beside the receipt."""
    manifest = receipt.with_name("manifest.json")
    return ["receipt", "verify", str(receipt), "--development", "--manifest", str(manifest)]


def test_a_person_sees_the_checks_and_what_was_signed(
    words: list[str], service: KeptService, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words) == PASSED
    shown = capsys.readouterr().out
    assert "verified as of 2027-01-15 08:10:00 UTC" in shown
    assert "manifest: development (protects nothing against its host)" in shown
    statement = service.statement()
    assert f"request_sha256: {statement.request_sha256.hex()}" in shown
    assert "model: tiny" in shown and "output: 3" in shown


def test_a_program_gets_the_same(
    words: list[str], service: KeptService, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*words, "--json"]) == PASSED
    shown = json.loads(capsys.readouterr().out)
    statement = service.statement()
    assert (shown["passed"], shown["mode"], shown["time"]) == (True, "development", statement.time)
    assert shown["receipt"] == {
        "model": "tiny",
        "model_root_hash": statement.model_root_hash.hex(),
        "time": statement.time,
        "unit": "token",
        "input": 7,
        "output": 3,
        "request_sha256": statement.request_sha256.hex(),
        "response_sha256": statement.response_sha256.hex(),
    }


def test_an_answer_is_compared(
    words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    answer = tmp_path / "answer"
    answer.write_bytes(ANSWER)
    assert main([*words, "--answer", str(answer)]) == PASSED
    answer.write_bytes(ANSWER + b"\n")
    assert main([*words, "--answer", str(answer)]) == FAILED
    shown = capsys.readouterr().out
    assert "do not rely on this receipt (answer)" in shown.replace("\n", " ")
    # What a receipt says counts only once it is verified.
    assert shown.count("request_sha256") == 1


def test_another_manifest(
    words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = tmp_path / "other.json"
    other.write_bytes(manifest_bytes(expires=NOW + 86400))
    assert main([*words[:-1], str(other), "--json"]) == FAILED
    shown = json.loads(capsys.readouterr().out)
    failed = [check["name"] for check in shown["checks"] if not check["passed"]]
    assert failed[0] == "manifest"


def test_files_that_are_not_there(
    words: list[str],
    receipt: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert main([*words, "--answer", str(tmp_path / "nothing")]) == USAGE
    assert main([*words[:-1], str(tmp_path / "nothing")]) == USAGE
    alone = tmp_path / "alone.cbor"
    alone.write_bytes(receipt.read_bytes())
    assert main([*words[:2], str(alone), *words[3:]]) == USAGE
    assert "the attestation beside the receipt cannot be read" in capsys.readouterr().err
    receipt.write_bytes(b"no receipt")
    assert main([*words, "--json"]) == FAILED
    assert json.loads(capsys.readouterr().out)["error"]["code"] == "bad-cbor"
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    assert main(words[:3]) == USAGE
    assert "no-manifest" in capsys.readouterr().err
