"""TDX shapes in JSON, as in images/shapes.json and measurements.json.

    {"name": "qemu-2", "memory_mib": 2048, "edk2": "2026.08", "page_order": "single-pass",
     "attributes": "0x10000000", "xfam": "0x...", "boot": "direct"}

and "boot_variables": [[name, data in hex], ...] where the shape states them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

from measure.declare import decode, encode
from measure.kinds import (
    Converted,
    Definitions,
    Integer,
    Kind,
    ListOf,
    Name,
    Optional,
    Schema,
    Text,
    bad_field,
)
from measure.tdx.shape import MAX_MEMORY, MIB, Boot, PageOrder, TdxShape
from measure.tdx.start import Start

_NUMBER = Converted(Text(pattern="0x(0|[1-9a-f][0-9a-f]{0,15})"), lambda text: int(text, 16), hex)
_RELEASE = Converted(
    Text(pattern=r"20[0-9]{2}\.(0[1-9]|1[0-2])"),
    lambda text: (int(text[:4]), int(text[5:])),
    lambda release: f"{release[0]}.{release[1]:02}",
)
_DATA = Converted(
    Text(pattern="([0-9a-f]{2})+", max_length=16384), bytes.fromhex, lambda data: data.hex()
)


class _Variable(Kind):
    """A boot variable: [name, data in hex]."""

    def decode(self, value: object, what: str) -> tuple[str, bytes]:
        """Name and data."""
        if type(value) is not list or len(value) != 2:
            raise bad_field(what, "[name, data in hex]", ascii(value)[:80])
        return Text().decode(value[0], what), _DATA.decode(value[1], what)

    def encode(self, value: tuple[str, bytes]) -> list[str]:
        """The list."""
        return [value[0], _DATA.encode(value[1])]

    def schema(self, definitions: Definitions) -> Schema:
        """A list of two."""
        items = [Text().schema(definitions), _DATA.schema(definitions)]
        return {"type": "array", "prefixItems": items, "minItems": 2, "items": False}


@dataclass(frozen=True, kw_only=True)
class ShapeFields:
    """A shape without its name."""

    memory_mib: Annotated[int, Integer(1, MAX_MEMORY // MIB - 1)]
    edk2: Annotated[tuple[int, int], _RELEASE, "release of edk2 that the firmware is built from"]
    page_order: Annotated[PageOrder, "how the VMM builds the memory: which of the two MRTD it has"]
    attributes: Annotated[int, _NUMBER, "TD attributes"]
    xfam: Annotated[int, _NUMBER, "extended features"]
    boot: Annotated[Boot, "what the firmware starts: the kernel directly, or the UKI on the disk"]
    boot_variables: Annotated[
        tuple[tuple[str, bytes], ...] | None,
        Optional(ListOf(_Variable())),
        "names and data of BootOrder and the options in it",
    ] = None

    def shape(self, name: str, start: Start | None = None) -> TdxShape:
        """The shape of that name.

        Raises:
            InputError, UnsupportedError: as `TdxShape`.
        """
        return TdxShape(
            name=name,
            memory=self.memory_mib * MIB,
            edk2=self.edk2,
            page_order=self.page_order,
            attributes=self.attributes,
            xfam=self.xfam,
            boot=self.boot,
            boot_variables=self.boot_variables,
            start=start,
        )


@dataclass(frozen=True, kw_only=True)
class NamedShape(ShapeFields):
    """A shape."""

    name: Annotated[str, Name()]


def fields_of(shape: TdxShape) -> dict[str, Any]:
    """The arguments of `ShapeFields` for a shape."""
    return {
        "memory_mib": shape.memory // MIB,
        "edk2": shape.edk2,
        "page_order": shape.page_order,
        "attributes": shape.attributes,
        "xfam": shape.xfam,
        "boot": shape.boot,
        "boot_variables": shape.boot_variables,
    }


def dump(shape: TdxShape) -> dict[str, Any]:
    """A shape in JSON."""
    return encode(NamedShape(name=shape.name, **fields_of(shape)))


def load(value: object, file: str) -> TdxShape:
    """The shape in a decoded JSON object.

    Raises:
        FieldError: a field that is missing, unknown or malformed.
        InputError, UnsupportedError: as `TdxShape`.
    """
    fields = decode(NamedShape, value, "the TDX shape", file=file)
    return fields.shape(fields.name)
