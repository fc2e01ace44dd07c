"""The content of a guest's config disk."""

from __future__ import annotations

from pathlib import Path

from confide.errors import ConfigError
from confide.protocol.configdisk import DISK_SIZE, ConfigDisk

CONFIG_COPY = Path("/run/confide/config")
"""The 64 KiB of the disk. Root copies them at boot, as the role's program may not open disks."""


def read_disk(path: Path = CONFIG_COPY) -> ConfigDisk:
    """Read the config disk. Raises ConfigError if it is missing, FormatError if it is malformed."""
    try:
        with path.open("rb") as file:
            data = file.read(DISK_SIZE + 1)
    except OSError as error:
        raise ConfigError(
            "no-config",
            "this machine has no config disk",
            expected=str(path),
            seen=error.strerror or type(error).__name__,
            next="start it with `confide run`",
        ) from error
    return ConfigDisk.parse(data)


def read_config(path: Path = CONFIG_COPY) -> ConfigDisk:
    """The config disk of a node, which names a coordinator. Raises as `read_disk` does."""
    config = read_disk(path)
    if not config.coordinator:
        raise ConfigError(
            "no-coordinator",
            "this machine's config disk names no coordinator",
            expected="http://HOST[:PORT]",
            seen="an empty text",
            next="start it with `confide run --coordinator URL`",
        )
    return config
