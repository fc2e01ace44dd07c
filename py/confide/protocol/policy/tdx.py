"""What a manifest says of TDX: the measurements it accepts, and the rules for everything else.

Rules that hold for every policy which `TdxPolicy.read` returns:
- Everything that a quote states and a host could choose has a reference value. An empty list
  accepts nothing; what is not to be checked is named as an opt-out, and verdicts repeat its name.
- Debugging, and any platform of Intel's instead of listed ones, need such an opt-out.

Source: Intel TDX Module Base Architecture Specification, "TD ATTRIBUTES", "XFAM".
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from confide.encoding.canonical import Json
from confide.encoding.fields import Fields, check_name, from_hex
from confide.errors import FormatError
from confide.vendors.intel.collateral import TcbStatus, read_advisories
from confide.vendors.intel.pck import FMSPC_SIZE, INSTANCE_SIZE
from confide.vendors.intel.quote import MEASUREMENT_SIZE, RTMRS, name_registers

ATTRIBUTE_DEBUG = 1 << 0
ATTRIBUTE_SEPT_VE_DISABLE = 1 << 28
# DEBUG, SEPT_VE_DISABLE, PKS, KL, PERFMON. Not among them: MIGRATABLE (29), under which another TD
# may move this one to another host; report 1.0 does not even say which.
KNOWN_ATTRIBUTES = 1 << 0 | 1 << 28 | 1 << 30 | 1 << 31 | 1 << 63
# In the place of a list: what Intel's signature vouches for is enough.
SIGNED_BY_INTEL = "signed-by-intel"
_STATUSES = tuple(status for status in TcbStatus if status is not TcbStatus.REVOKED)
_WHAT = "TDX policy"


class OptOut(StrEnum):
    """What a manifest can leave unchecked, by the name it has there."""

    ALLOW_DEBUG = "insecure_allow_debug"
    ALLOW_SEPT_VE = "insecure_allow_sept_ve"
    ANY_PLATFORM = "insecure_any_platform"


@dataclass(frozen=True)
class TdxReference:
    """Accepted measurements of one machine shape, 48 bytes each; `rtmrs` are RTMR0 to RTMR3."""

    shape: str
    mrtd: bytes
    rtmrs: tuple[bytes, bytes, bytes, bytes]

    @property
    def registers(self) -> dict[str, bytes]:
        """The five measurements by name: MRTD, RTMR0 to RTMR3."""
        return name_registers(self.mrtd, self.rtmrs)

    @classmethod
    def read(cls, fields: Fields) -> TdxReference:
        """Raises FormatError unless all five measurements are there."""
        shape = fields.name("shape")
        mrtd = fields.hex("mrtd", MEASUREMENT_SIZE)
        first, second, third, fourth = (
            fields.hex(f"rtmr{number}", MEASUREMENT_SIZE) for number in range(RTMRS)
        )
        fields.done()
        return cls(shape, mrtd, (first, second, third, fourth))

    def to_json(self) -> dict[str, Json]:
        """As it stands in a manifest."""
        value: dict[str, Json] = {"shape": check_name(self.shape, "shape")}
        return value | {name.lower(): digest.hex() for name, digest in self.registers.items()}


@dataclass(frozen=True)
class Masked:
    """Of the 64 bits, those in `mask` must be as in `value`; {"mask": "0x…", "value": "0x…"}."""

    mask: int
    value: int

    @classmethod
    def read(cls, fields: Fields, what: str) -> Masked:
        """Raises FormatError for an empty mask, or a value with bits that the mask ignores."""
        masked = cls(_bits(fields, "mask"), _bits(fields, "value"))
        fields.done()
        if not masked.mask or masked.value & ~masked.mask:
            raise _bad(what, "a mask that is not empty and covers the value", str(masked))
        return masked

    def to_json(self) -> Json:
        """As it stands in a manifest."""
        return {"mask": f"{self.mask:#018x}", "value": f"{self.value:#018x}"}


@dataclass(frozen=True)
class TdxPolicy:
    """The rules for every TDX machine of a manifest.

    `attributes` and `xfam` are the TD's. `mrseam` lists the accepted TDX modules (48 bytes each),
    `fmspcs` the accepted kinds of platform (6 bytes each); None stands for `SIGNED_BY_INTEL`: each
    that Intel's TCB info knows. `mrconfigids`, `mrowners` and `mrownerconfigs` (48 bytes each) are
    what the host may have bound to the TD; zeros are "nothing", and have to be listed, too.
    `platform_instances` (16 bytes each) are the accepted machines, unless `insecure_any_platform`
    accepts every one. TCB statuses and advisories that are not listed are refused, and so is TCB
    info or a QE identity below the evaluation data number.
    """

    attributes: Masked
    xfam: Masked
    mrseam: tuple[bytes, ...] | None
    mrconfigids: tuple[bytes, ...]
    mrowners: tuple[bytes, ...]
    mrownerconfigs: tuple[bytes, ...]
    fmspcs: tuple[bytes, ...] | None
    platform_instances: tuple[bytes, ...]
    tcb_statuses: tuple[TcbStatus, ...]
    advisories: tuple[str, ...]
    minimum_tcb_evaluation_data_number: int
    opt_outs: frozenset[OptOut]

    @classmethod
    def read(cls, fields: Fields) -> TdxPolicy:
        """Read the policy and close `fields`. Raises FormatError for a value unset or unknown."""
        policy = cls(
            attributes=Masked.read(fields.map("attributes"), "the rule for attributes"),
            xfam=Masked.read(fields.map("xfam"), "the rule for xfam"),
            mrseam=_values_or_signed(fields, "mrseam", MEASUREMENT_SIZE),
            mrconfigids=_values(fields, "mrconfigids", MEASUREMENT_SIZE),
            mrowners=_values(fields, "mrowners", MEASUREMENT_SIZE),
            mrownerconfigs=_values(fields, "mrownerconfigs", MEASUREMENT_SIZE),
            fmspcs=_values_or_signed(fields, "fmspcs", FMSPC_SIZE),
            platform_instances=_values(fields, "platform_instances", INSTANCE_SIZE),
            tcb_statuses=tuple(map(TcbStatus, fields.choices("tcb_statuses", _STATUSES))),
            advisories=read_advisories(fields.list("advisories")),
            minimum_tcb_evaluation_data_number=fields.integer("minimum_tcb_evaluation_data_number"),
            opt_outs=frozenset(map(OptOut, fields.choices("opt_outs", OptOut))),
        )
        fields.done()
        if policy.platform_instances and OptOut.ANY_PLATFORM in policy.opt_outs:
            raise _bad("platform_instances", f"none, because of {OptOut.ANY_PLATFORM}", "some")
        return policy

    def to_json(self) -> dict[str, Json]:
        """As it stands in a manifest."""
        return {
            "attributes": self.attributes.to_json(),
            "xfam": self.xfam.to_json(),
            "mrseam": _to_hex(self.mrseam),
            "mrconfigids": _to_hex(self.mrconfigids),
            "mrowners": _to_hex(self.mrowners),
            "mrownerconfigs": _to_hex(self.mrownerconfigs),
            "fmspcs": _to_hex(self.fmspcs),
            "platform_instances": _to_hex(self.platform_instances),
            "tcb_statuses": [status.value for status in self.tcb_statuses],
            "advisories": list(self.advisories),
            "minimum_tcb_evaluation_data_number": self.minimum_tcb_evaluation_data_number,
            "opt_outs": [opt_out.value for opt_out in OptOut if opt_out in self.opt_outs],
        }


def _values(fields: Fields, name: str, size: int) -> tuple[bytes, ...]:
    values = []
    for item in fields.list(name):
        if not isinstance(item, str):
            raise _bad(f"an item of {name}", f"{2 * size} hex digits", type(item).__name__)
        values.append(from_hex(item, size, f"an item of {name}"))
    return tuple(values)


def _values_or_signed(fields: Fields, name: str, size: int) -> tuple[bytes, ...] | None:
    value = fields.take(name)
    return None if value == SIGNED_BY_INTEL else _values(Fields({name: value}, _WHAT), name, size)


def _to_hex(values: Iterable[bytes] | None) -> Json:
    return SIGNED_BY_INTEL if values is None else [value.hex() for value in values]


def _bits(fields: Fields, name: str) -> int:
    text = fields.text(name, max_length=18)
    if not text.startswith("0x"):
        raise _bad(name, "0x and 16 lower-case hex digits", ascii(text))
    return int.from_bytes(from_hex(text[2:], 8, name))


def _bad(what: str, expected: str, seen: str) -> FormatError:
    return FormatError(
        "bad-tdx-policy", f"the TDX policy is wrong: {what}", expected=expected, seen=seen
    )
