"""`confide model`: make model disks, and verify them."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable, Sequence
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

from confide.encoding.files import read_file
from confide.encoding.messages import read_value
from confide.encoding.texts import check_name, from_hex
from confide.errors import ConfideError, ConfigError, FormatError, UnavailableError
from confide.host.manifest_builder import read_model
from confide.host.model import check
from confide.host.model.pack import pack, write_entry
from confide.host.model.progress import Meter
from confide.host.model.source import scan
from confide.protocol.engine_options import ENGINE_OPTIONS, OPTIONS, EngineOptions
from confide.protocol.manifest import MAX_MANIFEST, Manifest
from confide.protocol.roles import WORKERS, Role, Task
from measure.kinds import Integer

PASSED, FAILED, USAGE = 0, 1, 2
MAX_DIGITS = 19
TOOLS_VARIABLE = "CONFIDE_MODEL_TOOLS"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; 0 if all is well, 1 if a disk is wrong or something failed, 2 for usage."""
    options = _parser().parse_args(argv)
    run: Callable[[argparse.Namespace], dict[str, object]] = options.run
    try:
        result = _run(run, options)
    except ConfideError as error:
        if options.json:
            print(json.dumps({"passed": False, "error": error.to_dict()}, indent=2))
        else:
            print(f"confide model: {error}", file=sys.stderr)
        return USAGE if isinstance(error, ConfigError) else FAILED
    except KeyboardInterrupt:
        print("\nconfide model: interrupted; the same command goes on with it", file=sys.stderr)
        return FAILED
    if options.json:
        print(json.dumps({"passed": True, **result}, indent=2))
    else:
        for name, value in result.items():
            text = json.dumps(value, sort_keys=True) if isinstance(value, dict) else value
            print(f"{name.replace('_', ' '):<12} {text}")
    return PASSED


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="confide model",
        description=__doc__,
        epilog="Exit status: 0 all is well, 1 a disk is wrong or cannot be read, 2 usage.",
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    command = commands.add_parser(
        "pack",
        help="make a model disk of a model's folder",
        description="Makes a disk with the model's files and their hash tree, and beside it the "
        "model's entry for a manifest. The same files give the same bits everywhere. If it is "
        "interrupted, the same command goes on where it was.",
    )
    command.add_argument("folder", type=Path, metavar="DIR", help="as Hugging Face lays it out")
    command.add_argument("-o", "--output", type=Path, required=True, metavar="FILE")
    command.add_argument("--name", help="the model's name in the API (default: the folder's)")
    command.add_argument(
        "--task", nargs="+", choices=list(map(str, Task)), default=list(map(str, Task))
    )
    command.add_argument(
        "--role", nargs="+", choices=list(map(str, WORKERS)), default=[str(Role.WORKER_GPU)]
    )
    command.add_argument(
        "--engine",
        nargs="+",
        default=[],
        metavar="NAME=VALUE",
        help=f"options of the model's engine: {', '.join(OPTIONS)}",
    )
    command.add_argument("--tools", type=Path, metavar="DIR", help=f"default: ${TOOLS_VARIABLE}")
    command.add_argument("--json", action="store_true", help="the result as JSON")
    command.set_defaults(run=_pack)

    command = commands.add_parser(
        "verify",
        help="check every block of a model disk",
        description="Computes the hash tree of a disk again, and says where the first wrong block "
        "is. Without options, by the entry that `pack` wrote beside the disk.",
    )
    command.add_argument("disk", type=Path, metavar="DISK")
    by = command.add_mutually_exclusive_group()
    by.add_argument("--root-hash", metavar="HEX", help="what the disk must have")
    by.add_argument("--manifest", type=Path, metavar="FILE", help="with --model")
    command.add_argument("--model", metavar="NAME", help="which model of the manifest")
    command.add_argument("--json", action="store_true", help="the result as JSON")
    command.set_defaults(run=_verify)
    return parser


def _run(
    run: Callable[[argparse.Namespace], dict[str, object]], options: argparse.Namespace
) -> dict[str, object]:
    """Run a command; what the system refuses becomes an error that says so."""
    try:
        return run(options)
    except OSError as error:
        raise UnavailableError(
            "io-error",
            "a file cannot be read or written",
            seen=f"{error.filename or 'while reading or writing'}: {error.strerror}",
            next="mend that; the same command then goes on with it",
        ) from error
    except BrokenProcessPool as error:
        raise UnavailableError(
            "process-ended",
            "a process that was hashing was ended by the system",
            expected="about 50 MiB of memory for each processor",
            next="the same command goes on with it",
        ) from error


def _pack(options: argparse.Namespace) -> dict[str, object]:
    try:
        name = check_name(options.name or options.folder.resolve().name, "the model's name")
    except FormatError as error:
        raise ConfigError(
            error.code, error.message, expected=error.expected, seen=error.seen, next="give --name"
        ) from error
    engine = engine_options(options.engine)
    tools = options.tools or os.environ.get(TOOLS_VARIABLE)
    if not tools:
        raise ConfigError(
            "no-model-tools",
            f"{TOOLS_VARIABLE} is not set",
            expected="a folder with bin/mkfs.erofs",
            next="use `nix run .#pack`, or set it to the result of `nix build .#model-tools`",
        )
    source = scan(options.folder)
    if source.left_out:
        print(f"left out, as hidden: {', '.join(source.left_out)}", file=sys.stderr)
    disk = pack(source, options.output, Path(tools), lambda total: Meter("packing", total))
    entry = disk.entry(name, options.task, options.role, engine)
    write_entry(entry_file(options.output), entry)
    return {
        "name": name,
        "disk": str(options.output),
        "files": len(source.files),
        "size": disk.size,
        "root_hash": disk.root_hash.hex(),
        "hash_offset": disk.hash_offset,
        "sha256": disk.sha256.hex(),
        "entry_file": str(entry_file(options.output)),
        "entry": entry,
    }


def engine_options(words: Sequence[str]) -> EngineOptions:
    """The options in words NAME=VALUE. Raises ConfigError."""
    given: dict[str, object] = {}
    for word in words:
        name, equals, value = word.partition("=")
        if not equals or name in given:
            raise ConfigError(
                "engine-option",
                "an engine option is not understood",
                expected="NAME=VALUE, each name once",
                seen=ascii(word[:80]),
            )
        is_number = value.isascii() and value.isdecimal() and len(value) < MAX_DIGITS
        is_integer = isinstance(OPTIONS.get(name), Integer)
        given[name] = int(value) if is_integer and is_number else value
    try:
        options: EngineOptions = read_value(ENGINE_OPTIONS, given, "the engine's options")
    except FormatError as error:
        raise ConfigError(
            error.code, error.message, expected=error.expected, seen=error.seen
        ) from error
    return options


def entry_file(disk: Path) -> Path:
    """Where `pack` writes a disk's entry: model.disk has model.json."""
    return disk.with_name(disk.name.removesuffix(".disk") + ".json")


def _verify(options: argparse.Namespace) -> dict[str, object]:
    if (options.manifest is None) != (options.model is None):
        raise ConfigError("bad-options", "--manifest and --model belong together")
    if options.root_hash is not None:
        try:
            root = from_hex(options.root_hash, 32, "--root-hash")
        except FormatError as error:
            raise ConfigError(
                error.code, error.message, expected=error.expected, seen=error.seen
            ) from error
        hash_offset = check.hash_offset_of(options.disk)
    else:
        if options.manifest is not None:
            manifest = Manifest.parse(read_file(options.manifest, "manifest", MAX_MANIFEST))
            model = manifest.model(options.model)
        else:
            model = read_model(entry_file(options.disk))
        root, hash_offset = model.root_hash, model.hash_offset
    size = check.verify(options.disk, root, hash_offset, lambda total: Meter("verifying", total))
    return {
        "disk": str(options.disk),
        "root_hash": root.hex(),
        "hash_offset": hash_offset,
        "checked": size,
    }


if __name__ == "__main__":
    sys.exit(main())
