"""What a manifest says of SEV-SNP machines: which measurements, and how a machine must be set up.

Rules that hold for every policy:
- Everything that a report states and a host could choose has a reference value, but for HOST_DATA,
  which follows from the manifest's bytes (`confide.protocol.launch`). An empty list accepts
  nothing; what is not to be checked is named as an opt-out, and verdicts repeat its name.
- A product of AMD's is accepted only with a policy of its own: a minimum for each component of its
  TCB version, the mitigations, and the sets of bits that guest policy and platform may have.
- A set of bits is accepted as a whole: what is in no listed set is refused.
- Debugging and migration agents need an opt-out of their own: with either, a host can read memory.

Source: AMD 56860 "SEV Secure Nested Paging Firmware ABI", rev. 1.58, tables 10, 23 and 24.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Any

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
from measure.kinds import Choices, Converted, Hex, Integer, Kind, ListOf, Name, Text

MAX_VMPL = 3
MAX_SETS = 128
# A text in a manifest is shorter than the manifest itself.
MAX_CSP_ID = 1 << 20

_CODE = "bad-snp-policy"


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
PINNED_POLICY = GuestPolicy(sum(bit for bit in GuestPolicy if bit not in OPT_OUT_BITS))
"""The bits of a guest policy that an accepted set decides about."""


@dataclass(frozen=True)
class SnpReference:
    """The launch digest (48 bytes) of one machine shape."""

    shape: Annotated[str, Name()]
    launch_digest: Annotated[bytes, Hex(DIGEST_SIZE)]


@dataclass(frozen=True)
class ProductPolicy:
    """What machines of one product must be like.

    Attributes:
        minimum_tcb: the least version of every component.
        mitigations: the bits that both vectors, at launch and now, must have. A report without
            vectors fails, unless this is 0.
        guest_policy: the accepted sets of bits, beside those of `OPT_OUT_BITS`.
        platform_info: the accepted sets of bits.
    """

    minimum_tcb: Tcb
    mitigations: int
    guest_policy: tuple[GuestPolicy, ...]
    platform_info: tuple[PlatformInfo, ...]


def _sets(all_bits: GuestPolicy | PlatformInfo) -> Kind:
    """Sets of bits, each as a list of names; in the order of their numbers, so each once."""
    flags = type(all_bits)
    bits = {bit_name(bit): bit for bit in all_bits}

    def read(lists: tuple[tuple[str, ...], ...]) -> tuple[GuestPolicy | PlatformInfo, ...]:
        sets = tuple(flags(sum(bits[name] for name in names)) for names in lists)
        if list(sets) != sorted(set(sets)):
            raise _wrong("bits", "each set once, in the order of their numbers", "another order")
        return sets

    def write(sets: tuple[GuestPolicy | PlatformInfo, ...]) -> list[list[str]]:
        return [[bit_name(bit) for bit in members] for members in sets]

    return Converted(ListOf(Choices(tuple(bits)), MAX_SETS), read, write)


def _product(product: Product) -> Kind:
    """A `ProductPolicy`: its `minimum_tcb` has the components of this product."""

    def read(fields: dict[str, Any]) -> ProductPolicy:
        tcb = Tcb(product, tuple(fields["minimum_tcb"].values()))
        return ProductPolicy(**fields | {"minimum_tcb": tcb})

    def write(value: ProductPolicy) -> dict[str, Any]:
        return vars(value) | {"minimum_tcb": value.minimum_tcb.to_dict()}

    fields = {
        "minimum_tcb": Keyed(dict.fromkeys(TCB_LAYOUTS[product], Integer(maximum=255))),
        "mitigations": Integer(),
        "guest_policy": _sets(PINNED_POLICY),
        "platform_info": _sets(PlatformInfo(sum(PlatformInfo))),
    }
    return Converted(Keyed(fields), read, write)


_PRODUCTS = Converted(
    Keyed({product.value: _product(product) for product in Product}, required=False),
    read=lambda values: {Product(name): value for name, value in values.items()},
    write=lambda products: {product.value: value for product, value in products.items()},
)


def _values(size: int) -> Kind:
    return Accepted(Hex(size), unique=True, code=_CODE)


@dataclass(frozen=True)
class SnpPolicy:
    """Reference values beside the launch digest, for all SEV-SNP machines of a manifest.

    `products` names the accepted products. Digests are SHA-384 (48 bytes), family and image ids 16
    bytes: zeros stand for "none given", and are accepted only if they are listed. `chip_ids` (64
    bytes each) are the accepted chips, `csp_ids` the accepted clouds where a VLEK signs. Without
    chip ids a VCEK is refused, except that the opt-out `insecure_any_chip` accepts every chip; a
    VLEK then says only whose machine it is. Zeros are no chip's id: a host shows them if it masks
    the id, and then no listed chip is there.
    """

    products: Annotated[
        Mapping[Product, ProductPolicy],
        _PRODUCTS,
        "The accepted products: least TCB versions, mitigations, and accepted sets of bits.",
    ]
    vmpl: Annotated[int, Integer(maximum=MAX_VMPL)]
    minimum_guest_svn: Annotated[int, Integer(maximum=2**32 - 1)]
    id_key_digests: Annotated[tuple[bytes, ...], _values(DIGEST_SIZE)]
    author_key_digests: Annotated[tuple[bytes, ...], _values(DIGEST_SIZE)]
    family_ids: Annotated[tuple[bytes, ...], _values(16)]
    image_ids: Annotated[tuple[bytes, ...], _values(16)]
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
