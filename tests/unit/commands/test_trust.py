"""`confide trust`: what is kept, where, and what is shown."""

from __future__ import annotations

import json
import os
from hashlib import sha256
from pathlib import Path

import pytest

from confide.client.trust import trust_file, trusted_manifest
from confide.commands.cli import main
from confide.commands.status import ExitStatus
from tests.support.simulated_machine import current_manifest
from tests.support.site_manifest import RELEASE, site_manifest

PASSED, FAILED, USAGE, _ = ExitStatus


@pytest.fixture(autouse=True)
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the trusted manifest is kept."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    return tmp_path / "config/confide/manifest.json"


@pytest.fixture
def given(tmp_path: Path) -> str:
    (tmp_path / "given.json").write_bytes(site_manifest())
    return str(tmp_path / "given.json")


def test_it_is_kept_for_this_user_alone(file: Path, given: str) -> None:
    old = os.umask(0)
    try:
        assert main(["trust", given]) == PASSED
    finally:
        os.umask(old)
    assert file.read_bytes() == Path(given).read_bytes() == trusted_manifest()
    assert file.stat().st_mode & 0o777 == 0o600
    assert file.parent.stat().st_mode & 0o777 == 0o700


def test_it_asks_nothing_and_shows_what_to_compare(
    given: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["trust", given]) == PASSED
    first = capsys.readouterr().out
    assert main(["trust"]) == PASSED
    assert capsys.readouterr().out == first
    assert f"SHA-256  {sha256(Path(given).read_bytes()).hexdigest()}\n" in first
    assert "mode     production\n" in first
    assert "roles    coordinator, secret-service, worker-cpu, worker-gpu\n" in first
    assert "valid    2" in first and "opt-out" not in first and "foreign" not in first

    assert main(["trust", "--json"]) == PASSED
    shown = json.loads(capsys.readouterr().out)
    assert shown["sha256"] == sha256(Path(given).read_bytes()).hexdigest()
    assert (shown["opt_outs"], shown["foreign"], shown["mode"]) == ([], [], "production")
    assert {"released", "expires", "roles", "models", "file"} <= shown.keys()


def test_opt_outs_and_foreign_parts_are_shown(
    given: str, capsys: pytest.CaptureFixture[str]
) -> None:
    def change(value: dict[str, dict[str, dict[str, object]]]) -> None:
        tdx = value["platforms"]["tdx"]
        tdx |= {"opt_outs": ["insecure_any_platform"], "platform_instances": []}
        tdx |= {"minimum_tcb_evaluation_data_number": 1}

    Path(given).write_bytes(site_manifest(change))
    assert main(["trust", given]) == PASSED
    shown = capsys.readouterr().out
    assert "opt-out  insecure_any_platform: clients need --insecure-any-platform\n" in shown
    assert "opt-out  insecure_foreign_measurements: clients need --insecure-foreign" in shown
    assert "foreign  TDX: minimum_tcb_evaluation_data_number\n" in shown


def test_nothing_is_trusted_at_first_nor_after_it_is_forgotten(
    given: str, capsys: pytest.CaptureFixture[str], file: Path
) -> None:
    assert main(["trust"]) == USAGE
    assert "no-manifest" in capsys.readouterr().err
    assert main(["trust", given]) == PASSED
    assert main(["trust", "--forget"]) == PASSED
    assert not file.exists()
    assert main(["trust", "--forget"]) == PASSED
    assert "no manifest was trusted" in capsys.readouterr().err
    assert main(["trust", given, "--forget"]) == USAGE
    capsys.readouterr()
    assert main(["trust", "--forget", "--json"]) == PASSED
    assert json.loads(capsys.readouterr().out) == {"passed": True, "forgotten": False}


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (current_manifest(), "development-manifest"),
        ((RELEASE / "development.json").read_bytes(), "development-manifest"),
        (site_manifest(lambda value: value.update(released=1, expires=2)), "manifest-expired"),
        (b"{}", "not-canonical"),
    ],
)
def test_what_is_not_kept(
    given: str, file: Path, capsys: pytest.CaptureFixture[str], data: bytes, code: str
) -> None:
    """And what was trusted before still is."""
    assert main(["trust", given]) == PASSED
    before = file.read_bytes()
    Path(given).write_bytes(data)
    assert main(["trust", given]) == FAILED
    assert f"confide: {code}: " in capsys.readouterr().err
    assert file.read_bytes() == before


def test_where_it_is_kept() -> None:
    assert trust_file({"XDG_CONFIG_HOME": "/c"}) == Path("/c/confide/manifest.json")
    for unset in ({}, {"XDG_CONFIG_HOME": ""}, {"XDG_CONFIG_HOME": "relative"}):
        assert trust_file({"HOME": "/h", **unset}) == Path("/h/.config/confide/manifest.json")
    assert trust_file({}) == Path("/nonexistent/.config/confide/manifest.json")


def test_a_folder_that_cannot_be_made(
    given: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "config").write_bytes(b"")
    assert main(["trust", given]) == USAGE
    assert "unwritable-file" in capsys.readouterr().err
