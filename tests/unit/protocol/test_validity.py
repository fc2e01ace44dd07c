"""A manifest is valid from its release until it expires, and never for longer than a year."""

from __future__ import annotations

from typing import Any

import pytest

from confide.encoding.canonical import json_encode
from confide.errors import FormatError, PolicyError
from confide.protocol.manifest import Manifest
from confide.protocol.validity import CLOCK_TOLERANCE, DAY, LAST_TIME, MAX_DAYS, warning

RELEASED = 1_800_000_000
EXPIRES = RELEASED + 180 * DAY


@pytest.fixture
def manifest(manifest_value: dict[str, Any]) -> Manifest:
    times = {"released": RELEASED, "expires": EXPIRES}
    return Manifest.parse(json_encode(manifest_value | times))


@pytest.mark.parametrize("now", [RELEASED - CLOCK_TOLERANCE, RELEASED, EXPIRES - 1])
def test_valid(manifest: Manifest, now: int) -> None:
    manifest.require_current(now)


@pytest.mark.parametrize(
    ("now", "code"),
    [
        (EXPIRES, "manifest-expired"),
        (EXPIRES + 10 * 365 * DAY, "manifest-expired"),
        (10**18, "manifest-expired"),
        (RELEASED - CLOCK_TOLERANCE - 1, "manifest-not-valid-yet"),
        (0, "manifest-not-valid-yet"),
        (-1, "manifest-not-valid-yet"),
    ],
)
def test_not_valid(manifest: Manifest, now: int, code: str) -> None:
    with pytest.raises(PolicyError) as caught:
        manifest.require_current(now)
    assert caught.value.code == code
    assert ("2027-07-14" if code == "manifest-expired" else "2027-01-15") in str(caught.value)
    assert caught.value.next


@pytest.mark.parametrize("seconds", [0, -1, -RELEASED, MAX_DAYS * DAY + 1])
def test_a_manifest_expires_after_its_release_and_within_a_year(
    manifest_value: dict[str, Any], seconds: int
) -> None:
    times = {"released": RELEASED, "expires": RELEASED + seconds}
    with pytest.raises(FormatError) as caught:
        Manifest.parse(json_encode(manifest_value | times))
    assert caught.value.code == "manifest-times"


@pytest.mark.parametrize("change", [{"expires": LAST_TIME + 1}, {"released": -1}])
def test_times_out_of_bounds(manifest_value: dict[str, Any], change: dict[str, int]) -> None:
    with pytest.raises(FormatError) as caught:
        Manifest.parse(json_encode(manifest_value | change))
    assert caught.value.code == "bad-field"


@pytest.mark.parametrize("name", ["released", "expires"])
def test_both_times_are_needed(manifest_value: dict[str, Any], name: str) -> None:
    del manifest_value[name]
    with pytest.raises(FormatError) as caught:
        Manifest.parse(json_encode(manifest_value))
    assert caught.value.code == "missing-field"


@pytest.mark.parametrize(
    ("left", "said"),
    [(21 * DAY, ""), (21 * DAY - 1, "20 days"), (DAY, "1 day,"), (DAY - 1, "less than a day")],
)
def test_a_warning_some_days_before(left: int, said: str) -> None:
    line = warning(EXPIRES, now=EXPIRES - left)
    assert said in line and bool(line) == bool(said)
