"""`measure eventlog`: a log, the registers it replays to, and where it contradicts itself."""

from __future__ import annotations

import argparse
from typing import Any

from measure import ccel, eventcheck, eventlog
from measure.commands.common import Commands, read, register
from measure.errors import UnsupportedError
from measure.eventlog import EventLog, EventType
from measure.eventtext import summary
from measure.output import print_json, say, show
from measure.status import ExitStatus


def add(commands: Commands) -> None:
    """Registers the command."""
    parser = register(
        commands,
        "eventlog",
        run,
        "print an event log, the registers that it replays to, and its contradictions",
        "eventlog binary_bios_measurements",
    )
    parser.add_argument("log", help="a TPM's event log (binary_bios_measurements) or a CCEL")
    parser.add_argument("--json", action="store_true", help="one object, for scripts")
    parser.add_argument("--table", metavar="FILE", help="the ACPI table CCEL of the log")


def run(options: argparse.Namespace) -> ExitStatus:
    """Runs the command.

    Raises:
        UnsupportedError: the log has nothing that can be computed, so nothing would be checked.
    """
    data = read(options.log, eventlog.MAX_LOG)
    if options.table is not None:
        table = ccel.parse_table(read(options.table), options.table)
        table.check_log(data, options.log)
    log = eventlog.parse(data, options.log)
    _require_computable(log, options.log)
    for bank in log.banks:
        if bank not in log.computed_banks:
            say(f"bank {bank} is not replayed: not every Python has it")
    found = eventcheck.check(log)
    contradictions = [item for item in found if item.is_contradiction]
    notes = [item for item in found if not item.is_contradiction]
    if options.json:
        print_json(
            _as_json(log)
            | {"contradictions": list(map(str, contradictions)), "notes": list(map(str, notes))}
        )
    else:
        _print(log)
        for item in contradictions:
            show(f"contradiction: {item}")
        for item in notes:
            show(f"note: {item}")
    return ExitStatus.DIFFERS if contradictions else ExitStatus.OK


def _require_computable(log: EventLog, file: str) -> None:
    if not log.computed_banks:
        raise UnsupportedError(
            "no digest in the event log can be computed here, so nothing was checked",
            file=file,
            expected="one of the banks " + ", ".join(eventlog.COMPUTED),
            seen=", ".join(log.banks),
        )
    if all(event.type == EventType.NO_ACTION for event in log.events):
        raise UnsupportedError(
            "no event in the log extends a register, so there is nothing to check", file=file
        )


def _print(log: EventLog) -> None:
    bank = "sha384" if log.is_ccel else "sha256"
    for event in log.events:
        digest = event.digests.get(bank, b"").hex() or "-"
        show(f"{event.pcr:>2} {event.type_name:<30} {digest} {summary(event)}")
    for name, registers in _registers(log).items():
        for number, value in registers.items():
            show(f"{name} {number:>2} {value}")


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
        banks = {bank: dict(sorted(log.replay(bank).items())) for bank in log.computed_banks}
    return {
        bank: {str(number): value.hex() for number, value in registers.items()}
        for bank, registers in banks.items()
    }
