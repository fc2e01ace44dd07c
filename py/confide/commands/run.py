"""`confide run`: boot one image on this computer until it is interrupted."""

from __future__ import annotations

import argparse
import json
import signal
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

from confide.errors import ConfideError, ConfigError
from confide.host.runner.qemu import Tools
from confide.host.runner.vm import Machine
from confide.protocol.roles import Role

POLL_SECONDS = 0.5
DEFAULT_TIMEOUT = 300.0


def parser() -> argparse.ArgumentParser:
    """The command's options."""
    options = argparse.ArgumentParser(
        prog="confide run",
        description="Boot an image with a TPM, without root, until Ctrl-C. The development CA "
        "certifies the TPM: this protects nothing against whoever controls this computer.",
        epilog="Exit status: 0 interrupted, 1 the machine did not come up or ended, 2 usage.",
    )
    options.add_argument("image", type=Path, help="folder with disk.raw, as the flake builds it")
    options.add_argument(
        "--role", choices=list(map(str, Role)), help="default: what the image's file role says"
    )
    options.add_argument("--coordinator", metavar="URL", help="as other machines reach it")
    options.add_argument("--secret-service", metavar="URL", default="", help="likewise")
    options.add_argument("--model", metavar="NAME", action="append", default=[], dest="models")
    options.add_argument("--model-disk", metavar="FILE", type=Path, action="append", default=[])
    options.add_argument(
        "--port",
        metavar="GUEST:HOST",
        type=_port_pair,
        action="append",
        help="forward 127.0.0.1:HOST to the machine's port GUEST (HOST 0: any free port)",
    )
    options.add_argument("--memory", metavar="MIB", type=int)
    options.add_argument("--cpus", metavar="N", type=int)
    options.add_argument("--run-dir", metavar="FOLDER", type=Path, help="for the console log")
    options.add_argument("--tools", metavar="FOLDER", type=Path, help="default: $CONFIDE_QEMU")
    options.add_argument("--timeout", metavar="SECONDS", type=float, default=DEFAULT_TIMEOUT)
    options.add_argument("--json", action="store_true", help="say what runs where as one JSON line")
    return options


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command, returns its exit status."""
    options = parser().parse_args(argv)
    interrupted = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: interrupted.set())
    try:
        machine = _machine(options)
        with machine:
            return _run(machine, options, interrupted)
    except ConfideError as error:
        print(json.dumps({"error": error.to_dict()}) if options.json else error, file=sys.stderr)
        return 1


def _machine(options: argparse.Namespace) -> Machine:
    config = None
    if options.coordinator is not None:
        config = {
            "coordinator": options.coordinator,
            "secret_service": options.secret_service,
            "models": options.models,
        }
    elif options.secret_service or options.models:
        raise ConfigError(
            "bad-config",
            "a machine that has a secret service or models needs a coordinator",
            expected="--coordinator URL",
            seen="none",
        )
    return Machine(
        options.image,
        options.role or _role_of(options.image),
        run_dir=options.run_dir,
        config=config,
        model_disks=options.model_disk,
        ports=dict(options.port) if options.port else None,
        tools=Tools.find(options.tools),
        memory_mib=options.memory,
        cpus=options.cpus,
    )


def _run(machine: Machine, options: argparse.Namespace, interrupted: threading.Event) -> int:
    facts = {
        "role": machine.role,
        "url": machine.url,
        "ports": {str(guest): host for guest, host in machine.ports.items()},
        "console": str(machine.console),
    }
    if not options.json:
        print(f"{machine.role} boots; console: {machine.console}", flush=True)
    machine.wait_ready(options.timeout, interrupted)
    if interrupted.is_set():
        return 0
    if options.json:
        print(json.dumps(facts), flush=True)
    else:
        print(f"{machine.role} answers at {machine.url}; Ctrl-C ends it", flush=True)
    while not interrupted.wait(POLL_SECONDS):
        if not machine.running:
            raise machine.failure("ended", "power off")
    return 0


def _role_of(image: Path) -> str:
    try:
        role = (image / "role").read_text().strip()
    except OSError as error:
        raise ConfigError(
            "no-role",
            "nothing says which role the image has",
            expected=f"{image / 'role'}",
            seen=error.strerror or type(error).__name__,
            next="give --role, or name the folder that the flake built",
        ) from error
    if role not in set(Role):
        raise ConfigError(
            "no-role", "the image has an unknown role", expected=", ".join(Role), seen=ascii(role)
        )
    return role


def _port_pair(text: str) -> tuple[int, int]:
    guest, colon, host = text.partition(":")
    if not (colon and guest.isdecimal() and host.isdecimal()):
        raise argparse.ArgumentTypeError("expected GUEST:HOST, two numbers")
    pair = int(guest), int(host)
    if not (1 <= pair[0] <= 65535 and 0 <= pair[1] <= 65535):
        raise argparse.ArgumentTypeError("a port is at most 65535")
    return pair
