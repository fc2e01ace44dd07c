"""What a manifest says of TDX: the measurements it accepts, and the rules for everything else.

Nothing is left open by leaving it out: each rule is a required field, except the identities that a
host may bind to a TD (zeros unless stated) and opt-outs, whose names start with insecure_. An empty
list accepts nothing.

Source: Intel TDX Module Base Architecture Specification, "TD ATTRIBUTES", "XFAM".
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from confide.errors import FormatError
from confide.formats.canonical import Json
from confide.formats.fields import Fields, check_name, from_hex
from confide.formats.tdx import MEASUREMENT_SIZE, RTMRS
from confide.formats.tdx_collateral import TcbStatus, read_advisories

ATTRIBUTE_DEBUG = 1 << 0
ATTRIBUTE_SEPT_VE_DISABLE = 1 << 28
# DEBUG, SEPT_VE_DISABLE, PKS, KL, PERFMON. Not among them: MIGRATABLE (29), under which another TD
# may move this one to another host; report 1.0 does not even say which.
KNOWN_ATTRIBUTES = 1 << 0 | 1 << 28 | 1 << 30 | 1 << 31 | 1 << 63
# The rule for MRSEAM that accepts each TDX module which Intel signed and TCB info knows.
SIGNED_BY_INTEL = "signed-by-intel"
ZERO = bytes(MEASUREMENT_SIZE)
FMSPC_SIZE = 6


@dataclass(frozen=True)
class TdxReference:
    """Accepted measurements of one machine shape, 48 bytes each; `rtmrs` are RTMR0 to RTMR3."""

    shape: str
    mrtd: bytes
    rtmrs: tuple[bytes, bytes, bytes, bytes]

    @property
    def registers(self) -> dict[str, bytes]:
        """The five measurements by name: MRTD, RTMR0 to RTMR3."""
        return {"MRTD": self.mrtd} | {f"RTMR{n}": value for n, value in enumerate(self.rtmrs)}

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

    `attributes` and `xfam` are the TD's. `mrseam` lists the accepted TDX modules (48 bytes each);
    None stands for `SIGNED_BY_INTEL`. `mrconfigid`, `mrowner`, `mrownerconfig` (48 bytes) are what
    the host may have bound to the TD. A TCB status or an advisory that is not listed is refused,
    and so is TCB info or a QE identity below the evaluation data number. `fmspcs` (6 bytes each)
    lists the accepted kinds of platform, None accepts each that TCB info is there for.
    """

    attributes: Masked
    xfam: Masked
    mrseam: tuple[bytes, ...] | None
    tcb_statuses: tuple[TcbStatus, ...]
    advisories: tuple[str, ...]
    minimum_tcb_evaluation_data_number: int
    mrconfigid: bytes = ZERO
    mrowner: bytes = ZERO
    mrownerconfig: bytes = ZERO
    fmspcs: tuple[bytes, ...] | None = None
    insecure_allow_debug: bool = False
    insecure_allow_sept_ve: bool = False

    @classmethod
    def read(cls, fields: Fields) -> TdxPolicy:
        """Raises FormatError for a rule that is missing, unknown or says nothing."""
        policy = cls(
            attributes=Masked.read(fields.map("attributes"), "the rule for attributes"),
            xfam=Masked.read(fields.map("xfam"), "the rule for xfam"),
            mrseam=_read_mrseam(fields),
            tcb_statuses=_read_statuses(fields),
            advisories=read_advisories(fields.list("advisories")),
            minimum_tcb_evaluation_data_number=fields.integer("minimum_tcb_evaluation_data_number"),
            mrconfigid=_identity(fields, "mrconfigid"),
            mrowner=_identity(fields, "mrowner"),
            mrownerconfig=_identity(fields, "mrownerconfig"),
            fmspcs=_hexes(fields, "fmspcs", FMSPC_SIZE) if fields.has("fmspcs") else None,
            insecure_allow_debug=_opt_out(fields, "insecure_allow_debug"),
            insecure_allow_sept_ve=_opt_out(fields, "insecure_allow_sept_ve"),
        )
        fields.done()
        return policy

    def to_json(self) -> dict[str, Json]:
        """As it stands in a manifest; what has its default is left out."""
        value: dict[str, Json] = {
            "attributes": self.attributes.to_json(),
            "xfam": self.xfam.to_json(),
            "mrseam": SIGNED_BY_INTEL if self.mrseam is None else _to_hex(self.mrseam),
            "tcb_statuses": [str(status) for status in self.tcb_statuses],
            "advisories": list(self.advisories),
            "minimum_tcb_evaluation_data_number": self.minimum_tcb_evaluation_data_number,
        }
        for name in ("mrconfigid", "mrowner", "mrownerconfig"):
            if (identity := getattr(self, name)) != ZERO:
                value[name] = identity.hex()
        if self.fmspcs is not None:
            value["fmspcs"] = _to_hex(self.fmspcs)
        for name in ("insecure_allow_debug", "insecure_allow_sept_ve"):
            if getattr(self, name):
                value[name] = True
        return value


def _read_mrseam(fields: Fields) -> tuple[bytes, ...] | None:
    value = fields.take("mrseam")
    if value == SIGNED_BY_INTEL:
        return None
    return _hexes(Fields({"mrseam": value}, "TDX policy"), "mrseam", MEASUREMENT_SIZE)


def _read_statuses(fields: Fields) -> tuple[TcbStatus, ...]:
    legal = [status for status in TcbStatus if status is not TcbStatus.REVOKED]
    statuses = []
    for item in fields.list("tcb_statuses"):
        if item not in legal:
            raise _bad("a TCB status", " or ".join(legal), ascii(item)[:80])
        statuses.append(TcbStatus(str(item)))
    return tuple(statuses)


def _identity(fields: Fields, name: str) -> bytes:
    return fields.hex(name, MEASUREMENT_SIZE) if fields.has(name) else ZERO


def _opt_out(fields: Fields, name: str) -> bool:
    """An opt-out that is there is true: a false one would look like one in force."""
    if not fields.has(name):
        return False
    if fields.take(name) is not True:
        raise _bad(name, "true, or no such field", "another value")
    return True


def _hexes(fields: Fields, name: str, size: int) -> tuple[bytes, ...]:
    values = []
    for item in fields.list(name):
        if not isinstance(item, str):
            raise _bad(name, "hex digits", type(item).__name__)
        values.append(from_hex(item, size, f"an item of {name}"))
    return tuple(values)


def _to_hex(values: Iterable[bytes]) -> list[Json]:
    return [value.hex() for value in values]


def _bits(fields: Fields, name: str) -> int:
    text = fields.text(name, max_length=18)
    if not text.startswith("0x"):
        raise _bad(name, "0x and 16 lower-case hex digits", ascii(text))
    return int.from_bytes(from_hex(text[2:], 8, name))


def _bad(what: str, expected: str, seen: str) -> FormatError:
    return FormatError("bad-policy", f"{what} of TDX is wrong", expected=expected, seen=seen)
