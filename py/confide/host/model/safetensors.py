"""The header of a safetensors file: its tensors, and whether the file holds all of their bytes.

A file is: the header's length N in 8 bytes, little-endian; N bytes of JSON; the data. The JSON maps
each tensor's name to its dtype, its shape and its two data offsets, which count from the end of the
header. The tensors cover the data without gap or overlap.

Source: safetensors 0.8, README ("Format") and `Metadata::validate`.
"""

from __future__ import annotations

import json
import struct
from typing import Any

from confide.errors import ConfigError
from confide.host.model.source import SourceFile

MAX_HEADER = 100_000_000
"""Bytes of JSON; the library that the engine uses refuses more."""

MAX_COUNT = 2**64 - 1
"""The most elements of a tensor, and of each of its dimensions."""

DTYPE_BITS = {
    "BOOL": 8, "U8": 8, "I8": 8, "U16": 16, "I16": 16, "U32": 32, "I32": 32, "U64": 64, "I64": 64,
    "F4": 4, "F6_E2M3": 6, "F6_E3M2": 6, "F8_E5M2": 8, "F8_E4M3": 8, "F8_E8M0": 8,
    "F8_E4M3FNUZ": 8, "F8_E5M2FNUZ": 8, "F16": 16, "BF16": 16, "F32": 32, "F64": 64, "C64": 64,
}  # fmt: skip
"""Bits of one element."""

_LENGTH = struct.Struct("<Q")


def read_tensors(file: SourceFile) -> frozenset[str]:
    """Read the names of a file's tensors from its header, without reading the data.

    Raises:
        ConfigError: "model-weights": the file is not safetensors, or is not whole.
        OSError: The file cannot be read.
    """
    with file.source.open("rb") as opened:
        start = opened.read(_LENGTH.size)
        length = _LENGTH.unpack(start)[0] if len(start) == _LENGTH.size else 0
        if not 2 <= length <= min(MAX_HEADER, file.size - _LENGTH.size):
            raise _bad(file, "a header that fits into the file", f"{file.size} bytes in all")
        text = opened.read(length)
    header = _parse(file, text)
    spans = sorted(_span(file, name, tensor) for name, tensor in header.items())
    end = 0
    for first, last, name in spans:
        if first != end:
            raise _bad(file, f"tensor {name[:80]!a} at byte {end} of the data", f"byte {first}")
        end = last
    size = _LENGTH.size + length + end
    if file.size != size:
        raise _bad(file, f"{size} bytes by its header", f"{file.size} bytes")
    return frozenset(header)


def _parse(file: SourceFile, text: bytes) -> dict[str, Any]:
    """The header without its free text ("__metadata__")."""
    try:
        header = json.loads(text.decode())
    except (ValueError, RecursionError) as error:
        raise _bad(file, "a header of JSON", ascii(text[:20])) from error
    if not isinstance(header, dict):
        raise _bad(file, "a header that is a JSON object", type(header).__name__)
    header.pop("__metadata__", None)
    if not header:
        raise _bad(file, "at least one tensor", "none")
    return header


def _span(file: SourceFile, name: str, tensor: object) -> tuple[int, int, str]:
    """Where a tensor's data begins and ends, once its dtype and shape agree with that."""
    match tensor:
        case {"dtype": str(dtype), "shape": [*shape], "data_offsets": [int(first), int(last)]}:
            bits = _count(shape) * DTYPE_BITS.get(dtype, -1)
            plain = type(first) is int and type(last) is int  # not true and false
            if plain and bits >= 0 and bits == 8 * (last - first):
                return first, last, name
    raise _bad(
        file,
        f"tensor {name[:80]!a} with a dtype and a shape that fill its data_offsets",
        ascii(json.dumps(tensor)[:120]),
    )


def _count(shape: list[object]) -> int:
    """How many elements a tensor has; -1 for what the library refuses: it counts in 64 bits."""
    count = 1
    for size in shape:
        if type(size) is not int or not 0 <= size <= MAX_COUNT:
            return -1
        count *= size
        if count > MAX_COUNT:
            return -1
    return count


def _bad(file: SourceFile, expected: str, seen: str) -> ConfigError:
    return ConfigError(
        "model-weights",
        f"the weights {file.path!a} are damaged or incomplete",
        expected=f"a safetensors file: {expected}",
        seen=seen,
        next="download this file again",
    )
