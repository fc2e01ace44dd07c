"""Two command lines compared: which layer's root hash differs, and which other words."""

from __future__ import annotations

from collections.abc import Sequence

from measure.direct import INITRD_WORD
from measure.errors import InputError, MeasureError
from measure.explain.difference import NOTHING, Difference
from measure.image import Layer, parse_layers
from measure.pcr import Component

_LAYER = "confide.layer="


def command_lines(register: str, expected: str, seen: str) -> list[Difference]:
    """Layers whose root hash differs, then the other words; `register` is where both show."""
    found: list[Difference] = []
    layers = _layers(expected), _layers(seen)
    for name in dict.fromkeys([*layers[0], *layers[1]]):
        left, right = (side.get(name, NOTHING) for side in layers)
        if left != right:
            found.append(Difference(register, Component.ROOT_HASH, f"layer {name}", left, right))
    left, right = _other_words(expected), _other_words(seen)
    if left != right:
        description = "words that are not layers"
        found.append(Difference(register, Component.COMMAND_LINE, description, left, right))
    return found


def require_booted(wanted: bytes, logged: Sequence[bytes], register: str) -> None:
    """Raises InputError unless a command line's digest is among those that a log has for it."""
    if wanted not in logged:
        raise InputError(
            "this is not the command line that the event log was made with",
            expected=f"its digest {wanted.hex()} in {register}",
            seen=", ".join(value.hex() for value in logged[:4]) or NOTHING,
        )


def _layers(command_line: str) -> dict[str, str]:
    try:
        return {la.name: _layer_text(la) for la in parse_layers(command_line, "command line")}
    except MeasureError as error:
        return {"(malformed)": str(error)}


def _layer_text(layer: Layer) -> str:
    return f"{layer.root_hash} ({layer.data_blocks} blocks)"


def _other_words(command_line: str) -> str:
    """The rest, without the word that firmware adds when it starts a kernel directly."""
    words = (w for w in command_line.split() if not w.startswith(_LAYER))
    return " ".join(word for word in words if word != INITRD_WORD) or NOTHING
