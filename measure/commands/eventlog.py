"""`measure eventlog`: a log, the registers it replays to, and where it contradicts itself."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from measure import ccel, eventcheck, eventlog
from measure.commands.common import DIFFERENT, SAME, Commands, print_json, read, register
from measure.eventlog import EventLog
from measure.eventtext import summary

_NOT_REPLAYED = ("sm3",)


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
    parser.add_argument("--json", action="store_true", help="one object, for scripts")
    parser.add_argument("--table", metavar="FILE", help="the ACPI table CCEL of the log")


def run(options: argparse.Namespace) -> int:
    """Runs the command."""
    data = read(options.log, eventlog.MAX_LOG)
    if options.table is not None:
        table = ccel.parse_table(read(options.table), options.table)
        table.check_log(data, options.log)
    log = eventlog.parse(data, options.log)
    for bank in log.banks:
        if bank in _NOT_REPLAYED:
            print(f"measure: bank {bank} is not replayed: not every Python has it", file=sys.stderr)
    found = eventcheck.contradictions(log)
    if options.json:
        print_json(_as_json(log) | {"contradictions": [str(item) for item in found]})
    else:
        _print(log)
        for contradiction in found:
            print(f"contradiction: {contradiction}")
    return DIFFERENT if found else SAME


def _print(log: EventLog) -> None:
    bank = "sha384" if log.is_ccel else "sha256"
    for event in log.events:
        digest = event.digests.get(bank, b"").hex() or "-"
        print(f"{event.pcr:>2} {event.type_name:<30} {digest} {summary(event)}")
    for name, registers in _registers(log).items():
        for number, value in registers.items():
            print(f"{name} {number:>2} {value}")


def _as_json(log: EventLog) -> dict[str, Any]:
    events = [
        {
            "register": event.pcr,
            "type": event.type_name,
            "digests": {bank: digest.hex() for bank, digest in event.digests.items()},
            "text": summary(event),
        }
        for event in log.events
    ]
    return {"events": events, "registers": _registers(log)}


def _registers(log: EventLog) -> dict[str, dict[str, str]]:
    """What the log replays to: the RTMRs of a CCEL, a TPM's registers by bank."""
    if log.is_ccel:
        banks = {"RTMR": log.rtmrs()}
    else:
        replayed = [bank for bank in log.banks if bank not in _NOT_REPLAYED]
        banks = {bank: dict(sorted(log.replay(bank).items())) for bank in replayed}
    return {
        bank: {str(number): value.hex() for number, value in registers.items()}
        for bank, registers in banks.items()
    }
