"""What a manifest says of SEV-SNP machines: which measurements, and how a machine must be set up.

Rules that hold for every policy which `SnpPolicy.read` returns:
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
from typing import Generic, TypeVar

from confide.encoding.canonical import Json
from confide.encoding.fields import Fields, from_hex
from confide.errors import FormatError
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

MAX_VMPL = 3


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

    shape: str
    launch_digest: bytes

    @classmethod
    def read(cls, fields: Fields) -> SnpReference:
        """Read {shape, launch_digest}. Raises FormatError."""
        reference = cls(fields.name("shape"), fields.hex("launch_digest", DIGEST_SIZE))
        fields.done()
        return reference

    def to_json(self) -> Json:
        """As it stands in a manifest."""
        return {"shape": self.shape, "launch_digest": self.launch_digest.hex()}


@dataclass(frozen=True)
class Bits(Generic[_Flags]):
    """Which bits must be set, which clear; `insecure_any` may be either."""

    set: _Flags
    clear: _Flags
    insecure_any: _Flags

    def to_json(self) -> Json:
        """As it stands in a manifest."""
        return {
            "set": [bit_name(bit) for bit in self.set],
            "clear": [bit_name(bit) for bit in self.clear],
            "insecure_any": [bit_name(bit) for bit in self.insecure_any],
        }


@dataclass(frozen=True)
class SnpPolicy:
    """Reference values beside the launch digest, for all SEV-SNP machines of a manifest.

    `minimum_tcb` names the accepted products. Digests are SHA-384 (48 bytes), family and image ids
    16 bytes, host data 32 bytes: 0 in all of them is "none given", and has to be listed to be
    accepted. `chip_ids` (64 bytes each) are the accepted chips where a VCEK signs, `csp_ids` the
    accepted clouds where a VLEK signs; an empty list refuses that kind of key, except that the
    opt-out `insecure_any_chip` accepts every chip. `mitigations` is the vector whose bits must be
    set both at launch and now; a report without vectors then fails, unless it is 0.
    """

    minimum_tcb: Mapping[Product, Tcb]
    guest_policy: Bits[GuestPolicy]
    platform_info: Bits[PlatformInfo]
    vmpl: int
    minimum_guest_svn: int
    mitigations: int
    id_key_digests: tuple[bytes, ...]
    author_key_digests: tuple[bytes, ...]
    family_ids: tuple[bytes, ...]
    image_ids: tuple[bytes, ...]
    host_data: tuple[bytes, ...]
    chip_ids: tuple[bytes, ...]
    csp_ids: tuple[str, ...]
    opt_outs: frozenset[OptOut]

    @classmethod
    def read(cls, fields: Fields) -> SnpPolicy:
        """Read the policy and close `fields`. Raises FormatError for a value unset or unknown."""
        policy = cls(
            minimum_tcb=_read_minimum_tcb(fields.map("minimum_tcb")),
            guest_policy=_read_bits(fields.map("guest_policy"), _PINNED_POLICY),
            platform_info=_read_bits(fields.map("platform_info"), PlatformInfo(sum(PlatformInfo))),
            vmpl=fields.integer("vmpl", maximum=MAX_VMPL),
            minimum_guest_svn=fields.integer("minimum_guest_svn", maximum=2**32 - 1),
            mitigations=fields.integer("mitigations"),
            id_key_digests=_read_values(fields, "id_key_digests", DIGEST_SIZE),
            author_key_digests=_read_values(fields, "author_key_digests", DIGEST_SIZE),
            family_ids=_read_values(fields, "family_ids", 16),
            image_ids=_read_values(fields, "image_ids", 16),
            host_data=_read_values(fields, "host_data", 32),
            chip_ids=_read_values(fields, "chip_ids", CHIP_ID_SIZE),
            csp_ids=_read_texts(fields, "csp_ids"),
            opt_outs=frozenset(map(OptOut, fields.choices("opt_outs", OptOut))),
        )
        fields.done()
        if policy.chip_ids and OptOut.ANY_CHIP in policy.opt_outs:
            raise _bad("chip_ids", f"none, because of {OptOut.ANY_CHIP}", "some")
        return policy

    def to_json(self) -> Json:
        """As it stands in a manifest."""
        minimum_tcb: dict[str, Json] = {}
        for product, tcb in self.minimum_tcb.items():
            minimum_tcb[product.value] = dict(tcb.to_dict())
        return {
            "minimum_tcb": minimum_tcb,
            "guest_policy": self.guest_policy.to_json(),
            "platform_info": self.platform_info.to_json(),
            "vmpl": self.vmpl,
            "minimum_guest_svn": self.minimum_guest_svn,
            "mitigations": self.mitigations,
            "id_key_digests": [value.hex() for value in self.id_key_digests],
            "author_key_digests": [value.hex() for value in self.author_key_digests],
            "family_ids": [value.hex() for value in self.family_ids],
            "image_ids": [value.hex() for value in self.image_ids],
            "host_data": [value.hex() for value in self.host_data],
            "chip_ids": [value.hex() for value in self.chip_ids],
            "csp_ids": list(self.csp_ids),
            "opt_outs": [opt_out.value for opt_out in OptOut if opt_out in self.opt_outs],
        }


def _read_minimum_tcb(fields: Fields) -> dict[Product, Tcb]:
    minimum = {}
    for product in Product:
        if not fields.has(product.value):
            continue
        components = fields.map(product.value)
        layout = TCB_LAYOUTS[product]
        values = tuple(components.integer(name, maximum=255) for name in layout)
        components.done()
        minimum[product] = Tcb(product, values)
    fields.done()
    return minimum


def _read_bits(fields: Fields, all_bits: _Flags) -> Bits[_Flags]:
    """Three lists of names; each of `all_bits` must be in exactly one."""
    left = {bit_name(bit): bit for bit in all_bits}
    listed = {}
    for key in ("set", "clear", "insecure_any"):
        names = fields.choices(key, left)
        listed[key] = type(all_bits)(sum(left.pop(name) for name in names))
    fields.done()
    if left:
        raise _bad("bits", "each in one list: set, clear, insecure_any", "no " + ", ".join(left))
    return Bits(**listed)


def _read_values(fields: Fields, name: str, size: int) -> tuple[bytes, ...]:
    return tuple(from_hex(text, size, f"an item of {name!r}") for text in _read_texts(fields, name))


def _read_texts(fields: Fields, name: str) -> tuple[str, ...]:
    items = fields.list(name)
    texts = tuple(item for item in items if isinstance(item, str))
    if len(texts) != len(items) or len(set(texts)) != len(texts):
        raise _bad(name, "a list of texts, each once", "something else")
    return texts


def _bad(name: str, expected: str, seen: str) -> FormatError:
    return FormatError(
        "bad-snp-policy",
        f"the SEV-SNP policy is wrong: {name}",
        expected=expected,
        seen=seen,
        next="give each value, or opt out by the name that says so",
    )
