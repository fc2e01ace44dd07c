"""The policy of a production manifest (release/policy.json), and where each of its floors is from.

A floor is the least version that a platform must have. It is as good as what it was taken from, and
it ages. So each one stands here with its source and the date of that source, or the file is
refused: what nobody can cite is not accepted. `nix/check_policy_age.py` holds the file's own date
against today's.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated

from confide.encoding.messages import JsonMessage
from confide.errors import FormatError
from confide.protocol.manifest import Platforms
from confide.protocol.policy.gpu import GpuPolicy
from measure.declare import Nested
from measure.kinds import Integer, MapOf, Text, Word

POLICY_FORMAT = "confide-policy/2"
MAX_POLICY = 1 << 18

_DATE = Text(10, r"\d{4}-\d{2}-\d{2}")


@dataclass(frozen=True)
class Source:
    """Where a floor is from: its value, the date of the source (YYYY-MM-DD), and the source."""

    value: Annotated[int, Integer()]
    date: Annotated[str, _DATE]
    source: Annotated[str, Text()]


@dataclass(frozen=True)
class PolicyFile(JsonMessage, what="the policy", limit=MAX_POLICY):
    """A production policy: `platforms` and `gpus` of each role as they stand in a manifest.

    `date` is the day on which somebody last looked for newer floors. `sources` has a `Source` for
    each of `floors(platforms)`, and for nothing else.
    """

    format: Annotated[str, Word((POLICY_FORMAT,))] = field(default=POLICY_FORMAT, init=False)
    date: Annotated[str, _DATE]
    platforms: Platforms
    gpus: Annotated[Mapping[str, GpuPolicy], MapOf(Text(), Nested(GpuPolicy))]
    sources: Annotated[
        Mapping[str, Mapping[str, Source]], MapOf(Text(), MapOf(Text(), Nested(Source)))
    ]

    def __post_init__(self) -> None:
        wanted = floors(self.platforms)
        for name in sorted({*wanted, *self.sources}):
            cited = {floor: s.value for floor, s in self.sources.get(name, {}).items()}
            if cited != wanted.get(name):
                raise FormatError(
                    "uncited-floor",
                    f"the sources of the policy for {name} are not those of its floors",
                    expected=_text(wanted.get(name, {})),
                    seen=_text(cited),
                    next="cite each floor with its value and date, or remove what cannot be cited",
                )


def floors(platforms: Platforms) -> dict[str, dict[str, int]]:
    """The least versions, by platform (with the product, for SEV-SNP) and name.

    A version of 0 asks for nothing, and is left out.
    """
    found: dict[str, dict[str, int]] = {}
    for product, policy in (platforms.snp.products if platforms.snp else {}).items():
        values = {**policy.minimum_tcb.to_dict(), "mitigations": policy.mitigations}
        found[f"sev-snp {product.value}"] = {name: n for name, n in values.items() if n}
    if platforms.tdx is not None:
        name = "minimum_tcb_evaluation_data_number"
        found["tdx"] = {name: platforms.tdx.minimum_tcb_evaluation_data_number}
    return found


def _text(values: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {value}" for name, value in sorted(values.items())) or "none"
