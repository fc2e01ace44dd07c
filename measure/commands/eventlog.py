"""`measure eventlog`: an event log and the registers it replays to."""

from __future__ import annotations

import argparse

from measure import eventlog, explain
from measure.commands.common import SAME, Commands, read, register


def add(commands: Commands) -> None:
    """Registers the command."""
    parser = register(
        commands,
        "eventlog",
        run,
        "print an event log and the registers it replays to",
        "eventlog binary_bios_measurements",
    )
    parser.add_argument("log", help="a binary_bios_measurements file")


def run(options: argparse.Namespace) -> int:
    """Runs the command."""
    log = eventlog.parse(read(options.log), options.log)
    for event in log.events:
        digest = event.digests.get("sha256", b"").hex() or "-"
        print(f"{event.pcr:>2} {event.type_name:<30} {digest} {explain.summary(event)}")
    for bank in log.banks:
        for number, value in sorted(log.replay(bank).items()):
            print(f"{bank} {number:>2} {value.hex()}")
    return SAME
