#!/usr/bin/env python3
"""Check that somebody looked for newer floors lately: `make release` runs this on its policy.

Exits 1 if the file's date is more than 180 days ago, or is still to come. Floors age: what was the
newest firmware half a year ago has known faults today.
"""

from __future__ import annotations

import argparse
import json
import sys
from datetime import UTC, date, datetime
from pathlib import Path

MAX_DAYS = 180


def fault(text: str, today: date) -> str:
    """What is wrong with the date of a policy; "" if nothing is."""
    try:
        written = date.fromisoformat(str(json.loads(text)["date"]))
    except (ValueError, KeyError, TypeError) as error:
        return f"no date: expected a field date as YYYY-MM-DD ({type(error).__name__})"
    days = (today - written).days
    if days < 0:
        return f"dated {written}, which is still to come: correct the date"
    if days > MAX_DAYS:
        return (
            f"{days} days old, expected at most {MAX_DAYS}: look for newer bulletins of each "
            "vendor, raise the floors, and set the date"
        )
    return ""


def main() -> int:
    """Print what is wrong; exit 1 if anything is."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("policy", type=Path)
    path = parser.parse_args().policy
    found = fault(path.read_text(), datetime.now(UTC).date())
    if found:
        print(f"{path}: {found}", file=sys.stderr)
    return 1 if found else 0


if __name__ == "__main__":
    raise SystemExit(main())
