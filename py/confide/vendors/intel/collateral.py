"""What Intel says of platforms and enclaves: everything outside a quote that verifying one needs.

TCB info and QE identity are JSON that Intel signed byte by byte, so `TdxCollateral` keeps those
bytes, and nothing is read from any other. An unknown field is refused: it could change what the
known ones mean, as `tdxModuleIdentities` once did within the same version.

Source: Intel's Provisioning Certification Service API, version 4: "Get TCB Info" (TDX, version 3),
"Get Quoting Enclave Identity" (TD_QE, version 2), "Get Revocation List".
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import TypeVar

from confide.encoding.fields import Fields
from confide.errors import FormatError

COMPONENTS = 16
SIGNING_CHAIN_LENGTH = 2
MAX_DOCUMENT = 1 << 18
MAX_LEVELS = 256

T = TypeVar("T")

_TIME = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z")
_HEX = re.compile(r"([0-9A-Fa-f]{2})*")
_COMPONENT = {"svn", "category", "type"}  # the last two are for people


class TcbStatus(StrEnum):
    """What Intel says of a security version. The last two are never in TCB info: they follow.

    Relaunch advised: the host runs a newer TDX module than the one that this TD was started under.
    """

    UP_TO_DATE = "UpToDate"
    SW_HARDENING_NEEDED = "SWHardeningNeeded"
    CONFIGURATION_NEEDED = "ConfigurationNeeded"
    CONFIGURATION_AND_SW_HARDENING_NEEDED = "ConfigurationAndSWHardeningNeeded"
    OUT_OF_DATE = "OutOfDate"
    OUT_OF_DATE_CONFIGURATION_NEEDED = "OutOfDateConfigurationNeeded"
    REVOKED = "Revoked"
    TD_RELAUNCH_ADVISED = "TDRelaunchAdvised"
    TD_RELAUNCH_ADVISED_CONFIGURATION_NEEDED = "TDRelaunchAdvisedConfigurationNeeded"


_PLATFORM_STATUSES = tuple(TcbStatus)[:7]
_SOFTWARE_STATUSES = (TcbStatus.UP_TO_DATE, TcbStatus.OUT_OF_DATE, TcbStatus.REVOKED)


@dataclass(frozen=True)
class TcbLevel:
    """A platform's status from these versions on: 16 SVNs each for SGX and TDX, one byte each."""

    sgx_svns: bytes
    tdx_svns: bytes
    pce_svn: int
    status: TcbStatus
    advisories: tuple[str, ...]


@dataclass(frozen=True)
class SoftwareLevel:
    """The status of an enclave or a TDX module from this security version on."""

    isv_svn: int
    status: TcbStatus
    advisories: tuple[str, ...]


@dataclass(frozen=True)
class TdxModule:
    """Who signed a TDX module (48 bytes) and its attributes (8 bytes) under a mask (8 bytes).

    `id` is "TDX_" and the module's major version in hex; "" for the module of version 0, which has
    no levels of its own.
    """

    id: str
    mrsigner: bytes
    attributes: bytes
    attributes_mask: bytes
    levels: tuple[SoftwareLevel, ...]


@dataclass(frozen=True)
class TcbInfo:
    """TCB info of one kind of platform (`fmspc` 6 bytes, `pce_id` 2); levels are newest first.

    Times are unix seconds. The evaluation data number grows when Intel re-appraises everything.
    """

    issue_date: int
    next_update: int
    fmspc: bytes
    pce_id: bytes
    evaluation_data_number: int
    module: TdxModule
    module_identities: tuple[TdxModule, ...]
    levels: tuple[TcbLevel, ...]

    @classmethod
    def parse(cls, data: bytes) -> TcbInfo:
        """Raises FormatError unless this is TCB info for TDX, version 3."""
        fields = _document(data, "TCB info")
        fields.text("id", one_of=("TDX",))
        fields.integer("version", minimum=3, maximum=3)
        fields.integer("tcbType", maximum=0)
        info = cls(
            issue_date=_time(fields, "issueDate"),
            next_update=_time(fields, "nextUpdate"),
            fmspc=_hex(fields, "fmspc", 6),
            pce_id=_hex(fields, "pceId", 2),
            evaluation_data_number=fields.integer("tcbEvaluationDataNumber", maximum=2**32 - 1),
            module=_read_module(fields.map("tdxModule"), ""),
            module_identities=_read_module_identities(fields),
            levels=_levels(fields, _read_tcb_level),
        )
        fields.done()
        return info


@dataclass(frozen=True)
class QeIdentity:
    """What Intel's TD quoting enclave looks like: 4, 16 and 32 bytes, as they stand in a report."""

    issue_date: int
    next_update: int
    evaluation_data_number: int
    miscselect: bytes
    miscselect_mask: bytes
    attributes: bytes
    attributes_mask: bytes
    mrsigner: bytes
    isv_prod_id: int
    levels: tuple[SoftwareLevel, ...]

    @classmethod
    def parse(cls, data: bytes) -> QeIdentity:
        """Raises FormatError unless this is the identity of the TD quoting enclave, version 2."""
        fields = _document(data, "QE identity")
        fields.text("id", one_of=("TD_QE",))
        fields.integer("version", minimum=2, maximum=2)
        identity = cls(
            issue_date=_time(fields, "issueDate"),
            next_update=_time(fields, "nextUpdate"),
            evaluation_data_number=fields.integer("tcbEvaluationDataNumber", maximum=2**32 - 1),
            miscselect=_hex(fields, "miscselect", 4),
            miscselect_mask=_hex(fields, "miscselectMask", 4),
            attributes=_hex(fields, "attributes", 16),
            attributes_mask=_hex(fields, "attributesMask", 16),
            mrsigner=_hex(fields, "mrsigner", 32),
            isv_prod_id=fields.integer("isvprodid", maximum=0xFFFF),
            levels=_levels(fields, lambda level: _read_software_level(level, 0xFFFF)),
        )
        fields.done()
        return identity


@dataclass(frozen=True)
class TdxCollateral:
    """The bytes themselves; none of them is verified yet.

    `tcb_info` and `qe_identity` are the JSON objects that the signatures (r ‖ s, 64 bytes) are
    over; each chain is DER: the TCB signing certificate and the root. `root_ca_crl` is from the
    root, `pck_crl` from the CA that issued the PCK certificate, both DER.
    """

    tcb_info: bytes
    tcb_info_signature: bytes
    tcb_info_chain: tuple[bytes, ...]
    qe_identity: bytes
    qe_identity_signature: bytes
    qe_identity_chain: tuple[bytes, ...]
    root_ca_crl: bytes
    pck_crl: bytes


def _read_module_identities(fields: Fields) -> tuple[TdxModule, ...]:
    """Absent before Intel had modules of more than one major version."""
    if not fields.has("tdxModuleIdentities"):
        return ()
    modules: list[TdxModule] = []
    for item in fields.list("tdxModuleIdentities", max_items=256):
        module = Fields(item, "a TDX module identity")
        name = module.text("id", max_length=6).upper()
        if not re.fullmatch("TDX_[0-9A-F]{2}", name) or name in [m.id for m in modules]:
            raise _bad("a TDX module identity", "TDX_ and two hex digits, each once", name)
        modules.append(_read_module(module, name))
    return tuple(modules)


def _read_module(fields: Fields, name: str) -> TdxModule:
    module = TdxModule(
        id=name,
        mrsigner=_hex(fields, "mrsigner", 48),
        attributes=_hex(fields, "attributes", 8),
        attributes_mask=_hex(fields, "attributesMask", 8),
        levels=_levels(fields, lambda level: _read_software_level(level, 0xFF)) if name else (),
    )
    fields.done()
    return module


def _read_tcb_level(fields: Fields) -> TcbLevel:
    tcb = fields.map("tcb")
    level = TcbLevel(
        sgx_svns=_components(tcb, "sgxtcbcomponents"),
        tdx_svns=_components(tcb, "tdxtcbcomponents"),
        pce_svn=tcb.integer("pcesvn", maximum=0xFFFF),
        status=_status(fields, _PLATFORM_STATUSES),
        advisories=_advisories(fields),
    )
    tcb.done()
    return level


def _read_software_level(fields: Fields, maximum: int) -> SoftwareLevel:
    tcb = fields.map("tcb")
    svn = tcb.integer("isvsvn", maximum=maximum)
    tcb.done()
    return SoftwareLevel(svn, _status(fields, _SOFTWARE_STATUSES), _advisories(fields))


def _components(fields: Fields, name: str) -> bytes:
    """16 security version numbers. Each is one byte in a report, so a larger one means nothing."""
    svns = []
    for item in fields.list(name, max_items=COMPONENTS):
        # Not through Fields: this is most of the document, and there is only one number in it.
        svn = item.get("svn") if isinstance(item, dict) and item.keys() <= _COMPONENT else None
        if type(svn) is not int or not 0 <= svn <= 0xFF:
            raise _bad(f"a component of {name}", 'an "svn" of 0 to 255', ascii(svn)[:80])
        svns.append(svn)
    if len(svns) != COMPONENTS:
        raise _bad(name, f"{COMPONENTS} components", str(len(svns)))
    return bytes(svns)


def _levels(fields: Fields, read: Callable[[Fields], T]) -> tuple[T, ...]:
    levels = []
    for item in fields.list("tcbLevels", max_items=MAX_LEVELS):
        level = Fields(item, "a TCB level")
        levels.append(read(level))
        _time(level, "tcbDate")
        level.done()
    return tuple(levels)


def _status(fields: Fields, legal: tuple[TcbStatus, ...]) -> TcbStatus:
    return TcbStatus(fields.text("tcbStatus", one_of=legal))


def _advisories(fields: Fields) -> tuple[str, ...]:
    if not fields.has("advisoryIDs"):
        return ()
    return read_advisories(fields.list("advisoryIDs"))


def read_advisories(items: list[object]) -> tuple[str, ...]:
    """Identifiers of security advisories, such as INTEL-SA-00615. Raises FormatError."""
    advisories = []
    for item in items:
        if not isinstance(item, str) or not re.fullmatch(r"[A-Z0-9][A-Z0-9-]{0,63}", item):
            raise _bad("an advisory", "an identifier such as INTEL-SA-00615", ascii(item)[:80])
        advisories.append(item)
    return tuple(advisories)


def _document(data: bytes, what: str) -> Fields:
    if len(data) > MAX_DOCUMENT:
        raise _bad(what, f"at most {MAX_DOCUMENT} bytes", f"{len(data)} bytes")
    try:
        value = json.loads(
            data.decode("ascii"),
            object_pairs_hook=_unique,
            parse_float=_no_number,
            parse_constant=_no_number,
        )
    except (ValueError, RecursionError) as error:
        raise _bad(what, "JSON in ASCII with each key once and whole numbers", "not so") from error
    return Fields(value, what)


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    value = dict(pairs)
    if len(value) != len(pairs):
        raise ValueError("a key twice")
    return value


def _no_number(text: str) -> object:
    raise ValueError(f"not a whole number: {text[:20]}")


def _time(fields: Fields, name: str) -> int:
    text = fields.text(name, max_length=20)
    try:
        if not _TIME.fullmatch(text):
            raise ValueError
        return int(datetime.fromisoformat(text).timestamp())
    except ValueError as error:
        raise _bad(name, "a time like 2026-02-18T10:58:51Z", ascii(text)) from error


def _hex(fields: Fields, name: str, size: int) -> bytes:
    """Intel writes hex in either case; the bytes are what counts."""
    text = fields.text(name, max_length=2 * size)
    if len(text) != 2 * size or not _HEX.fullmatch(text):
        raise _bad(name, f"{2 * size} hex digits", ascii(text))
    return bytes.fromhex(text)


def _bad(what: str, expected: str, seen: str) -> FormatError:
    return FormatError(
        "bad-collateral",
        f"Intel's collateral is malformed: {what} is wrong",
        expected=expected,
        seen=seen,
    )
