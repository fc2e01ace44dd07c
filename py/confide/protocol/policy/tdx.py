"""What a manifest says of TDX: the measurements it accepts, and the rules for everything else.

Rules that hold for every policy:
- Everything that a quote states and a host could choose has a reference value, but for MRCONFIGID,
  which follows from the manifest's bytes (`confide.protocol.launch`). An empty list accepts
  nothing; what is not to be checked is named as an opt-out, and verdicts repeat its name.
- Debugging, and any platform of Intel's instead of listed ones, need such an opt-out.

Source: Intel TDX Module Base Architecture Specification, "TD ATTRIBUTES", "XFAM".
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated

from confide.errors import FormatError
from confide.protocol.policy.accepted import Accepted
from confide.vendors.intel.collateral import TcbStatus
from confide.vendors.intel.pck import FMSPC_SIZE, INSTANCE_SIZE
from confide.vendors.intel.quote import MEASUREMENT_SIZE, name_registers
from measure.kinds import Choices, Definitions, Hex, Integer, Kind, Name, NoneAs, Schema, Text

ATTRIBUTE_DEBUG = 1 << 0
ATTRIBUTE_SEPT_VE_DISABLE = 1 << 28
# DEBUG, SEPT_VE_DISABLE, PKS, KL, PERFMON. Not among them: MIGRATABLE (29), under which another TD
# may move this one to another host; report 1.0 does not even say which.
KNOWN_ATTRIBUTES = 1 << 0 | 1 << 28 | 1 << 30 | 1 << 31 | 1 << 63
# In the place of a list: what Intel's signature vouches for is enough.
SIGNED_BY_INTEL = "signed-by-intel"
_STATUSES = tuple(status for status in TcbStatus if status is not TcbStatus.REVOKED)
_CODE = "bad-tdx-policy"
_ADVISORY = "[A-Z0-9][A-Z0-9-]{0,63}"
# A list with an item twice means the same, and is accepted; the schema asks for what is sensible.
_ONCE = {"uniqueItems": True}


class OptOut(StrEnum):
    """What a manifest can leave unchecked, by the name it has there."""

    ALLOW_DEBUG = "insecure_allow_debug"
    ALLOW_SEPT_VE = "insecure_allow_sept_ve"
    ANY_PLATFORM = "insecure_any_platform"


@dataclass(frozen=True)
class TdxReference:
    """Accepted measurements of one machine shape, 48 bytes each."""

    shape: Annotated[str, Name()]
    mrtd: Annotated[bytes, Hex(MEASUREMENT_SIZE)]
    rtmr0: Annotated[bytes, Hex(MEASUREMENT_SIZE)]
    rtmr1: Annotated[bytes, Hex(MEASUREMENT_SIZE)]
    rtmr2: Annotated[bytes, Hex(MEASUREMENT_SIZE)]
    rtmr3: Annotated[bytes, Hex(MEASUREMENT_SIZE)]

    @property
    def registers(self) -> dict[str, bytes]:
        """The five measurements by name: MRTD, RTMR0 to RTMR3."""
        rtmrs = (self.rtmr0, self.rtmr1, self.rtmr2, self.rtmr3)
        return name_registers(self.mrtd, rtmrs)


@dataclass(frozen=True)
class _Bits64(Kind):
    """64 bits as 0x and 16 lower-case hex digits."""

    def decode(self, value: object, what: str) -> int:
        """An int. Raises FormatError `bad-tdx-policy` for a text without 0x."""
        text = Text(max_length=18).decode(value, what)
        if not text.startswith("0x"):
            raise _wrong(what, "0x and 16 lower-case hex digits", ascii(text))
        return int.from_bytes(Hex(8).decode(text[2:], what))

    def encode(self, value: int) -> str:
        """The digits."""
        return f"{value:#018x}"

    def schema(self, definitions: Definitions) -> Schema:
        """`string` with the pattern."""
        return {"type": "string", "pattern": "^0x[0-9a-f]{16}$"}


@dataclass(frozen=True)
class Masked:
    """Of the 64 bits, those in `mask` must be as in `value`; {"mask": "0x…", "value": "0x…"}."""

    mask: Annotated[int, _Bits64()]
    value: Annotated[int, _Bits64()]

    def __post_init__(self) -> None:
        if not self.mask or self.value & ~self.mask:
            raise _wrong("a rule", "a mask that is not empty and covers the value", str(self))


def _values(size: int) -> Kind:
    return Accepted(Hex(size), code=_CODE)


@dataclass(frozen=True)
class TdxPolicy:
    """The rules for every TDX machine of a manifest.

    `attributes` and `xfam` are the TD's. `mrseam` lists the accepted TDX modules (48 bytes each),
    `fmspcs` the accepted kinds of platform (6 bytes each); None stands for `SIGNED_BY_INTEL`: each
    that Intel's TCB info knows. `mrowners` and `mrownerconfigs` (48 bytes each) are what the host
    may have bound to the TD beside the manifest; zeros are "nothing", and have to be listed, too.
    `platform_instances` (16 bytes each) are the accepted machines, unless `insecure_any_platform`
    accepts every one. TCB statuses and advisories that are not listed are refused, and so is TCB
    info or a QE identity below the evaluation data number.
    """

    attributes: Masked
    xfam: Masked
    mrseam: Annotated[
        tuple[bytes, ...] | None, NoneAs(SIGNED_BY_INTEL, _values(MEASUREMENT_SIZE)), _ONCE
    ]
    mrowners: Annotated[tuple[bytes, ...], _values(MEASUREMENT_SIZE), _ONCE]
    mrownerconfigs: Annotated[tuple[bytes, ...], _values(MEASUREMENT_SIZE), _ONCE]
    fmspcs: Annotated[tuple[bytes, ...] | None, NoneAs(SIGNED_BY_INTEL, _values(FMSPC_SIZE)), _ONCE]
    platform_instances: Annotated[tuple[bytes, ...], _values(INSTANCE_SIZE), _ONCE]
    tcb_statuses: Annotated[tuple[TcbStatus, ...], Choices(_STATUSES)]
    advisories: Annotated[tuple[str, ...], Accepted(Text(64, _ADVISORY), code="bad-collateral")]
    minimum_tcb_evaluation_data_number: Annotated[int, Integer()]
    opt_outs: Annotated[frozenset[OptOut], Choices(OptOut, collect=frozenset)]

    def __post_init__(self) -> None:
        if self.platform_instances and OptOut.ANY_PLATFORM in self.opt_outs:
            expected = f"an empty list, because of {OptOut.ANY_PLATFORM}"
            raise _wrong("platform_instances", expected, "some")


def _wrong(what: str, expected: str, seen: str) -> FormatError:
    return FormatError(_CODE, f"the TDX policy is wrong: {what}", expected=expected, seen=seen)
