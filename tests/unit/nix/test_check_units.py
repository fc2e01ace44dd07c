"""What the check of the units refuses. The ratings are given here, and systemd's in the flake."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path

import check_units
import pytest

DISKS = "confide-disks.service"


@pytest.fixture
def units(tmp_path: Path) -> Path:
    folder = tmp_path / "etc/systemd/system"
    folder.mkdir(parents=True)
    (folder / "confide-role.service").write_text("[Service]\nUser=confide\n")
    (folder / DISKS).write_text("# User: only root mounts.\n[Service]\nPrivateMounts=no\n")
    return tmp_path


@pytest.mark.parametrize(
    ("unit", "level", "wrong"),
    [
        ("confide-role.service", 2.0, []),
        ("confide-role.service", 2.1, ["confide-role.service is rated 2.1, more than 2.0"]),
        (DISKS, 3.0, []),
        (DISKS, 3.1, ["confide-disks.service is rated 3.1, more than 3.0"]),
    ],
)
def test_limits(
    units: Path, monkeypatch: pytest.MonkeyPatch, unit: str, level: float, wrong: list[str]
) -> None:
    monkeypatch.setattr(check_units, "rate", lambda *_: (level, ["User"]))
    assert check_units.check(units, unit) == wrong


def test_exceptions_name_what_they_leave_open(units: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rated = (2.0, ["PrivateMounts", "PrivateTmp", "User"])
    monkeypatch.setattr(check_units, "rate", lambda *_: rated)
    assert check_units.check(units, DISKS) == [f"{DISKS} has no reason why PrivateTmp is open"]
    assert check_units.check(units, "confide-role.service") == []


@pytest.mark.parametrize("name", ["PrivateUsers", "RestrictFileSystems"])
def test_settings_that_this_kernel_cannot_enforce(units: Path, name: str) -> None:
    assert check_units.without_effect(units) == []
    drop_in = units / "etc/systemd/system/confide-.service.d/hardening.conf"
    drop_in.parent.mkdir()
    drop_in.write_text(f"# {name} would be useless\n")
    assert check_units.without_effect(units) == []
    drop_in.write_text(f"[Service]\n{name}=yes\n")
    assert check_units.without_effect(units) == [
        f"hardening.conf: {name} needs what the kernel does not have"
    ]


@pytest.mark.parametrize(
    ("status", "said", "wrong"),
    [
        (0, "", []),
        (0, "confide-engine@.service:3: Invalid memory limit, ignoring\n", ["Invalid"]),
        (1, "Command /x is not executable\n", ["not executable"]),
        (1, "", ["it is wrong"]),
    ],
)
def test_whatever_systemd_says_of_a_unit_is_an_error(
    units: Path, monkeypatch: pytest.MonkeyPatch, status: int, said: str, wrong: list[str]
) -> None:
    asked: list[Sequence[str]] = []

    def run(command: Sequence[str], **_: object) -> subprocess.CompletedProcess[str]:
        asked.append(command)
        return subprocess.CompletedProcess(command, status, "", said)

    monkeypatch.setattr("subprocess.run", run)
    found = check_units.verify(units, "confide-engine@.service")
    assert len(found) == len(wrong)
    assert all(word in line for word, line in zip(wrong, found, strict=True))
    assert asked[0][-1] == "confide-engine@1.service", "a template alone is not verified"


def test_programs_of_units_and_drop_ins_are_there_to_be_verified(units: Path) -> None:
    drop_in = units / "etc/systemd/system/confide-role.service.d/role.conf"
    drop_in.parent.mkdir()
    drop_in.write_text(
        "[Service]\nExecStart=!!/usr/bin/a b\n# ExecStop=/usr/bin/c\nExecStopPost=-/d\n"
    )
    check_units.make_programs(units)
    made = {path for path in units.rglob("*") if path.is_file() and path.stat().st_mode & 0o111}
    assert made == {units / "usr/bin/a", units / "d"}
