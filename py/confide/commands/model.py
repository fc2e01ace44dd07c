"""`confide model`: make model disks, and verify them."""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Callable, Sequence
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

from confide.commands.status import ExitStatus
from confide.encoding.console import print_json, say, show
from confide.encoding.files import read_file
from confide.encoding.messages import read_value
from confide.encoding.texts import check_name, from_hex
from confide.errors import ConfigError, FormatError, UnavailableError
from confide.host.manifest_builder import read_model
from confide.host.model import check
from confide.host.model.loadable import require_loadable
from confide.host.model.outputs import Outputs, write_entry
from confide.host.model.pack import pack
from confide.host.model.progress import Meter
from confide.host.model.source import scan
from confide.protocol.engine_options import ENGINE_OPTIONS, OPTIONS, EngineOptions
from confide.protocol.manifest import MAX_MANIFEST, Manifest
from confide.protocol.roles import WORKERS, Role, Task
from measure.kinds import Integer

MAX_DIGITS = 19
TOOLS_VARIABLE = "CONFIDE_MODEL_TOOLS"


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    parser.description = "Make model disks, and verify them."
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    command = commands.add_parser(
        "pack",
        help="make a model disk from a model's folder",
        description="Checks that the engine can load the model. Then makes a disk with the model's "
        "files and their hash tree, and writes the model's entry for a manifest beside it. The "
        "same files give the same bits on every machine. After an interruption, run the same "
        "command again: it continues where it stopped.",
    )
    command.add_argument(
        "folder",
        type=Path,
        metavar="DIR",
        help="the model, as Hugging Face lays it out: a download, or a snapshot in its cache",
    )
    command.add_argument(
        "-o",
        "--output",
        type=Path,
        required=True,
        metavar="FILE",
        help="the disk to make, outside DIR",
    )
    command.add_argument("--name", help="the model's name in the API (default: the folder's name)")
    command.add_argument(
        "--task",
        nargs="+",
        choices=list(map(str, Task)),
        default=list(map(str, Task)),
        help="what the model serves (default: all)",
    )
    command.add_argument(
        "--role",
        nargs="+",
        choices=list(map(str, WORKERS)),
        default=[str(Role.WORKER_GPU)],
        help="which workers serve the model (default: worker-gpu)",
    )
    command.add_argument(
        "--engine",
        nargs="+",
        default=[],
        metavar="NAME=VALUE",
        help=f"options of the model's engine: {', '.join(OPTIONS)}",
    )
    command.add_argument(
        "--tools",
        type=Path,
        metavar="DIR",
        help=f"the folder with bin/mkfs.erofs (default: ${TOOLS_VARIABLE})",
    )
    command.add_argument("--json", action="store_true", help="print the result as JSON")
    command.set_defaults(run=_run, work=_pack)

    command = commands.add_parser(
        "verify",
        help="check every block of a model disk",
        description="Computes the hash tree of a disk again, and says where the first wrong block "
        "is. Without options, the root hash comes from the entry that `pack` wrote beside it.",
    )
    command.add_argument("disk", type=Path, metavar="DISK", help="a file or a block device")
    by = command.add_mutually_exclusive_group()
    by.add_argument("--root-hash", metavar="HEX", help="the root hash that the disk must have")
    by.add_argument(
        "--manifest",
        type=Path,
        metavar="FILE",
        help="a manifest with the root hash; needs --model",
    )
    command.add_argument("--model", metavar="NAME", help="the model's name in the manifest")
    command.add_argument("--json", action="store_true", help="print the result as JSON")
    command.set_defaults(run=_run, work=_verify)


def _run(options: argparse.Namespace) -> ExitStatus:
    """Do the work and print its result, and turn errors of the operating system into ours."""
    work: Callable[[argparse.Namespace], dict[str, object]] = options.work
    try:
        result = work(options)
    except OSError as error:
        raise UnavailableError(
            "io-error",
            "a file cannot be read or written",
            seen=f"{error.filename or 'while reading or writing'}: {error.strerror}",
            next="solve this, then run the same command again: it continues",
        ) from error
    except BrokenProcessPool as error:
        raise UnavailableError(
            "process-ended",
            "the operating system ended a process that was hashing",
            expected="about 50 MiB of memory for each processor",
            next="free some memory, then run the same command again: it continues",
        ) from error
    except KeyboardInterrupt:
        say("run the same command again to continue", interrupted=True)
        raise
    if options.json:
        print_json({"passed": True, **result})
    else:
        for name, value in result.items():
            text = json.dumps(value, sort_keys=True) if isinstance(value, dict) else value
            show(f"{name.replace('_', ' '):<12} {text}")
    return ExitStatus.PASSED


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
        say(f"not packed, because hidden: {', '.join(source.left_out)}")
    for note in require_loadable(source, options.task):
        say(note)
    outputs = Outputs(options.output)
    disk = pack(source, outputs.disk, Path(tools), lambda total: Meter("packing", total))
    entry = disk.entry(name, options.task, options.role, engine)
    write_entry(outputs.entry, entry)
    return {
        "name": name,
        "disk": str(options.output),
        "files": len(source.files),
        "size": disk.size,
        "root_hash": disk.root_hash.hex(),
        "hash_offset": disk.hash_offset,
        "sha256": disk.sha256.hex(),
        "entry_file": str(outputs.entry),
        "entry": entry,
    }


def engine_options(words: Sequence[str]) -> EngineOptions:
    """Read engine options from words NAME=VALUE.

    Raises:
        ConfigError: "engine-option": a word has another form, or a name is not allowed or comes
            twice. "bad-field": a value is not allowed.
    """
    given: dict[str, object] = {}
    for word in words:
        name, equals, value = word.partition("=")
        if not equals or name in given:
            raise ConfigError(
                "engine-option",
                "an engine option is malformed",
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


def _verify(options: argparse.Namespace) -> dict[str, object]:
    if (options.manifest is None) != (options.model is None):
        raise ConfigError(
            "bad-options",
            "one of --manifest and --model is missing",
            expected="both or neither",
            next="give both: the manifest, and which of its models is on the disk",
        )
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
            model = read_model(Outputs(options.disk).entry)
        root, hash_offset = model.root_hash, model.hash_offset
    size = check.verify(options.disk, root, hash_offset, lambda total: Meter("verifying", total))
    return {
        "disk": str(options.disk),
        "root_hash": root.hex(),
        "hash_offset": hash_offset,
        "checked": size,
    }
