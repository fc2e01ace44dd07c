"""`measure corim`: reference values for other verifiers."""

from __future__ import annotations

import argparse
import dataclasses
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from measure import report
from measure.commands.common import (
    Commands,
    read,
    register,
    write,
)
from measure.errors import InputError
from measure.output import print_json, show
from measure.status import ExitStatus

# measure.corim needs cbor2, which the other commands do without: functions import it themselves.
if TYPE_CHECKING:
    from measure.corim.manifest import State
    from measure.corim.values import Value


def add(commands: Commands) -> None:
    """Registers the command and the commands that it has."""
    parser = register(
        commands,
        "corim",
        None,
        "write, read, compare and sign reference values as a CoRIM",
        "corim write measurements.json -o image.corim",
    )
    parts = parser.add_subparsers(required=True, metavar="COMMAND")
    _add_write(parts)
    _add_readers(parts)
    _add_signing(parts)


def _add_write(parts: Commands) -> None:
    parser = register(
        parts,
        "write",
        _write,
        "write measurements as an unsigned CoRIM",
        "corim write measurements.json --creator 'Example Ltd' -o image.corim",
    )
    parser.add_argument("measurements", help="measurements.json")
    parser.add_argument(
        "--shape", action="append", metavar="NAME", help="only this machine (can be repeated)"
    )
    parser.add_argument("--creator", metavar="NAME", help="who makes the CoRIM")
    parser.add_argument("--not-before", type=_day, metavar="DATE", help="2026-01-31, UTC")
    parser.add_argument("--not-after", type=_day, metavar="DATE", help="end of validity")
    parser.add_argument(
        "--launch-measurement",
        type=int,
        metavar="SVN",
        help="in Microsoft's launch measurement profile: one machine's launch digest, as this"
        " security version",
    )
    parser.add_argument("-o", "--output", metavar="FILE", help="default: standard output")


def _add_readers(parts: Commands) -> None:
    parser = register(
        parts, "show", _show, "print the reference values of a CoRIM", "corim show image.corim"
    )
    parser.add_argument("corim", help="a CoRIM, signed or not; a signature is not verified")
    parser.add_argument("--json", action="store_true", help="for scripts")
    parser = register(
        parts,
        "compare",
        _compare,
        "say whether a CoRIM has exactly the values of some measurements, in our own profile",
        "corim compare image.corim measurements.json",
    )
    parser.add_argument("corim", help="a CoRIM, signed or not; a signature is not verified")
    parser.add_argument("measurements", help="measurements.json")


def _add_signing(parts: Commands) -> None:
    parser = register(
        parts,
        "to-be-signed",
        _to_be_signed,
        "write the bytes that a signature of a CoRIM has to cover",
        "corim to-be-signed image.corim --algorithm ES384 --signer 'Example Ltd' -o tbs\n"
        "  openssl dgst -sha384 -sign key.pem -out signature tbs",
    )
    parser.add_argument("corim", help="an unsigned CoRIM")
    parser.add_argument("--algorithm", choices=("ES256", "ES384"), required=True)
    parser.add_argument("--signer", metavar="NAME", required=True, help="who signs")
    parser.add_argument("-o", "--output", metavar="FILE", help="default: standard output")
    parser = register(
        parts,
        "assemble",
        _assemble,
        "put what was signed and its signature together",
        "corim assemble tbs signature -o image.signed.corim",
    )
    parser.add_argument("to_be_signed", help="what `to-be-signed` wrote")
    parser.add_argument("signature", help="over that: DER as openssl writes it, or r and s")
    parser.add_argument("-o", "--output", metavar="FILE", help="default: standard output")


def _write(options: argparse.Namespace) -> ExitStatus:
    from measure.corim import manifest

    measured = report.parse(read(options.measurements), options.measurements)
    states = _states(options.measurements, measured, options.shape)
    if options.launch_measurement is None:
        about = manifest.Publication(options.creator, options.not_before, options.not_after)
        encoded = manifest.write(measured, states, about)
    elif len(states) == 1:
        encoded = manifest.launch_measurement(states[0], options.launch_measurement)
    else:
        raise InputError(
            "the launch measurement profile holds one machine; choose one with --shape",
            expected="1",
            seen=str(len(states)),
        )
    write(options.output, encoded)
    return ExitStatus.OK


def _states(file: str, measured: dict[str, object], names: list[str] | None) -> list[State]:
    """The wanted machines' states, or all."""
    from measure.corim import manifest

    states = list(manifest.states(report.read(measured, file)))
    known = {state.shape for state in states}
    for name in names or ():
        if name not in known:
            raise InputError(
                "no such machine in the measurements",
                file=file,
                expected=", ".join(sorted(known)),
                seen=name,
            )
    return [state for state in states if names is None or state.shape in names]


def _show(options: argparse.Namespace) -> ExitStatus:
    from measure.corim import values

    corim = values.read(read(options.corim), options.corim)
    signer = corim.signed and f"{corim.signed.signer}, {corim.signed.algorithm.name}"
    if options.json:
        print_json(
            {
                "id": corim.identity,
                "profile": corim.profile,
                "validity": corim.validity,
                "signer": signer,
                "values": [dataclasses.asdict(value) for value in corim.values],
            }
        )
        return ExitStatus.OK
    show(f"id        {corim.identity}")
    show(f"profile   {corim.profile or 'none'}")
    show(f"signed by {signer} (not verified)" if signer else "signed by nobody")
    for bound, seconds in zip(("not before", "not after"), corim.validity, strict=True):
        if seconds is not None:
            show(f"{bound:<9} {datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M:%S} UTC")
    place = None
    for value in corim.values:
        if (value.tag, value.environment) != place:
            show("", f"{value.tag}: {value.environment}")
            place = (value.tag, value.environment)
        show(f"  {value.element:<12} {value.kind:<8} {value.value}")
    return ExitStatus.OK


def _compare(options: argparse.Namespace) -> ExitStatus:
    from measure.corim import manifest, values

    measured = report.parse(read(options.measurements), options.measurements)
    states = _states(options.measurements, measured, None)
    expected = values.read(
        manifest.write(measured, states, manifest.Publication()), options.measurements
    )
    seen = values.read(read(options.corim), options.corim)
    missing = sorted(set(expected.values) - set(seen.values))
    added = sorted(set(seen.values) - set(expected.values))
    for what, listed in (("only in the measurements", missing), ("only in the CoRIM", added)):
        for value in listed:
            show(f"{what}: {_line(value)}")
    if seen.content == expected.content:
        show(f"no difference: {len(expected.values)} values of {len(states)} machines")
        return ExitStatus.OK
    if not missing and not added:
        show("the same values, but not in the triples, order, form or profile of `corim write`")
    return ExitStatus.DIFFERS


def _line(value: Value) -> str:
    words = (value.environment, value.element, value.kind, value.value)
    return f"{value.tag}: {' '.join(word for word in words if word)}"


def _to_be_signed(options: argparse.Namespace) -> ExitStatus:
    from measure.corim import cose

    algorithm = cose.Algorithm[options.algorithm]
    structure = cose.to_be_signed(read(options.corim), algorithm, options.signer, options.corim)
    write(options.output, structure)
    return ExitStatus.OK


def _assemble(options: argparse.Namespace) -> ExitStatus:
    from measure.corim import cose

    structure, signature = read(options.to_be_signed), read(options.signature)
    signed = cose.assemble(structure, signature, options.to_be_signed, options.signature)
    write(options.output, signed)
    return ExitStatus.OK


def _day(text: str) -> int:
    """Seconds since 1970 at the start of a day."""
    day = datetime.strptime(text, "%Y-%m-%d").replace(tzinfo=UTC)
    return int(day.timestamp())
