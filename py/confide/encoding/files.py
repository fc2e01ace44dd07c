"""Files that a user names: read whole, up to a limit, or written. Each error names the file."""

from __future__ import annotations

import errno
import os
import secrets
import shutil
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
        raise _unwritable(path, error) from error


def replace_file(path: Path, data: bytes) -> None:
    """Make or replace a file as a whole: if that fails, the file has the bytes that it had.

    It keeps its permissions, and a link still leads to it. A device or a pipe is refused: it would
    be gone. Raises ConfigError.
    """
    target = path.resolve()
    new = target.with_name(f".{target.name}.{secrets.token_hex(8)}")
    try:
        if target.exists() and not target.is_file():
            raise OSError(errno.EINVAL, "not a regular file")
        try:
            with new.open("xb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            if target.exists():
                shutil.copymode(target, new)
            new.replace(target)
        finally:
            new.unlink(missing_ok=True)
    except OSError as error:
        raise _unwritable(path, error) from error


def _unwritable(path: Path, error: OSError) -> ConfigError:
    return ConfigError(
        "unwritable-file",
        "the file cannot be written",
        expected=str(path),
        seen=error.strerror or type(error).__name__,
    )
