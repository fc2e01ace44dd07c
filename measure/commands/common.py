"""What several commands need: registering a parser, reading inputs, writing outputs."""

from __future__ import annotations

import argparse
import mmap
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

from measure import binding
from measure.binding import LaunchField
from measure.errors import InputError
from measure.output import say
from measure.status import ExitStatus

Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"

MAX_FILE = 64 << 20
"""Bytes; a firmware may have as many, measurements and logs have far fewer."""

MAX_BOOT_FILE = 1 << 30
"""Bytes of a kernel, an initrd or a unified kernel image."""

Run = Callable[[argparse.Namespace], ExitStatus]


def register(
    commands: Commands, name: str, run: Run | None, text: str, example: str
) -> argparse.ArgumentParser:
    """A parser for one command.

    Args:
        commands: where it goes.
        name: as typed.
        run: what it does; None if it only has commands of its own.
        text: one clause, in lower case.
        example: a command line that works, from the command's name on.
    """
    parser = commands.add_parser(
        name,
        help=text,
        description=text[0].upper() + text[1:] + ".",
        epilog=f"example:\n  python -m measure {example}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    if run is not None:
        parser.set_defaults(run=run)
    return parser


def read(path: str, limit: int = MAX_FILE) -> bytes:
    """A file's content.

    Raises:
        InputError: it cannot be read, or has more than `limit` bytes.
    """
    try:
        with Path(path).open("rb") as file:
            data = file.read(limit + 1)
    except OSError as error:
        raise InputError(f"cannot read: {error.strerror}", file=path) from None
    if len(data) > limit:
        raise InputError("too large", file=path, expected=f"at most {limit} bytes")
    return data


def map_file(path: str) -> memoryview:
    """A file's content without reading it all; disks are large and mostly hashed once.

    Raises:
        InputError: it cannot be read.
    """
    try:
        with Path(path).open("rb") as file:
            if os.fstat(file.fileno()).st_size == 0:
                return memoryview(b"")
            return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
    except OSError as error:
        raise InputError(f"cannot read: {error.strerror}", file=path) from None


def write(path: str | None, data: bytes) -> None:
    """Writes to a file, or to standard output if there is no path.

    Raises:
        InputError: it cannot be written.
    """
    if path is None:
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()
        return
    try:
        Path(path).write_bytes(data)
    except OSError as error:
        raise InputError(f"cannot write: {error.strerror}", file=path) from None


def add_manifest(parser: argparse.ArgumentParser) -> None:
    """`--manifest`: its bytes say what a launch has to carry."""
    parser.add_argument(
        "--manifest",
        metavar="FILE",
        help="also print what binds a launch to this manifest: SHA-256 of the file's bytes",
    )


def bound(field: LaunchField, options: argparse.Namespace) -> bytes | None:
    """What the launch has to carry in this field for `--manifest`, None without that option.

    Raises:
        InputError: the file cannot be read, is empty, or larger than a manifest can be.
    """
    if options.manifest is None:
        return None
    return field.value(read(options.manifest, binding.MAX_MANIFEST), options.manifest)


def launch_json(field: LaunchField, value: bytes | None) -> dict[str, Any]:
    """The same for scripts: nothing, or one entry."""
    if value is None:
        return {}
    return {
        "launch_binding": {
            "field": field.name,
            "value": value.hex(),
            "qemu": field.argument(value),
        }
    }


def progress(text: str) -> None:
    """Tells a person at a terminal what takes time; says nothing to a script."""
    if sys.stderr.isatty():
        say(f"{text} ...")
