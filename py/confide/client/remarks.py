"""What a person must know about a manifest, beside what a verdict says."""

from __future__ import annotations

from collections.abc import Sequence

from confide.protocol import validity
from confide.protocol.manifest import Manifest
from confide.protocol.opt_outs import FOREIGN, as_option

MAX_FOREIGN = 10
"""Most lines about what is not of the client's release."""


def remarks(manifest: Manifest, foreign: Sequence[str] = (), *, now: int) -> list[str]:
    """A line for each opt-out and each foreign part, and one shortly before it expires.

    `foreign` is what of the manifest is not of this client's release. `now` is in Unix seconds.
    """
    lines = [f"NOT CHECKED, because the manifest says so: {name}" for name in manifest.opt_outs]
    word = as_option(FOREIGN)
    lines += [f"NOT THIS CLIENT'S RELEASE ({word}): {part}" for part in foreign[:MAX_FOREIGN]]
    if len(foreign) > MAX_FOREIGN:
        lines.append(f"NOT THIS CLIENT'S RELEASE: {len(foreign) - MAX_FOREIGN} more parts")
    ends = validity.warning(manifest.expires, now=now)
    return [*lines, ends] if ends else lines
