"""Files that a user names: read whole, up to a limit, or written. Each error names the file."""

from __future__ import annotations

import errno
import os
import secrets
import shutil
import stat
from pathlib import Path

from confide.errors import ConfigError


def read_file(path: Path, what: str, limit: int) -> bytes:
    """A file of at most `limit` bytes. Raises ConfigError."""
    try:
        with path.open("rb") as file:
            data = file.read(limit + 1)
    except OSError as error:
        raise _unreadable(path, what, error) from error
    if len(data) > limit:
        raise _too_large(path, what, limit)
    return data


def read_own_file(path: Path, what: str, limit: int, *, forbidden: int) -> bytes:
    """A regular file of this user or of root, of at most `limit` bytes, safe from other users.

    Its mode may have none of the bits `forbidden`, such as 0o077. Raises ConfigError `unsafe-file`
    or `unreadable-file`.
    """
    try:
        # Not to wait for the other end of a pipe.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(descriptor, "rb") as file:
            status = os.fstat(descriptor)
            safe = (
                stat.S_ISREG(status.st_mode)
                and status.st_uid in (os.geteuid(), 0)
                and not status.st_mode & forbidden
            )
            data = file.read(limit + 1) if safe else b""
    except OSError as error:
        raise _unreadable(path, what, error) from error
    if not safe:
        raise ConfigError(
            "unsafe-file",
            f"other users may reach the {what} {path}",
            expected=f"a regular file of this user, without the permissions {forbidden:#o}",
            seen=stat.filemode(status.st_mode) + f" of user {status.st_uid}",
            next=f"chmod 600 {path}",
        )
    if len(data) > limit:
        raise _too_large(path, what, limit)
    return data


def write_file(path: Path, data: bytes) -> None:
    """Make or replace a file. Raises ConfigError."""
    try:
        path.write_bytes(data)
    except OSError as error:
        raise _unwritable(path, error) from error


def replace_file(path: Path, data: bytes, *, mode: int | None = None) -> None:
    """Make or replace a file as a whole: if that fails, the file has the bytes that it had.

    It keeps its permissions, or gets `mode`, and a link still leads to it. A device or a pipe is
    refused: it would be gone. Raises ConfigError.
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
            if mode is not None:
                new.chmod(mode)
            elif target.exists():
                shutil.copymode(target, new)
            new.replace(target)
        finally:
            new.unlink(missing_ok=True)
    except OSError as error:
        raise _unwritable(path, error) from error


def _unreadable(path: Path, what: str, error: OSError) -> ConfigError:
    return ConfigError(
        "unreadable-file",
        f"the {what} cannot be read",
        expected=str(path),
        seen=error.strerror or type(error).__name__,
    )


def _too_large(path: Path, what: str, limit: int) -> ConfigError:
    return ConfigError(
        "unreadable-file",
        f"the {what} is too large",
        expected=f"at most {limit} bytes",
        seen=str(path),
    )


def _unwritable(path: Path, error: OSError) -> ConfigError:
    return ConfigError(
        "unwritable-file",
        "the file cannot be written",
        expected=str(path),
        seen=error.strerror or type(error).__name__,
    )
