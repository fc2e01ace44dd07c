"""The worker role of this machine. A measured file of its image names it."""

from __future__ import annotations

from pathlib import Path

from confide.errors import ConfigError
from confide.protocol.roles import WORKERS, Role

ROLE_FILE = Path("/opt/confide/role")


def read_role(path: Path = ROLE_FILE) -> Role:
    """A worker role. Raises ConfigError for an image that names no worker role."""
    try:
        role = path.read_text().strip()
    except (OSError, ValueError) as error:
        role = type(error).__name__
    if role not in WORKERS:
        raise ConfigError(
            "bad-role",
            "this image does not name its worker role",
            expected=f"{' or '.join(WORKERS)} in {path}",
            seen=ascii(role[:80]),
            next="build the image again",
        )
    return Role(role)
