"""TDX shapes in JSON, as in images/shapes.json and measurements.json.

    {"name": "qemu-2", "memory_mib": 2048, "edk2": "2026.08", "page_order": "single-pass",
     "attributes": "0x10000000", "xfam": "0x...", "boot": "direct"}

and "boot_variables": [[name, data in hex], ...] where the shape states them.
"""

from __future__ import annotations

import re
from typing import Any

from measure.errors import FormatError
from measure.tdx.shape import MAX_MEMORY, MIB, Boot, PageOrder, TdxShape

FIELDS = {"name", "memory_mib", "edk2", "page_order", "attributes", "xfam", "boot"}
OPTIONAL = "boot_variables"
_NAME = re.compile(r"[a-z0-9][a-z0-9.-]{0,63}", re.ASCII)
_RELEASE = re.compile(r"(20[0-9]{2})\.(0[1-9]|1[0-2])", re.ASCII)
_NUMBER = re.compile(r"0x[0-9a-f]{1,16}", re.ASCII)
_HEX = re.compile(r"(?:[0-9a-f]{2}){1,8192}", re.ASCII)


def dump(shape: TdxShape) -> dict[str, Any]:
    """The fields of a shape."""
    fields: dict[str, Any] = {
        "name": shape.name,
        "memory_mib": shape.memory // MIB,
        "edk2": f"{shape.edk2[0]}.{shape.edk2[1]:02}",
        "page_order": shape.page_order.value,
        "attributes": f"{shape.attributes:#x}",
        "xfam": f"{shape.xfam:#x}",
        "boot": shape.boot.value,
    }
    if shape.boot_variables is not None:
        fields[OPTIONAL] = [[name, data.hex()] for name, data in shape.boot_variables]
    return fields


def load(fields: object, file: str) -> TdxShape:
    """The shape with these fields.

    Raises:
        FormatError: a field that is missing, unknown or malformed.
        InputError, UnsupportedError: as `TdxShape`.
    """
    if not isinstance(fields, dict) or set(fields) - {OPTIONAL} != FIELDS:
        raise FormatError(
            "bad fields in a TDX shape",
            file=file,
            expected=", ".join(sorted(FIELDS)),
            seen=", ".join(map(str, fields)) if isinstance(fields, dict) else repr(fields)[:80],
        )
    memory = fields["memory_mib"]
    if type(memory) is not int or not 0 < memory < MAX_MEMORY // MIB:
        raise _bad("memory_mib", f"a number below {MAX_MEMORY // MIB}", memory, file)
    release = _match(_RELEASE, "edk2", fields["edk2"], file)
    return TdxShape(
        name=_match(_NAME, "name", fields["name"], file)[0],
        memory=memory * MIB,
        edk2=(int(release[1]), int(release[2])),
        page_order=PageOrder(_choice([m.value for m in PageOrder], "page_order", fields, file)),
        attributes=int(_match(_NUMBER, "attributes", fields["attributes"], file)[0], 16),
        xfam=int(_match(_NUMBER, "xfam", fields["xfam"], file)[0], 16),
        boot=Boot(_choice([m.value for m in Boot], "boot", fields, file)),
        boot_variables=_variables(fields[OPTIONAL], file) if OPTIONAL in fields else None,
    )


def _variables(value: object, file: str) -> tuple[tuple[str, bytes], ...]:
    pairs = []
    for pair in value if isinstance(value, list) else [value]:
        if not isinstance(pair, list) or len(pair) != 2 or not isinstance(pair[0], str):
            raise _bad(OPTIONAL, "a list of [name, data in hex]", pair, file)
        pairs.append((pair[0], bytes.fromhex(_match(_HEX, OPTIONAL, pair[1], file)[0])))
    return tuple(pairs)


def _match(pattern: re.Pattern[str], what: str, value: object, file: str) -> re.Match[str]:
    match = pattern.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        raise _bad(what, f"text that matches {pattern.pattern}", value, file)
    return match


def _choice(known: list[str], what: str, fields: dict[str, Any], file: str) -> str:
    for value in known:
        if fields[what] == value:
            return value
    raise _bad(what, " or ".join(known), fields[what], file)


def _bad(what: str, expected: str, seen: object, file: str) -> FormatError:
    return FormatError(
        f"bad {what} in a TDX shape", file=file, expected=expected, seen=repr(seen)[:80]
    )
