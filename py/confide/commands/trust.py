"""`confide trust`: keep the manifest of a service, for every client of this user."""

from __future__ import annotations

import argparse
import time
from pathlib import Path

from confide.client.trust import forget, trust, trust_file, trusted_manifest
from confide.commands.options import add_json, read_manifest
from confide.commands.output import identity
from confide.commands.pinned import Pinned, development_refused, examine, no_manifest
from confide.commands.status import ExitStatus
from confide.encoding.console import print_json, say, show
from confide.errors import ConfigError
from confide.protocol.opt_outs import as_option
from confide.protocol.validity import date


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    parser.description = """\
Keeps the manifest of a service: `confide proxy` and `confide verify` then trust exactly
this one. Compare its SHA-256 with the one that the service's operator publishes. Without
FILE, shows what is trusted."""
    parser.add_argument(
        "manifest", type=Path, nargs="?", metavar="FILE", help="the manifest to trust from now on"
    )
    parser.add_argument("--forget", action="store_true", help="trust no manifest any more")
    add_json(parser, "what is trusted")
    parser.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> ExitStatus:
    if options.forget:
        return _forget(options)
    if options.manifest is None:
        data = trusted_manifest()
        if data is None:
            raise no_manifest()
        pinned = examine(data)
    else:
        pinned = examine(read_manifest(options.manifest))
        if pinned.manifest.mode == "development":
            raise development_refused("give --development to each command of a demonstration")
        pinned.manifest.require_current(int(time.time()))
        trust(pinned.data)
    _print(pinned, options)
    return ExitStatus.PASSED


def _forget(options: argparse.Namespace) -> ExitStatus:
    if options.manifest is not None:
        raise ConfigError(
            "bad-options", "--forget takes no manifest", expected="`confide trust --forget`"
        )
    removed = forget()
    if options.json:
        print_json({"passed": True, "forgotten": removed})
    else:
        say("no manifest is trusted any more" if removed else "no manifest was trusted")
    return ExitStatus.PASSED


def _print(pinned: Pinned, options: argparse.Namespace) -> None:
    manifest, path = pinned.manifest, trust_file()
    if options.json:
        print_json(
            {
                "passed": True,
                **identity(manifest),
                "opt_outs": pinned.opt_outs,
                "foreign": pinned.foreign,
                "roles": list(manifest.roles),
                "models": [model.name for model in manifest.models],
                "file": str(path),
            }
        )
        return
    show(
        f"SHA-256  {manifest.sha256.hex()}",
        f"mode     {manifest.mode}",
        f"valid    {date(manifest.released)} to {date(manifest.expires)}",
        f"roles    {', '.join(manifest.roles)}",
        f"models   {', '.join(model.name for model in manifest.models) or 'none'}",
        *(f"opt-out  {name}: clients need {as_option(name)}" for name in pinned.opt_outs),
        *(f"foreign  {part}" for part in pinned.foreign),
        f"kept in  {path}",
    )
