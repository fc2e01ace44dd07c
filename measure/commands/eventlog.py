"""`measure eventlog`: a log, the registers it replays to, and where it contradicts itself."""

from __future__ import annotations

import argparse

from measure import ccel, eventcheck, eventlog
from measure.commands.common import DIFFERENT, SAME, Commands, read, register
from measure.eventtext import summary


def add(commands: Commands) -> None:
    """Registers the command."""
    parser = register(
        commands,
        "eventlog",
        run,
        "print an event log, the registers it replays to, and what contradicts itself in it",
        "eventlog binary_bios_measurements",
    )
    parser.add_argument("log", help="a TPM's (binary_bios_measurements) or a CCEL")
    parser.add_argument("--table", metavar="FILE", help="the ACPI table CCEL of the log")


def run(options: argparse.Namespace) -> int:
    """Runs the command."""
    data = read(options.log, eventlog.MAX_LOG)
    if options.table is not None:
        table = ccel.parse_table(read(options.table), options.table)
        table.check_log(data, options.log)
    log = eventlog.parse(data, options.log)
    bank = "sha384" if log.is_ccel else "sha256"
    for event in log.events:
        digest = event.digests.get(bank, b"").hex() or "-"
        print(f"{event.pcr:>2} {event.type_name:<30} {digest} {summary(event)}")
    if log.is_ccel:
        for number, value in log.rtmrs().items():
            print(f"RTMR {number} {value.hex()}")
    else:
        for name in log.banks:
            for number, value in sorted(log.replay(name).items()):
                print(f"{name} {number:>2} {value.hex()}")
    found = eventcheck.contradictions(log)
    for contradiction in found:
        print(f"contradiction: {contradiction}")
    return DIFFERENT if found else SAME
