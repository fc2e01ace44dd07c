"""The release that a client came with: its references, its policy and its development manifest.

The wheel has them in this package, the programs that Nix builds in a folder of their own, and a
checkout in release/.
"""

from __future__ import annotations

import os
from pathlib import Path

from confide.errors import ConfigError

VARIABLE = "CONFIDE_RELEASE"
"""Set by the programs that Nix builds, whatever their environment says. A wheel ignores it."""

_PACKAGED = Path(__file__).with_name("release")
_CHECKOUT = Path(__file__).parents[3]


def release_folder() -> Path:
    """The folder with development.json, policy.json and references.json.

    Raises ConfigError `no-release` if this client was taken apart.
    """
    if _PACKAGED.is_dir():
        return _PACKAGED
    if given := os.environ.get(VARIABLE):
        return Path(given)
    if (_CHECKOUT / "py/confide").is_dir():
        return _CHECKOUT / "release"
    raise ConfigError(
        "no-release",
        "this client does not have the files of its release",
        expected=f"the folder {_PACKAGED}",
        next="install the client again",
    )
