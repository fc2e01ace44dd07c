"""The release that an installed client came with, as files of this package.

These are the manifest that it pins, and what an operator makes his own manifest of. A checkout has
none here. The wheel takes them from the folder release/.
"""

from __future__ import annotations

from pathlib import Path

FOLDER = Path(__file__).with_name("release")


def released_manifest() -> Path | None:
    """The manifest that a client pins if it is given no other one; None in a checkout."""
    manifest = FOLDER / "development.json"
    return manifest if manifest.is_file() else None
