"""A site's manifest, made of the committed release, and ways to change it."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from confide.encoding.canonical import json_encode
from confide.host.manifest_builder import Policy, build_manifest, stamp
from confide.host.references import References
from confide.host.site import Site

RELEASE = Path(__file__).resolve().parents[2] / "release"
MACHINE = bytes(15) + b"m"

Change = Callable[[dict[str, Any]], object]


def site_manifest(*changes: Change, policy: str = "policy.json") -> bytes:
    """A production manifest of today for one machine, whose value each of `changes` has altered."""
    references = References.read(RELEASE / "references.json")
    site = Site(platform_instances=(MACHINE,))
    data = build_manifest(references, [], Policy.read(RELEASE / policy).of_site(site))
    value = json.loads(stamp(data, now=int(time.time())))
    for change in changes:
        change(value)
    return json_encode(value)
