"""What a manifest says of GPUs: how many, which kinds, how set up, with which software.

Rules that hold for every policy which `GpuPolicy.read` returns:
- Every value is there; an empty list accepts nothing; at least one GPU is wanted.
- A GPU is accepted only if its kind is listed with a rule for the driver and one for the VBIOS, and
  both also have NVIDIA's signed reference values (RIM), which the GPU's own measurements match.
- What is not to be checked is named as an opt-out, and verdicts repeat its name.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from confide.encoding.canonical import Json
from confide.encoding.fields import Fields
from confide.errors import FormatError
from confide.protocol.gpu import ARCHITECTURES, MAX_GPUS

# How GPUs protect what they send each other: alone in a machine, or over encrypted NVLink. The
# third mode that exists, protected PCIe, trusts NVSwitches, whose evidence is not verified here.
MODES = ("single-gpu", "multi-gpu")
MAX_GRACE_HOURS = 24 * 90
MAX_INDEX = 255


class OptOut(StrEnum):
    """What a manifest can leave unchecked, by the name it has there."""

    UNSTATED_MODE = "insecure_accept_unstated_mode"
    WITHOUT_DRIVER_RIM = "insecure_without_driver_rim"
    WITHOUT_VBIOS_RIM = "insecure_without_vbios_rim"
    OCSP_UNKNOWN = "insecure_accept_ocsp_unknown"
    OCSP_WITHOUT_NONCE = "insecure_accept_ocsp_without_nonce"
    CERTIFICATE_HOLD = "insecure_accept_certificate_hold"


@dataclass(frozen=True)
class VersionRule:
    """Which versions are accepted: from a minimum on, or exactly the listed ones.

    Versions are numbers joined by dots, decimal for drivers (550.127.05) and hexadecimal for
    VBIOSes (96.00.9F.00.01), compared part by part. In JSON {"minimum": v} or {"exact": [v, ...]}.
    """

    minimum: str | None
    exact: tuple[str, ...]
    base: int

    @classmethod
    def read(cls, fields: Fields, base: int) -> VersionRule:
        """Raises FormatError unless there is exactly one of the two."""
        minimum = None
        exact: tuple[str, ...] = ()
        if fields.has("minimum"):
            minimum = fields.text("minimum", max_length=32)
        else:
            exact = _texts(fields, "exact")
        fields.done()
        for version in (minimum,) if minimum is not None else exact:
            if version_parts(version, base) is None:
                raise _bad("version", f"numbers of base {base} with dots", ascii(version[:40]))
        return cls(minimum, exact, base)

    def to_json(self) -> dict[str, Json]:
        """As it stands in a manifest."""
        if self.minimum is not None:
            return {"minimum": self.minimum}
        return {"exact": list(self.exact)}

    def accepts(self, version: str) -> bool:
        """Whether this version is accepted; never one that is not a version."""
        parts = version_parts(version, self.base)
        if parts is None:
            return False
        if self.minimum is not None:
            minimum = version_parts(self.minimum, self.base)
            return minimum is not None and parts >= minimum
        return version in self.exact

    def __str__(self) -> str:
        if self.minimum is not None:
            return f"at least {self.minimum}"
        return " or ".join(self.exact) or "nothing is accepted"


@dataclass(frozen=True)
class SoftwareRules:
    """The accepted versions for one architecture."""

    driver: VersionRule
    vbios: VersionRule


@dataclass(frozen=True)
class GpuPolicy:
    """Reference values for all GPUs of a role.

    `architectures` names the accepted kinds. The counts are inclusive, equal for an exact number.
    `modes` are of `MODES`. `insecure_ignored_measurements` are indexes that need not match the
    reference values. A certificate revoked for another reason than a compromise is accepted for
    `insecure_revoked_grace_hours` after that, 0 for not at all.
    """

    architectures: Mapping[str, SoftwareRules]
    minimum_count: int
    maximum_count: int
    modes: tuple[str, ...]
    insecure_ignored_measurements: tuple[int, ...]
    insecure_revoked_grace_hours: int
    opt_outs: frozenset[OptOut]

    @classmethod
    def read(cls, fields: Fields) -> GpuPolicy:
        """Read the policy and close `fields`. Raises FormatError for a value unset or unknown."""
        minimum = fields.integer("minimum_count", minimum=1, maximum=MAX_GPUS)
        policy = cls(
            architectures=_read_architectures(fields.map("architectures")),
            minimum_count=minimum,
            maximum_count=fields.integer("maximum_count", minimum=minimum, maximum=MAX_GPUS),
            modes=fields.choices("modes", MODES),
            insecure_ignored_measurements=_indexes(fields, "insecure_ignored_measurements"),
            insecure_revoked_grace_hours=fields.integer(
                "insecure_revoked_grace_hours", maximum=MAX_GRACE_HOURS
            ),
            opt_outs=frozenset(map(OptOut, fields.choices("opt_outs", OptOut))),
        )
        fields.done()
        return policy

    def to_json(self) -> dict[str, Json]:
        """As it stands in a manifest."""
        architectures: dict[str, Json] = {}
        for name, rules in self.architectures.items():
            software: dict[str, Json] = {
                "driver": rules.driver.to_json(),
                "vbios": rules.vbios.to_json(),
            }
            architectures[name] = software
        return {
            "architectures": architectures,
            "minimum_count": self.minimum_count,
            "maximum_count": self.maximum_count,
            "modes": list(self.modes),
            "insecure_ignored_measurements": list(self.insecure_ignored_measurements),
            "insecure_revoked_grace_hours": self.insecure_revoked_grace_hours,
            "opt_outs": [opt_out.value for opt_out in OptOut if opt_out in self.opt_outs],
        }


def version_parts(version: str, base: int) -> tuple[int, ...] | None:
    """The numbers of a version, for comparison; None if it is not one."""
    digits = "[0-9]" if base == 10 else "[0-9A-F]"
    if not re.fullmatch(rf"{digits}{{1,6}}(\.{digits}{{1,6}}){{1,5}}", version):
        return None
    return tuple(int(part, base) for part in version.split("."))


def _read_architectures(fields: Fields) -> dict[str, SoftwareRules]:
    rules = {}
    for name in ARCHITECTURES:
        if not fields.has(name):
            continue
        software = fields.map(name)
        driver = VersionRule.read(software.map("driver"), 10)
        rules[name] = SoftwareRules(driver, VersionRule.read(software.map("vbios"), 16))
        software.done()
    fields.done()
    return rules


def _texts(fields: Fields, name: str) -> tuple[str, ...]:
    items = fields.list(name, max_items=64)
    texts = tuple(item for item in items if isinstance(item, str))
    if len(texts) != len(items) or len(set(texts)) != len(texts):
        raise _bad(name, "a list of texts, each once", "something else")
    return texts


def _indexes(fields: Fields, name: str) -> tuple[int, ...]:
    items = fields.list(name, max_items=MAX_INDEX + 1)
    # Not isinstance: True is an int to Python.
    indexes = tuple(i for i in items if type(i) is int and 0 <= i <= MAX_INDEX)
    if len(indexes) != len(items) or len(set(indexes)) != len(indexes):
        raise _bad(name, f"numbers from 0 to {MAX_INDEX}, each once", "something else")
    return indexes


def _bad(name: str, expected: str, seen: str) -> FormatError:
    return FormatError(
        "bad-gpu-policy",
        f"the GPU policy is wrong: {name}",
        expected=expected,
        seen=seen,
        next="give each value, or opt out by the name that says so",
    )
