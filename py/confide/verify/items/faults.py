"""Why an item of collateral is refused. Each reason has a code of its own."""

from __future__ import annotations

from collections.abc import Mapping

from confide.errors import PolicyError, VerificationError
from confide.protocol.collateral import Item
from confide.verify.items.dates import Dates
from confide.verify.verdict import Check
from confide.verify.x509 import utc


def not_needed(name: str, expected: str, seen: str) -> PolicyError:
    """No verification by the manifest can take it."""
    return PolicyError(
        "collateral-not-needed",
        f"no machine of the manifest can need {name}",
        expected=expected,
        seen=seen,
        next="bring what `confide collateral fetch` found for a machine of this manifest",
    )


def not_genuine(name: str, expected: str, seen: str) -> VerificationError:
    """Its vendor did not sign it, or not as an item of this name."""
    return VerificationError(
        "collateral-not-genuine",
        f"{name} is not its vendor's",
        expected=expected,
        seen=seen,
        next="fetch it again",
    )


def require(name: str, check: Check) -> None:
    """Raises VerificationError `collateral-not-genuine` if the check failed."""
    if not check.passed:
        raise not_genuine(name, f"{check.name}: {check.expected}", check.seen)


def require_signer(name: str, signer: str, held: Mapping[str, Item]) -> Item:
    """The held item by whose key `name` is checked. Raises VerificationError without one."""
    if signer not in held:
        raise without_signer(name, signer)
    return held[signer]


def without_signer(name: str, signer: str) -> VerificationError:
    """Nobody can tell whether it is genuine."""
    return VerificationError(
        "collateral-without-signer",
        f"the signature of {name} cannot be checked",
        expected=f"{signer}, in the same bundle or earlier",
        seen="none",
        next="bring both; `confide collateral fetch` finds them",
    )


def require_current(name: str, dates: Dates, now: int, *, early: int = 0) -> None:
    """Raises VerificationError if `now` is not in the item's time.

    `early` is by how many seconds it may be used before that begins.
    """
    if now < dates.start - early:
        raise VerificationError(
            "collateral-not-valid-yet",
            f"{name} is not valid yet",
            expected=f"a time from {utc(dates.start)} on",
            seen=utc(now),
            next="check the clock, or bring it later",
        )
    if dates.end is not None and now > dates.end:
        raise VerificationError(
            "collateral-expired",
            f"{name} has expired",
            expected=f"a time until {utc(dates.end)}",
            seen=utc(now),
            next="fetch it again; if it is new, check the clock",
        )
