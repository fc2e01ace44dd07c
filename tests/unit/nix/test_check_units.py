"""What the check of the units refuses. The ratings are given here, and systemd's in the flake."""

from __future__ import annotations

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
