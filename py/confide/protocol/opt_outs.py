"""Opt-outs: what a manifest leaves unchecked. The name of each one starts with `insecure_`.

A client takes a manifest with opt-outs only if the person in front of it gives the same words, so
nobody gets less than the whole protection by a file alone.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator

from confide.errors import PolicyError
from confide.protocol.policy import gpu, snp, tdx
from measure.declare import kinds_of

PREFIX = "insecure_"

FOREIGN = "insecure_foreign_measurements"
"""Not in a manifest: a client asks for it where a manifest is not of the client's release."""

OPT_OUTS = tuple(
    sorted(
        {
            *map(str, (*snp.OptOut, *tdx.OptOut, *gpu.OptOut)),
            *(name for name in kinds_of(gpu.GpuPolicy) if name.startswith(PREFIX)),
            # Bits that may be either, and clouds.
            "insecure_any",
            "insecure_cloud",
        }
    )
)
"""Every opt-out that a manifest can name."""


def named_in(value: object) -> Iterator[str]:
    """The opt-outs in a manifest's plain value: keys that hold anything, and items of lists."""
    if isinstance(value, dict):
        for key, item in value.items():
            if key.startswith(PREFIX) and item:
                yield key
            yield from named_in(item)
    elif isinstance(value, list):
        for item in value:
            if isinstance(item, str) and item.startswith(PREFIX):
                yield item
            yield from named_in(item)


def unchecked(opt_outs: Collection[str], *, is_foreign: bool) -> tuple[str, ...]:
    """All that a client leaves unchecked, by name: a manifest's opt-outs, and `FOREIGN`."""
    return tuple(sorted({*opt_outs, *([FOREIGN] if is_foreign else [])}))


def require_given(opt_outs: Collection[str], given: Collection[str]) -> None:
    """Raises PolicyError `opt-out-not-given` unless all of a manifest's opt-outs were given."""
    missing = sorted(set(opt_outs) - set(given))
    if missing:
        raise PolicyError(
            "opt-out-not-given",
            f"the manifest leaves something unchecked: {', '.join(missing)}",
            expected="the same words as options of this command",
            seen=" ".join(map(as_option, sorted(given))) or "none",
            next=f"get a manifest without them, or add {' '.join(map(as_option, missing))}",
        )


def as_option(opt_out: str) -> str:
    """An opt-out as an option of a command: `insecure_any_chip` is `--insecure-any-chip`."""
    return "--" + opt_out.replace("_", "-")
