"""What a manifest says of GPUs: how many, which kinds, how set up, with which software.

Rules that hold for every policy:
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
from typing import Annotated

from confide.errors import FormatError
from confide.protocol.gpu import ARCHITECTURES, MAX_GPUS
from confide.protocol.policy.accepted import Accepted
from measure.declare import Keyed, Nested
from measure.kinds import Choices, Definitions, Integer, Kind, Schema, Text

# How GPUs protect what they send each other: alone in a machine, or over encrypted NVLink. The
# third mode, protected PCIe, trusts NVSwitches, and their evidence is not verified here.
MODES = ("single-gpu", "multi-gpu")
MAX_GRACE_HOURS = 24 * 90
MAX_INDEX = 255
MAX_VERSIONS = 64
MAX_VERSION = 32

_CODE = "bad-gpu-policy"


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


def version_parts(version: str, base: int) -> tuple[int, ...] | None:
    """The numbers of a version, for comparison; None if it is malformed."""
    if not re.fullmatch(_pattern(base), version):
        return None
    return tuple(int(part, base) for part in version.split("."))


def _pattern(base: int) -> str:
    digits = "[0-9]" if base == 10 else "[0-9A-F]"
    return rf"{digits}{{1,6}}(\.{digits}{{1,6}}){{1,5}}"


@dataclass(frozen=True)
class _Version(Text):
    """A version in digits of `base`."""

    base: int = 10

    def decode(self, value: object, what: str) -> str:
        """Raises FormatError `bad-gpu-policy` for a text that is not a version."""
        text = super().decode(value, what)
        if version_parts(text, self.base) is None:
            raise FormatError(
                _CODE,
                f"{what} is not a version",
                expected=f"numbers of base {self.base} with dots",
                seen=ascii(text[:40]),
            )
        return text

    def schema(self, definitions: Definitions) -> Schema:
        """`string` with the pattern."""
        return super().schema(definitions) | {"pattern": f"^{_pattern(self.base)}$"}


@dataclass(frozen=True)
class _Rule(Kind):
    """A `VersionRule`: a map with exactly one of `minimum` and `exact`."""

    base: int

    def decode(self, value: object, what: str) -> VersionRule:
        """Raises FormatError, as its versions do."""
        if isinstance(value, dict) and "minimum" in value:
            minimum = self._minimum.decode(value, what)["minimum"]
            return VersionRule(minimum, (), self.base)
        return VersionRule(None, self._exact.decode(value, what)["exact"], self.base)

    def encode(self, value: VersionRule) -> dict[str, object]:
        """The map."""
        if value.minimum is not None:
            return self._minimum.encode({"minimum": value.minimum})
        return self._exact.encode({"exact": value.exact})

    def schema(self, definitions: Definitions) -> Schema:
        """One of the two maps."""
        return {"oneOf": [self._minimum.schema(definitions), self._exact.schema(definitions)]}

    @property
    def _minimum(self) -> Keyed:
        return Keyed({"minimum": _Version(MAX_VERSION, base=self.base)})

    @property
    def _exact(self) -> Keyed:
        version = _Version(base=self.base)
        return Keyed({"exact": Accepted(version, MAX_VERSIONS, unique=True, code=_CODE)})


@dataclass(frozen=True)
class SoftwareRules:
    """The accepted versions for one architecture."""

    driver: Annotated[VersionRule, _Rule(10)]
    vbios: Annotated[VersionRule, _Rule(16)]


@dataclass(frozen=True)
class GpuPolicy:
    """Reference values for all GPUs of a role.

    `architectures` names the accepted kinds. The counts are inclusive, equal for an exact number.
    `modes` are of `MODES`. `insecure_ignored_measurements` are indexes that need not match the
    reference values. A certificate revoked for another reason than a compromise is accepted for
    `insecure_revoked_grace_hours` after that, 0 for not at all.
    """

    architectures: Annotated[
        Mapping[str, SoftwareRules],
        Keyed(dict.fromkeys(ARCHITECTURES, Nested(SoftwareRules)), required=False),
    ]
    minimum_count: Annotated[int, Integer(1, MAX_GPUS)]
    maximum_count: Annotated[int, Integer(1, MAX_GPUS)]
    modes: Annotated[tuple[str, ...], Choices(MODES)]
    insecure_ignored_measurements: Annotated[
        tuple[int, ...],
        Accepted(Integer(maximum=MAX_INDEX), MAX_INDEX + 1, unique=True, code=_CODE),
    ]
    insecure_revoked_grace_hours: Annotated[int, Integer(maximum=MAX_GRACE_HOURS)]
    opt_outs: Annotated[frozenset[OptOut], Choices(OptOut, collect=frozenset)]

    def __post_init__(self) -> None:
        if self.maximum_count < self.minimum_count:
            raise FormatError(
                "bad-field",
                "the GPU policy's field 'maximum_count' is wrong",
                expected=f"{self.minimum_count} to {MAX_GPUS}",
                seen=str(self.maximum_count),
            )
