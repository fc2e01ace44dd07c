"""Files that a user names: read whole, up to a limit, or written. Each error names the file."""

from __future__ import annotations

from pathlib import Path

from confide.errors import ConfigError


def read_file(path: Path, what: str, limit: int) -> bytes:
    """A file of at most `limit` bytes. Raises ConfigError."""
    try:
        with path.open("rb") as file:
            data = file.read(limit + 1)
    except OSError as error:
        raise ConfigError(
            "unreadable-file",
            f"the {what} cannot be read",
            expected=str(path),
            seen=error.strerror or type(error).__name__,
        ) from error
    if len(data) > limit:
        raise ConfigError(
            "unreadable-file",
            f"the {what} is too large",
            expected=f"at most {limit} bytes",
            seen=str(path),
        )
    return data


def write_file(path: Path, data: bytes) -> None:
    """Make or replace a file. Raises ConfigError."""
    try:
        path.write_bytes(data)
    except OSError as error:
        raise ConfigError(
            "unwritable-file",
            "the file cannot be written",
            expected=str(path),
            seen=error.strerror or type(error).__name__,
        ) from error
