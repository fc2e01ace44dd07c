"""The manifest that this user trusts: one file in the user's configuration.

It is as good as who may write it. So it belongs to the user, and is refused where others may write.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from confide.encoding.files import read_own_file, replace_file
from confide.errors import ConfigError
from confide.protocol.manifest import MAX_MANIFEST

OTHERS_WRITE = 0o022


def trust_file(environment: Mapping[str, str] = os.environ) -> Path:
    """$XDG_CONFIG_HOME/confide/manifest.json (XDG Base Directory Specification 0.8).

    A variable that does not hold an absolute path counts as unset.
    """
    base = Path(environment.get("XDG_CONFIG_HOME", ""))
    if not base.is_absolute():
        base = Path(environment.get("HOME") or "/nonexistent") / ".config"
    return base / "confide" / "manifest.json"


def trusted_manifest() -> bytes | None:
    """Its bytes; None if the user trusts none.

    Raises ConfigError `unsafe-file` if somebody else may write the file, or `unreadable-file`.
    """
    path = trust_file()
    if not os.path.lexists(path):
        return None
    return read_own_file(path, "trusted manifest", MAX_MANIFEST, forbidden=OTHERS_WRITE)


def trust(data: bytes) -> Path:
    """Keep this manifest in place of another one, mode 0600; gives the file. Raises ConfigError."""
    path = trust_file()
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(
            "unwritable-file",
            "the folder for the trusted manifest cannot be made",
            expected=str(path.parent),
            seen=error.strerror or type(error).__name__,
        ) from error
    replace_file(path, data, mode=0o600)
    return path


def forget() -> bool:
    """Trust no manifest any more; False if none was trusted. Raises ConfigError."""
    try:
        trust_file().unlink()
    except FileNotFoundError:
        return False
    except OSError as error:
        raise ConfigError(
            "unwritable-file",
            "the trusted manifest cannot be removed",
            expected=str(trust_file()),
            seen=error.strerror or type(error).__name__,
        ) from error
    return True
