"""The worker role of this machine. A measured file of its image names it."""

from __future__ import annotations

from pathlib import Path

from confide.errors import ConfigError

ROLE_FILE = Path("/opt/confide/role")
CPU = "worker-cpu"
GPU = "worker-gpu"


def read_role(path: Path = ROLE_FILE) -> str:
    """CPU or GPU. Raises ConfigError for an image that names neither."""
    try:
        role = path.read_text().strip()
    except (OSError, ValueError) as error:
        role = type(error).__name__
    if role not in (CPU, GPU):
        raise ConfigError(
            "bad-role",
            "this image does not name its worker role",
            expected=f"{CPU} or {GPU} in {path}",
            seen=ascii(role[:80]),
            next="build the image again",
        )
    return role
