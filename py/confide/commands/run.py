"""`confide run`: boot one image on this computer, for one manifest, until it is interrupted."""

from __future__ import annotations

import argparse
import signal
import threading
from pathlib import Path

from confide.commands.options import add_json, read_manifest
from confide.commands.status import ExitStatus
from confide.encoding.console import print_json, say, show
from confide.errors import ConfigError
from confide.host.runner.qemu import Tools
from confide.host.runner.restarts import run_anew
from confide.host.runner.vm import Machine
from confide.protocol.configdisk import ConfigDisk
from confide.protocol.launch import UNBOUND
from confide.protocol.manifest import Manifest
from confide.protocol.roles import Role

POLL_SECONDS = 0.5
"""Between two looks at a machine that runs."""

DEFAULT_TIMEOUT = 300.0
"""Seconds; an emulated machine takes most of a minute."""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    parser.description = """\
Boots an image with a TPM until Ctrl-C; needs no root rights. The machine is bound to
one manifest, or to none, before it has a network. The development CA certifies the TPM,
so nothing is protected against the person who controls this computer."""
    parser.add_argument("image", type=Path, help="folder with disk.raw, as the flake builds it")
    binding = parser.add_mutually_exclusive_group(required=True)
    binding.add_argument(
        "--manifest", metavar="FILE", type=Path, help="the manifest that the machine is for"
    )
    binding.add_argument(
        "--inventory",
        action="store_true",
        help="bind the machine to no manifest: it attests, and does nothing else",
    )
    parser.add_argument(
        "--role",
        choices=list(map(str, Role)),
        help="default: the content of the image's file `role`",
    )
    parser.add_argument(
        "--coordinator",
        metavar="URL",
        default="",
        help="the coordinator's address, as other machines reach it",
    )
    parser.add_argument(
        "--secret-service",
        metavar="URL",
        action="append",
        default=[],
        help="a secret service's address, likewise; repeat it for more, up to 8",
    )
    parser.add_argument(
        "--model",
        metavar="NAME",
        action="append",
        default=[],
        dest="models",
        help="a model to serve; repeat it for more",
    )
    parser.add_argument(
        "--model-disk",
        metavar="FILE",
        type=Path,
        action="append",
        default=[],
        help="a model disk to attach; repeat it for more",
    )
    parser.add_argument(
        "--port",
        metavar="GUEST:HOST",
        type=_port_pair,
        action="append",
        help="forward 127.0.0.1:HOST to the machine's port GUEST (HOST 0: any free port)",
    )
    parser.add_argument("--memory", metavar="MIB", type=int, help="default: depends on the role")
    parser.add_argument("--cpus", metavar="N", type=int, help="default: depends on the role")
    parser.add_argument(
        "--run-dir", metavar="DIR", type=Path, help="keep the console log here (default: a new one)"
    )
    parser.add_argument(
        "--tools", metavar="DIR", type=Path, help="QEMU, swtpm, firmware (default: $CONFIDE_QEMU)"
    )
    parser.add_argument(
        "--timeout",
        metavar="SECONDS",
        type=float,
        default=DEFAULT_TIMEOUT,
        help="how long the boot may take (default: %(default).0f)",
    )
    parser.add_argument(
        "--restart",
        action="store_true",
        help="start the machine anew whenever it has ended; keep the console of each boot",
    )
    add_json(parser, "the addresses in one line")
    parser.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> ExitStatus:
    interrupted = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: interrupted.set())
    machine = _machine(options)
    if options.restart:
        run_anew(machine, lambda: _serve(machine, options, interrupted), interrupted, say)
    else:
        with machine:
            _serve(machine, options, interrupted)
    return ExitStatus.PASSED


def _machine(options: argparse.Namespace) -> Machine:
    if not options.coordinator and (options.secret_service or options.models):
        raise ConfigError(
            "bad-config",
            "a machine with a secret service or models needs a coordinator",
            expected="--coordinator URL",
            seen="no --coordinator",
        )
    return Machine(
        options.image,
        options.role or _role_of(options.image),
        run_dir=options.run_dir,
        config=ConfigDisk(
            _binding(options.manifest),
            options.coordinator,
            tuple(options.secret_service),
            tuple(options.models),
        ),
        model_disks=options.model_disk,
        ports=dict(options.port) if options.port else None,
        tools=Tools.find(options.tools),
        memory_mib=options.memory,
        cpus=options.cpus,
    )


def _binding(manifest: Path | None) -> bytes:
    """What the machine is bound to; without a manifest, to none."""
    return UNBOUND if manifest is None else Manifest.parse(read_manifest(manifest)).sha256


def _serve(machine: Machine, options: argparse.Namespace, interrupted: threading.Event) -> None:
    """Wait until the machine is ready, say where it is, wait for Ctrl-C."""
    bound = "no manifest: it attests only" if options.inventory else f"{options.manifest}"
    say(f"booting the {machine.role} for {bound}; its console is in {machine.console}")
    machine.wait_ready(options.timeout, interrupted)
    if options.json and not interrupted.is_set():
        facts = {
            "role": machine.role,
            "url": machine.url,
            "ports": {str(guest): host for guest, host in machine.ports.items()},
            "console": str(machine.console),
        }
        print_json(facts, indent=None)
    elif not interrupted.is_set():
        show(f"the {machine.role} is ready at {machine.url}; Ctrl-C stops it")
    while not interrupted.wait(POLL_SECONDS):
        if not machine.running:
            raise machine.failure("ended", "power off")


def _role_of(image: Path) -> str:
    try:
        role = (image / "role").read_text().strip()
    except OSError as error:
        raise ConfigError(
            "no-role",
            "the role of the image is unknown",
            expected=f"{image / 'role'}",
            seen=error.strerror or type(error).__name__,
            next="give --role, or give the folder that the flake built",
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
        raise argparse.ArgumentTypeError("GUEST is 1 to 65535, HOST is 0 to 65535")
    return pair
