"""`make release` stops at a policy that nobody has reviewed for half a year."""

from __future__ import annotations

import re
import subprocess
import sys
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest
from check_policy_age import MAX_DAYS, fault

ROOT = Path(__file__).parents[3]
TODAY = date(2026, 11, 28)


@pytest.mark.parametrize(
    ("days", "expected"),
    [(0, ""), (MAX_DAYS, ""), (MAX_DAYS + 1, "181 days old"), (-1, "still to come")],
)
def test_age(days: int, expected: str) -> None:
    found = fault(f'{{"date": "{TODAY - timedelta(days)}"}}', TODAY)
    assert expected in found
    assert bool(found) == bool(expected)


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"date": 5}', '{"date": "soon"}'])
def test_no_date(text: str) -> None:
    assert "no date" in fault(text, TODAY)


@pytest.mark.parametrize(("days", "status"), [(0, 0), (MAX_DAYS + 2, 1)])
def test_the_program(tmp_path: Path, days: int, status: int) -> None:
    policy = tmp_path / "policy.json"
    policy.write_text(f'{{"date": "{datetime.now(UTC).date() - timedelta(days)}"}}')
    program = [sys.executable, str(ROOT / "nix/check_policy_age.py"), str(policy)]
    done = subprocess.run(program, capture_output=True, text=True, check=False)
    assert done.returncode == status
    assert done.stderr.startswith(f"{policy}: ") == bool(status)


def test_a_release_begins_with_it() -> None:
    makefile = (ROOT / "Makefile").read_text()
    assert re.search(r"^release:( \S+)* policy-age( |$)", makefile, re.M)
    assert "\npolicy-age:\n\tnix/check_policy_age.py release/policy.json\n" in makefile
