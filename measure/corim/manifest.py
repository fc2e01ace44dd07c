"""Reference values as a CoRIM: one CoMID for each machine, one reference triple in it.

Our own profile. It adds nothing to CoRIM and says how it is used:

- `id` is "IMAGE/SHA-256 of measurements.json", a CoMID's tag-id is that, platform and machine; so
  unequal measurements never share an identifier, and equal ones, with the same creator and
  validity, are equal bytes.
- Each CoMID has one reference triple, whose class is one of `CLASSES`. All its measurements must
  match; the CoMIDs of one class are alternatives.
- sev-snp: "MEASUREMENT", digests. tdx: "MRTD", digests; "RTMR", integrity registers 0 to 3;
  "ATTRIBUTES" and "XFAM", raw values (8 bytes, little-endian, as in the report). vtpm: "PCR",
  integrity registers, SHA-256 bank.
- No key material; the encoding is deterministic.

Microsoft's launch measurement profile has room for one launch digest, and nothing else; tools that
know only that one get it with `launch_measurement`.
"""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from measure import cbor, report
from measure.cbor import Tag
from measure.corim import rules
from measure.errors import InputError
from measure.report import SEV_SNP, TDX, VTPM, Predictions

PROFILE = "urn:uuid:56044fe2-7044-4b91-81d7-eed3bd822e44"
LAUNCH_MEASUREMENT_PROFILE = "tag:microsoft.com,2026:launch-measurement/v1"
_LAUNCH_MEASUREMENT_TAGS = uuid.UUID("85f3f1c2-22a8-441e-a1b9-bccfb63ed5f7")

# Vendor and model: those of the launch measurement profile where it has them.
CLASSES = {VTPM: ("TCG", "vTPM"), SEV_SNP: ("AMD", "SEV-SNP"), TDX: ("Intel", "TDX")}

# IANA's Named Information Hash Algorithm Registry
SHA256, SHA384 = 1, 7

_MANIFEST_CREATOR, _TAG_CREATOR = 1, 0

Measurement = dict[int, Any]


@dataclass(frozen=True)
class State:
    """What one machine reports: its platform, its name, and measurement maps (5.1.4.5)."""

    platform: str
    shape: str
    measurements: tuple[Measurement, ...]


@dataclass(frozen=True)
class Publication:
    """What a CoRIM says of itself.

    Attributes:
        creator: name of who makes it; None leaves it out.
        not_before, not_after: seconds since 1970, to the end of the year 9999; not_after None
            leaves both out.
    """

    creator: str | None = None
    not_before: int | None = None
    not_after: int | None = None

    def __post_init__(self) -> None:
        for seconds in (self.not_before, self.not_after):
            if seconds is not None and not 0 <= seconds <= rules.MAX_TIME:
                raise InputError(
                    "the validity is outside the years 1970 to 9999", seen=str(seconds)
                )
        if self.not_before is None:
            return
        if self.not_after is None or self.not_after < self.not_before:
            raise InputError("a validity with a start needs a later end")


def states(predictions: Predictions) -> Iterator[State]:
    """Every machine's state, in the order of measurements.json."""
    for pcrs in predictions.vtpm:
        registers = _registers("PCR", SHA256, pcrs.pcrs())
        yield State(VTPM, pcrs.shape.name, (registers,))
    for launch in predictions.sev_snp:
        yield State(SEV_SNP, launch.shape.name, (_digest("MEASUREMENT", SHA384, launch.digest),))
    for machine in predictions.tdx:
        shape = machine.shape
        measurements = (
            _digest("MRTD", SHA384, machine.mrtd[shape.page_order]),
            _registers("RTMR", SHA384, machine.rtmrs()),
            _raw("ATTRIBUTES", shape.attributes),
            _raw("XFAM", shape.xfam),
        )
        yield State(TDX, shape.name, measurements)


def write(measured: dict[str, Any], wanted: Sequence[State], about: Publication) -> bytes:
    """A CoRIM (tag 501) in our own profile.

    Args:
        measured: the parsed measurements.json.
        wanted: which of its states; at least one.
        about: what else to say.
    """
    digest = hashlib.sha256(report.encode(measured)).hexdigest()
    identity = f"{measured['image']}/{digest}"
    tags = [_comid(f"{identity}/{s.platform}/{s.shape}", s, about.creator) for s in wanted]
    manifest: dict[int, Any] = {0: identity, 1: tags, 3: Tag(rules.TAG_URI, PROFILE)}
    if about.not_after is not None:
        manifest[4] = {1: Tag(rules.TAG_TIME, about.not_after)}
        if about.not_before is not None:
            manifest[4][0] = Tag(rules.TAG_TIME, about.not_before)
    if about.creator is not None:
        manifest[5] = [_entity(about.creator, _MANIFEST_CREATOR)]
    return cbor.encode(Tag(rules.TAG_CORIM, manifest))


def launch_measurement(state: State, svn: int) -> bytes:
    """A CoRIM in Microsoft's profile: the state's launch digest is security version `svn`.

    Raises:
        InputError: a platform that the profile does not have, or a negative version.
    """
    if state.platform == VTPM:
        raise InputError(
            "the launch measurement profile has no such platform",
            expected=f"{SEV_SNP} or {TDX}",
            seen=state.platform,
        )
    if svn < 0:
        raise InputError("the security version is negative", seen=str(svn))
    launch = state.measurements[0]
    vendor, model = CLASSES[state.platform]
    environment = {0: {1: vendor, 2: model}}
    series = [[[launch], [{1: {1: Tag(rules.TAG_SVN, svn)}}]]]
    comid = {
        1: {0: str(uuid.uuid5(_LAUNCH_MEASUREMENT_TAGS, f"{vendor}/{model}"))},
        4: {0: [[environment, [launch]]], 8: [[[environment, []], series]]},
    }
    manifest = {
        0: f"{vendor}/{model}/launch-measurement",
        1: [Tag(rules.TAG_COMID, cbor.encode(comid))],
        3: Tag(rules.TAG_URI, LAUNCH_MEASUREMENT_PROFILE),
    }
    return cbor.encode(Tag(rules.TAG_CORIM, manifest))


def _comid(tag_id: str, state: State, creator: str | None) -> Tag:
    vendor, model = CLASSES[state.platform]
    triple = [{0: {1: vendor, 2: model}}, list(state.measurements)]
    comid: dict[int, Any] = {1: {0: tag_id}, 4: {0: [triple]}}
    if creator is not None:
        comid[2] = [_entity(creator, _TAG_CREATOR)]
    return Tag(rules.TAG_COMID, cbor.encode(comid))


def _entity(name: str, role: int) -> dict[int, Any]:
    return {0: name, 2: [role]}


def _digest(element: str, algorithm: int, value: bytes) -> Measurement:
    return {0: element, 1: {2: [[algorithm, value]]}}


def _raw(element: str, value: int) -> Measurement:
    return {0: element, 1: {4: Tag(rules.TAG_BYTES, value.to_bytes(8, "little"))}}


def _registers(element: str, algorithm: int, values: dict[int, bytes]) -> Measurement:
    registers = {number: [[algorithm, value]] for number, value in values.items()}
    return {0: element, 1: {14: registers}}
