"""What a person must know about a manifest, beside what a verdict says."""

from __future__ import annotations

from confide.protocol import validity
from confide.protocol.manifest import Manifest


def remarks(manifest: Manifest, *, now: int) -> list[str]:
    """A line for each opt-out, and one shortly before it expires; `now` is in Unix seconds."""
    lines = [f"NOT CHECKED, because the manifest says so: {name}" for name in manifest.opt_outs]
    ends = validity.warning(manifest.expires, now=now)
    return [*lines, ends] if ends else lines
