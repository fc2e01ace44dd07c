"""A network that dies says nothing: the kernel finds out, in bounded time."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from confide.net.http_client import IDLE_SECONDS
from confide.net.sockets import DEAD_SECONDS
from tests.support.dead_network import DEAD_SECONDS as SHORT
from tests.support.programs import ROOT


@pytest.fixture(scope="module")
def found() -> dict[str, tuple[str, float]]:
    """How each use of a connection ended."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join((str(ROOT / "py"), str(ROOT)))}
    command = [sys.executable, "-m", "tests.support.dead_network"]
    result = subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=120, check=False
    )
    if "PermissionError" in result.stderr and os.environ.get("CI") != "true":
        pytest.skip("this system gives nobody a network namespace of his own")
    assert result.returncode == 0, result.stderr
    return dict(json.loads(result.stdout))


@pytest.mark.parametrize(
    ("use", "kind"),
    [
        ("kept_connection", "StaleConnectionError peer-lost"),
        ("waiting", "UnavailableError peer-lost"),
        ("streaming", "TimeoutError"),
    ],
)
def test_it_ends_in_bounded_time(found: dict[str, tuple[str, float]], use: str, kind: str) -> None:
    ended, seconds = found[use]
    assert ended == kind
    assert seconds < 4 * SHORT  # without the kernel's help: 600 s, or for ever


def test_how_long_a_change_of_network_can_last() -> None:
    assert IDLE_SECONDS + DEAD_SECONDS <= 60
