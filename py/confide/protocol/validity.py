"""Times: how long a manifest is valid, and how far apart two clocks may be. A client checks both.

Only the clock of a client counts. The clock of a machine is its host's, so what a machine checks is
a convenience: the operator hears early that he sets a manifest that no client takes.
"""

from __future__ import annotations

from datetime import UTC, datetime

from confide.errors import FormatError, PolicyError, VerificationError

DAY = 86400
DEFAULT_DAYS = 180
MAX_DAYS = 366
WARNING_DAYS = 21
"""From so many days before the end on, a client warns."""
CLOCK_TOLERANCE = 300
"""Seconds by which two clocks may be apart."""
LAST_TIME = 253_402_300_799
"""The last second of the year 9999."""


def date(seconds: int) -> str:
    """Unix seconds up to `LAST_TIME` as text ("2027-01-15 08:00:00 UTC")."""
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M:%S} UTC"


def check_times(released: int, expires: int) -> None:
    """Raises FormatError `manifest-times` for times (Unix seconds) that no manifest may have."""
    if not 0 < expires - released <= MAX_DAYS * DAY:
        raise FormatError(
            "manifest-times",
            "the manifest does not expire within a year of its release",
            expected=f"'expires' 1 second to {MAX_DAYS} days after 'released'",
            seen=f"released {date(released)}, expires {date(expires)}",
            next="build the manifest again (`confide manifest build --help`)",
        )


def require_current(released: int, expires: int, *, now: int) -> None:
    """Raises PolicyError if a manifest of these times is not valid at `now` (all Unix seconds).

    The code is `manifest-expired` or `manifest-not-valid-yet`.
    """
    if now >= expires:
        raise PolicyError(
            "manifest-expired",
            f"the manifest expired on {date(expires)}",
            expected="a manifest that is valid now",
            seen=f"the time {shown(now)}",
            next="get the manifest of a newer release, or build a new one",
        )
    if now < released - CLOCK_TOLERANCE:
        raise PolicyError(
            "manifest-not-valid-yet",
            f"the manifest was released on {date(released)}, which is in the future",
            expected="a manifest that is valid now",
            seen=f"the time {shown(now)}",
            next="check the clock of this computer",
        )


def require_near(stated: int, *, now: int) -> None:
    """Raises VerificationError `clocks-apart` if a machine's time is too far from `now`.

    Both are unix seconds; `stated` is at most `LAST_TIME`.
    """
    if abs(stated - now) <= CLOCK_TOLERANCE:
        return
    raise VerificationError(
        "clocks-apart",
        "the coordinator's clock and this one are apart",
        expected=f"at most {CLOCK_TOLERANCE} s",
        seen=f"{abs(stated - now)} s: the coordinator says {date(stated)}, this clock {shown(now)}",
        next="set the clock that is wrong; a machine gets its clock from its host when it starts, "
        "so start it anew",
    )


def warning(expires: int, *, now: int) -> str:
    """What to tell a person shortly before a manifest expires; "" until then."""
    days = (expires - now) // DAY
    if days >= WARNING_DAYS:
        return ""
    left = "less than a day" if days < 1 else "1 day" if days == 1 else f"{days} days"
    return (
        f"the manifest expires in {left}, on {date(expires)}: get the manifest of a newer release"
    )


def shown(now: int) -> str:
    """Any time in unix seconds, as `date` if it has one."""
    return date(now) if 0 <= now <= LAST_TIME else str(now)
