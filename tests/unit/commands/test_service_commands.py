"""`confide set` and `confide verify` against a coordinator program on a SIMULATED machine."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import pytest

from confide.client.service import Record
from confide.commands.cli import main
from confide.commands.status import ExitStatus
from confide.net.calls import Caller
from confide.protocol.secret_service import KeyExchangeReply
from tests.support.native_service import NativeService
from tests.support.programs import Program, free_port, program
from tests.support.simulated_machine import current_manifest, manifest_value

PASSED, FAILED, USAGE, _ = ExitStatus


@pytest.fixture
def coordinator(tmp_path: Path, manifest: Path) -> Iterator[Program]:
    with program("coordinator", tmp_path, manifest.read_bytes()) as started:
        started.wait("no-manifest")
        yield started


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    file = tmp_path / "manifest.json"
    file.write_bytes(current_manifest())
    return file


@pytest.fixture
def stricter(tmp_path: Path) -> Path:
    """A manifest for another build: this coordinator's registers are not in it."""
    roles = json.loads(json.dumps(manifest_value()["roles"]))
    roles["coordinator"]["vtpm"][0]["pcrs"]["11"] = "00" * 32
    file = tmp_path / "stricter.json"
    file.write_bytes(current_manifest(roles=roles))
    return file


def test_set_and_verify(
    coordinator: Program,
    manifest: Path,
    stricter: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    url = coordinator.url
    before = main(["verify", url, "--manifest", str(manifest), "--development"])
    assert before == FAILED
    assert "NOT verified" in capsys.readouterr().out

    refused = main(["set", "--manifest", str(stricter), "--coordinator", url])
    assert refused == FAILED
    assert "PCR 11" in capsys.readouterr().err
    coordinator.wait("no-manifest")

    for _ in range(2):
        assert main(["set", "--manifest", str(manifest), "--coordinator", url]) == PASSED
        assert "protects nothing" in capsys.readouterr().out
    coordinator.wait("ready")
    assert main(["set", "--manifest", str(stricter), "--coordinator", url]) == FAILED
    capsys.readouterr()

    record = tmp_path / "proof"
    verify = ["--manifest", str(manifest), "--development", "--json"]
    assert main(["verify", url, *verify, "--save", str(record)]) == PASSED
    live = json.loads(capsys.readouterr().out)
    assert live["passed"]
    assert main(["verify", str(record), *verify]) == PASSED
    saved = json.loads(capsys.readouterr().out)
    assert saved["checks"].pop()["name"] == "time"
    assert saved == live
    later = str(int(time.time()) + 40 * 86400)
    assert main(["verify", str(record), *verify, "--at", later]) == FAILED
    failed = [c["name"] for c in json.loads(capsys.readouterr().out)["checks"] if not c["passed"]]
    assert failed == ["coordinator's clock", "attestation key validity"]
    assert main(["verify", str(record), "--manifest", str(stricter), "--development"]) == FAILED

    broken = bytearray(record.read_bytes())
    broken[60] ^= 1
    record.write_bytes(bytes(broken))
    assert main(["verify", str(record), *verify]) == FAILED


def test_a_machine_that_was_launched_for_another_manifest(
    manifest: Path, stricter: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The table names the check, and says which manifest's value was expected and seen."""
    expected, seen = (sha256(file.read_bytes()).digest() for file in (manifest, stricter))
    with program("coordinator", tmp_path, stricter.read_bytes()) as other:
        other.wait("no-manifest")
        assert main(["set", "--manifest", str(manifest), "--coordinator", other.url]) == FAILED
        assert "the check 'launch binding' failed" in capsys.readouterr().err
        other.wait("no-manifest")
        verify = ["verify", other.url, "--manifest", str(manifest), "--development"]
        assert main([*verify, "--json"]) == FAILED
        checks = {check["name"]: check for check in json.loads(capsys.readouterr().out)["checks"]}
        assert main(verify) == FAILED
    (row,) = (row for row in capsys.readouterr().out.splitlines() if "launch binding" in row)
    assert "FAIL" in row
    check = checks["launch binding"]
    assert check["expected"] == f"PCR 15 {sha256(bytes(32) + expected).hexdigest()}"
    assert check["seen"] == sha256(bytes(32) + seen).hexdigest()


def test_nobody_answers(manifest: Path, capsys: pytest.CaptureFixture[str]) -> None:
    url = f"http://127.0.0.1:{free_port()}"
    assert main(["verify", url, "--manifest", str(manifest), "--development", "--json"]) == FAILED
    answer = json.loads(capsys.readouterr().out)
    assert answer["error"]["code"] == "peer-unreachable"
    assert main(["set", "--manifest", str(manifest), "--coordinator", url]) == FAILED


@pytest.mark.parametrize("content", [b"", b"\xff", b"\xa0", b"garbage"])
def test_saved_proof_that_is_none(manifest: Path, tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "proof"
    file.write_bytes(content)
    assert main(["verify", str(file), "--manifest", str(manifest), "--development"]) == FAILED


def test_missing_files(manifest: Path, tmp_path: Path) -> None:
    nothing = str(tmp_path / "nothing")
    assert main(["verify", nothing, "--manifest", str(manifest), "--development"]) == USAGE
    assert main(["verify", "http://127.0.0.1:1", "--manifest", nothing, "--development"]) == USAGE
    assert main(["verify", "http://", "--manifest", str(manifest), "--development"]) == USAGE


def test_verify_through_a_gateway(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    manifest = tmp_path / "manifest.json"
    with NativeService(tmp_path) as service:
        manifest.write_bytes(service.manifest)
        gateway = service.start_gateway()
        record = tmp_path / "proof"
        arguments = ["--manifest", str(manifest), "--development", "--json"]
        arguments += ["--save", str(record)]
        assert main(["verify", gateway, *arguments]) == PASSED
        names = [check["name"] for check in json.loads(capsys.readouterr().out)["checks"]]
        assert names[-2:] == ["history", "secret services"]
        skew: dict[str, int] = {}
        while len(skew) < 3:  # the first look at the clocks may still be going on
            skew = json.loads(Caller(gateway).call("GET", "/healthz")[2])["clock_skew"]
        assert list(skew) == ["coordinator", "secret-service-1", "worker-1"]
        assert all(-2 <= seconds <= 2 for seconds in skew.values())
    assert main(["verify", str(record), "--manifest", str(manifest), "--development"]) == PASSED
    kept = Record.parse(record.read_bytes())
    # Who gives a proof on may choose the time at which it is judged, but not another than it has.
    record.write_bytes(replace(kept, time=kept.time + 330).encode())
    capsys.readouterr()
    verify = ["verify", str(record), "--manifest", str(manifest), "--development"]
    assert main([*verify, "--json"]) == FAILED
    checks = json.loads(capsys.readouterr().out)["checks"]
    assert [check["name"] for check in checks if not check["passed"]] == ["coordinator's clock"]
    (offer,) = KeyExchangeReply.parse(kept.key_exchange).services
    stripped = KeyExchangeReply((replace(offer, kem_public_key=bytes(1216)),))
    record.write_bytes(replace(kept, key_exchange=stripped.encode()).encode())
    assert main(["verify", str(record), "--manifest", str(manifest), "--development"]) == FAILED
