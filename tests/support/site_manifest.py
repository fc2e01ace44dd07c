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
SITE = Site(platform_instances=(bytes(15) + b"m",))

Change = Callable[[dict[str, Any]], object]


def site_manifest(*changes: Change, site: Site = SITE) -> bytes:
    """A production manifest of today for the machines of `site`, altered by each of `changes`."""
    references = References.read(RELEASE / "references.json")
    data = build_manifest(references, [], Policy.read(RELEASE / "policy.json").of_site(site))
    value = json.loads(stamp(data, now=int(time.time())))
    for change in changes:
        change(value)
    return json_encode(value)
