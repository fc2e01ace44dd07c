"""What a manifest says of SEV-SNP machines: which measurements, and how a machine must be set up.

Rules that hold for every policy:
- Everything that a report states and a host could choose has a reference value. An empty list
  accepts nothing; what is not to be checked is named as an opt-out, and verdicts repeat its name.
- A product of AMD's is accepted only with a minimum for each component of its TCB version.
- Debugging and migration agents need an opt-out of their own: with either, a host can read memory.

Source: AMD 56860 "SEV Secure Nested Paging Firmware ABI", rev. 1.58, tables 10, 23 and 24.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Generic, TypeVar

from confide.errors import FormatError
from confide.protocol.policy.accepted import Accepted
from confide.vendors.amd.report import (
    CHIP_ID_SIZE,
    DIGEST_SIZE,
    TCB_LAYOUTS,
    GuestPolicy,
    PlatformInfo,
    Product,
    Tcb,
    bit_name,
)
from measure.declare import Keyed
from measure.kinds import Choices, Converted, Hex, Integer, Kind, Name, Text, bad_field

MAX_VMPL = 3
# A text in a manifest is shorter than the manifest itself.
MAX_CSP_ID = 1 << 20

_CODE = "bad-snp-policy"
_EACH_BIT = "Each bit stands in exactly one of the lists."


class OptOut(StrEnum):
    """What a manifest can leave unchecked, by the name it has there."""

    ALLOW_DEBUG = "insecure_allow_debug"
    ALLOW_MIGRATION_AGENT = "insecure_allow_migration_agent"
    ANY_CHIP = "insecure_any_chip"
    WITHOUT_REVOCATION = "insecure_without_revocation"


# Guest policy bits that only an opt-out can leave open; nothing can demand them.
OPT_OUT_BITS = {
    GuestPolicy.DEBUG: OptOut.ALLOW_DEBUG,
    GuestPolicy.MIGRATION_AGENT: OptOut.ALLOW_MIGRATION_AGENT,
}
_PINNED_POLICY = GuestPolicy(sum(bit for bit in GuestPolicy if bit not in OPT_OUT_BITS))

_Flags = TypeVar("_Flags", GuestPolicy, PlatformInfo)


@dataclass(frozen=True)
class SnpReference:
    """The launch digest (48 bytes) of one machine shape."""

    shape: Annotated[str, Name()]
    launch_digest: Annotated[bytes, Hex(DIGEST_SIZE)]


@dataclass(frozen=True)
class Bits(Generic[_Flags]):
    """Which bits must be set, which clear; `insecure_any` may be either."""

    set: _Flags
    clear: _Flags
    insecure_any: _Flags


def _bits(all_bits: _Flags) -> Kind:
    """`Bits` as three lists of names; each of `all_bits` is in exactly one list."""
    bits = {bit_name(bit): bit for bit in all_bits}
    lists = ("set", "clear", "insecure_any")

    def read(names: dict[str, tuple[str, ...]]) -> Bits[_Flags]:
        listed = [name for key in lists for name in names[key]]
        if len(set(listed)) != len(listed):
            raise bad_field("the SEV-SNP policy", "each bit in one list", "a bit in two lists")
        left = [name for name in bits if name not in listed]
        if left:
            raise _wrong("bits", f"each in one list: {', '.join(lists)}", f"no {', '.join(left)}")
        flags = {key: type(all_bits)(sum(bits[name] for name in names[key])) for key in lists}
        return Bits(**flags)

    def write(value: Bits[_Flags]) -> dict[str, list[str]]:
        return {key: [bit_name(bit) for bit in getattr(value, key)] for key in lists}

    return Converted(Keyed(dict.fromkeys(lists, Choices(tuple(bits)))), read, write)


def _read_tcbs(values: dict[str, dict[str, int]]) -> dict[Product, Tcb]:
    tcbs = (Tcb(Product(name), tuple(parts.values())) for name, parts in values.items())
    return {tcb.product: tcb for tcb in tcbs}


def _write_tcbs(tcbs: Mapping[Product, Tcb]) -> dict[str, dict[str, int]]:
    return {product.value: dict(tcb.to_dict()) for product, tcb in tcbs.items()}


def _components(product: Product) -> Kind:
    return Keyed(dict.fromkeys(TCB_LAYOUTS[product], Integer(maximum=255)))


_MINIMUM_TCB = Converted(
    Keyed({product.value: _components(product) for product in Product}, required=False),
    _read_tcbs,
    _write_tcbs,
)


def _values(size: int) -> Kind:
    return Accepted(Hex(size), unique=True, code=_CODE)


@dataclass(frozen=True)
class SnpPolicy:
    """Reference values beside the launch digest, for all SEV-SNP machines of a manifest.

    `minimum_tcb` names the accepted products. Digests are SHA-384 (48 bytes), family and image ids
    16 bytes, host data 32 bytes: zeros stand for "none given", and are accepted only if they
    are listed. `chip_ids` (64 bytes each) are the accepted chips where a VCEK signs, `csp_ids` the
    accepted clouds where a VLEK signs; an empty list refuses that kind of key, except that the
    opt-out `insecure_any_chip` accepts every chip. `mitigations` is the vector whose bits must be
    set both at launch and now; a report without vectors then fails, unless it is 0.
    """

    minimum_tcb: Annotated[
        Mapping[Product, Tcb],
        _MINIMUM_TCB,
        "The accepted products, each with the least version of every component.",
    ]
    guest_policy: Annotated[Bits[GuestPolicy], _bits(_PINNED_POLICY), _EACH_BIT]
    platform_info: Annotated[Bits[PlatformInfo], _bits(PlatformInfo(sum(PlatformInfo))), _EACH_BIT]
    vmpl: Annotated[int, Integer(maximum=MAX_VMPL)]
    minimum_guest_svn: Annotated[int, Integer(maximum=2**32 - 1)]
    mitigations: Annotated[int, Integer()]
    id_key_digests: Annotated[tuple[bytes, ...], _values(DIGEST_SIZE)]
    author_key_digests: Annotated[tuple[bytes, ...], _values(DIGEST_SIZE)]
    family_ids: Annotated[tuple[bytes, ...], _values(16)]
    image_ids: Annotated[tuple[bytes, ...], _values(16)]
    host_data: Annotated[tuple[bytes, ...], _values(32)]
    chip_ids: Annotated[tuple[bytes, ...], _values(CHIP_ID_SIZE)]
    csp_ids: Annotated[tuple[str, ...], Accepted(Text(MAX_CSP_ID), unique=True, code=_CODE)]
    opt_outs: Annotated[frozenset[OptOut], Choices(OptOut, collect=frozenset)]

    def __post_init__(self) -> None:
        if bytes(CHIP_ID_SIZE) in self.chip_ids:
            raise _wrong("chip_ids", "ids of chips", "zeros, which a chip shows that masks its id")
        if self.chip_ids and OptOut.ANY_CHIP in self.opt_outs:
            raise _wrong("chip_ids", f"an empty list, because of {OptOut.ANY_CHIP}", "some")


def _wrong(name: str, expected: str, seen: str) -> FormatError:
    return FormatError(
        _CODE,
        f"the SEV-SNP policy is wrong: {name}",
        expected=expected,
        seen=seen,
        next="set each value, or use its opt-out",
    )
