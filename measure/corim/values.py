"""Reading: the reference values in a CoRIM, signed or not, one by one."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from measure import cbor
from measure.cbor import Tag
from measure.corim import cose, rules


@dataclass(frozen=True, order=True)
class Value:
    """One reference value.

    Attributes:
        tag: the CoMID's tag-id, text or a UUID in hex.
        environment: vendor, model and whatever else names it, joined with "/".
        element: the measured element ("" if anonymous), and the register's number or name.
        kind: the digest's algorithm, or "raw".
        value: in hex.
    """

    tag: str
    environment: str
    element: str
    kind: str
    value: str


@dataclass(frozen=True)
class Corim:
    """A CoRIM: what it says of itself, and its reference values.

    Attributes:
        identity: text, or a UUID in hex.
        profile: URI, or OID in hex; "" if there is none.
        validity: not-before and not-after, seconds since 1970; None where it does not say.
        values: in order; values of triples other than reference triples are not there.
        signed: who signed it and how; None for an unsigned one. Nothing here verifies it.
    """

    identity: str
    profile: str
    validity: tuple[int | None, int | None]
    values: tuple[Value, ...]
    signed: cose.Signed | None


_ALGORITHMS = {1: "sha-256", 7: "sha-384", 8: "sha-512"}


def read(data: bytes, file: str) -> Corim:
    """Reads a CoRIM and checks all of it against its definition.

    Raises:
        FormatError: anything that is not a well-formed CoRIM.
    """
    value, signed = cbor.decode(data, file), None
    if isinstance(value, Tag) and value.tag == rules.TAG_COSE_SIGN1:
        signed = cose.parse(data, file)
        value = cbor.decode(signed.payload, file)
    rules.corim(value, file)
    manifest = value.value
    validity = manifest.get(4, {})
    comids = [tag.value for tag in manifest[1] if tag.tag == rules.TAG_COMID]
    listed = (_values(comid, f"{file} (CoMID {n})") for n, comid in enumerate(comids))
    return Corim(
        _name(manifest[0]),
        _name(manifest.get(3, "")),
        (_time(validity.get(0)), _time(validity.get(1))),
        tuple(value for values in listed for value in values),
        signed,
    )


def _values(data: bytes, file: str) -> Iterator[Value]:
    comid = cbor.decode(data, file)
    rules.comid(comid, file)
    tag = _name(comid[1][0])
    for environment, measurements in comid[4].get(0, []):
        where = _environment(environment)
        for measurement in measurements:
            element = _name(measurement.get(0, ""))
            values = measurement[1]
            for algorithm, digest in values.get(2, []):
                yield Value(tag, where, element, _algorithm(algorithm), digest.hex())
            for register, digests in values.get(14, {}).items():
                for algorithm, digest in digests:
                    name = f"{element} {register}".strip()
                    yield Value(tag, where, name, _algorithm(algorithm), digest.hex())
            if 4 in values:
                yield Value(tag, where, element, "raw", _raw(values[4].value))


def _environment(environment: dict[int, Any]) -> str:
    names = environment.get(0, {})
    parts = [_name(names[key]) for key in (1, 2, 0, 3, 4) if key in names]
    parts += [_name(environment[key]) for key in (1, 2) if key in environment]
    return "/".join(parts)


def _name(value: Any) -> str:
    if isinstance(value, Tag):
        return _name(value.value)
    return value.hex() if isinstance(value, bytes) else str(value)


def _time(value: Tag | None) -> int | None:
    return None if value is None else int(value.value)


def _algorithm(number: Any) -> str:
    return _ALGORITHMS.get(number, str(number))


def _raw(value: Any) -> str:
    """Hex, with a mask behind a slash if there is one."""
    return value.hex() if isinstance(value, bytes) else "/".join(part.hex() for part in value)
