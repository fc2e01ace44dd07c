"""Where a guest finds its config disk's content."""

from __future__ import annotations

from pathlib import Path

from confide.errors import ConfigError
from confide.protocol.configdisk import DISK_SIZE, ConfigDisk

CONFIG_COPY = Path("/run/confide/config")
"""The disk's 64 KiB, copied by root at boot: the role programs may not open disks."""


def read_config(path: Path = CONFIG_COPY) -> ConfigDisk:
    """Read the config disk. Raises ConfigError if there is none, FormatError if it is not one."""
    try:
        with path.open("rb") as file:
            data = file.read(DISK_SIZE + 1)
    except OSError as error:
        raise ConfigError(
            "no-config",
            "this machine was started without a config disk",
            expected=str(path),
            seen=error.strerror or type(error).__name__,
            next="give it one: `confide run` does",
        ) from error
    return ConfigDisk.parse(data)
