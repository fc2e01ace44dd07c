"""Reading: the reference values in a CoRIM, signed or not, one by one.

Nothing is left out that may change what a verifier accepts: what has no words of its own here is
listed by its number, in CBOR.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, cast

from measure import cbor
from measure.cbor import Tag
from measure.corim import cose, rules


@dataclass(frozen=True, order=True)
class Value:
    """One reference value, or a field that no other value stands for.

    Attributes:
        tag: the CoMID's tag-id, text or a UUID in hex; the CoRIM's id for a field of the CoRIM.
        environment: vendor, model and whatever else names it, joined with "/".
        element: the measured element ("" if anonymous), and the register's number or name; of a
            field outside measurements, the map that has it: "CoRIM", "CoMID", "tag-identity" or
            "triples".
        kind: the digest's algorithm; "raw"; "authorized-by"; "field N", with the map's key (of a
            measurement: of its measurement-values-map); or "tag N", for a tag that is no CoMID.
        value: in hex; of the last three kinds, deterministic CBOR.
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
        values: in order; of every CoMID, then of the CoRIM itself.
        content: all of the CoRIM except validity and entities, as deterministic CBOR; this includes
            how the values are grouped. Two valid CoRIMs with the same content mean the same.
        signed: who signed it and how; None for an unsigned one. Nothing here verifies it.
    """

    identity: str
    profile: str
    validity: tuple[int | None, int | None]
    values: tuple[Value, ...]
    content: bytes
    signed: cose.Signed | None


_Map = dict[int, Any]

_CLASS = {1: "", 2: "", 0: "class-id ", 3: "layer ", 4: "index "}
_ENVIRONMENT = {1: "instance ", 2: "group "}

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
    comids = {
        number: _comid(tag.value, f"{file} (CoMID {number})")
        for number, tag in enumerate(manifest[1])
        if tag.tag == rules.TAG_COMID
    }
    listed = [value for comid in comids.values() for value in _values(comid)]
    tags = [_without(comids[n], 2) if n in comids else tag for n, tag in enumerate(manifest[1])]
    return Corim(
        _name(manifest[0]),
        _name(manifest.get(3, "")),
        (_time(validity.get(0)), _time(validity.get(1))),
        (*listed, *_outside(manifest)),
        cbor.encode({**_without(manifest, 4, 5), 1: tags}),
        signed,
    )


def _comid(data: bytes, where: str) -> _Map:
    comid = cbor.decode(data, where)
    rules.comid(comid, where)
    return cast(_Map, comid)


def _values(comid: _Map) -> Iterator[Value]:
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
            yield from _fields(tag, where, element, _without(values, 2, 4, 14))
            if 2 in measurement:
                yield Value(tag, where, element, "authorized-by", _hex(measurement[2]))
    yield from _fields(tag, "", "triples", _without(comid[4], 0))
    yield from _fields(tag, "", "tag-identity", _without(comid[1], 0))
    yield from _fields(tag, "", "CoMID", _without(comid, 1, 2, 4))


def _outside(manifest: _Map) -> Iterator[Value]:
    """What a CoRIM has beside CoMIDs."""
    identity = _name(manifest[0])
    for tag in manifest[1]:
        if tag.tag != rules.TAG_COMID:
            yield Value(identity, "", "CoRIM", f"tag {tag.tag}", _hex(tag.value))
    yield from _fields(identity, "", "CoRIM", _without(manifest, 0, 1, 3, 4, 5))


def _fields(tag: str, environment: str, element: str, fields: _Map) -> Iterator[Value]:
    for key in sorted(fields):
        yield Value(tag, environment, element, f"field {key}", _hex(fields[key]))


def _without(fields: _Map, *keys: int) -> _Map:
    return {key: value for key, value in fields.items() if key not in keys}


def _environment(environment: _Map) -> str:
    """Vendor and model as they are; all else with its name before it."""
    names = environment.get(0, {})
    parts = [what + _name(names[key]) for key, what in _CLASS.items() if key in names]
    parts += [what + _name(environment[k]) for k, what in _ENVIRONMENT.items() if k in environment]
    return "/".join(parts)


def _name(value: Any) -> str:
    if isinstance(value, Tag):
        return _name(value.value)
    return value.hex() if isinstance(value, bytes) else str(value)


def _hex(value: Any) -> str:
    return cbor.encode(value).hex()


def _time(value: Tag | None) -> int | None:
    return None if value is None else int(value.value)


def _algorithm(number: Any) -> str:
    return _ALGORITHMS.get(number, str(number))


def _raw(value: Any) -> str:
    """Hex, with a mask behind a slash if there is one."""
    return value.hex() if isinstance(value, bytes) else "/".join(part.hex() for part in value)
