"""How new an item of collateral is, and for how long it may be used, as it states itself.

Unverified. Who keeps what anybody may bring checks the signature as well (`verify.items.genuine`).

Source: RFC 5280, 5.1.2 and 5.2.3 (lists); RFC 6960, 4.2.1 and 4.2.2.1 (answers); Intel's
Provisioning Certification Service API, version 4 (issueDate, nextUpdate, tcbEvaluationDataNumber).
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime

from cryptography import x509
from cryptography.x509 import ocsp

from confide.encoding.x509 import UNREADABLE, load_certificate
from confide.errors import FormatError
from confide.protocol.collateral import Item
from confide.vendors.amd.certificates import EndorsementKey
from confide.vendors.amd.report import TCB_LAYOUTS, TCB_SIZE
from confide.vendors.intel import pcs
from confide.vendors.intel.collateral import QeIdentity, TcbInfo
from confide.vendors.nvidia.rim import Rim, load_rim_xml, signing_certificates
from confide.verify.collateral import intel_answer, vcek_name
from confide.verify.nvidia.collateral import MAX_ANSWER
from confide.verify.x509 import load_crl


@dataclass(frozen=True)
class Dates:
    """When a vendor made an item, and from when to when it may be used (Unix seconds, included).

    Of two items with one name, the one with the greater `edition` is newer. It is empty for what
    has no order: certificates and RIMs stay what they are, and the lists and answers say whether
    they are still good. `end` is None for certificates, too. A RIM ends with its signers, and the
    same reference values then come with another signature.
    """

    edition: tuple[int, ...] = ()
    start: int = 0
    end: int | None = None

    def within(self, certificates: Sequence[x509.Certificate]) -> Dates:
        """The part of that time in which all these certificates are valid."""
        starts = [int(c.not_valid_before_utc.timestamp()) for c in certificates]
        ends = [int(c.not_valid_after_utc.timestamp()) for c in certificates]
        ends += [] if self.end is None else [self.end]
        return replace(self, start=max(self.start, *starts), end=min(ends))


def read_dates(name: str, item: Item) -> Dates:
    """What an item of this name states.

    Raises:
        FormatError: it is not of the kind that its name says.
    """
    match name.split("/"):
        case ["amd", _, "crl"] | ["intel", "crl", _]:
            return _of_list(name, item)
        case ["intel", "tcb-info", _]:
            info = TcbInfo.parse(pcs.read_signed(pcs.Item.TCB_INFO, intel_answer(item))[0])
            return _of_document(info)
        case ["intel", "qe-identity"]:
            signed = pcs.read_signed(pcs.Item.QE_IDENTITY, intel_answer(item))
            return _of_document(QeIdentity.parse(signed[0]))
        case ["nvidia", "ocsp", _]:
            return _of_answer(name, item)
        case ["nvidia", "rim", _]:
            document = load_rim_xml(item.data)
            Rim.read(document)
            signers = [load_certificate(der, name) for der in signing_certificates(document)]
            return Dates().within(signers)
        case ["amd", "vcek", *_]:
            _check_vcek(name, item)
        case _:
            load_certificate(item.data, name)
    return Dates()


def newer(name: str, one: Item | None, other: Item | None) -> Item | None:
    """The newer of two items of this name, as their vendor says: `one` if that does not decide.

    Unverified. An item that cannot be read is never the newer one.
    """
    read: list[tuple[tuple[int, ...], Item]] = []
    for item in (one, other):
        with suppress(FormatError):
            read += [(read_dates(name, item).edition, item)] if item else []
    return max(read, key=lambda found: found[0])[1] if read else one or other


def _of_list(name: str, item: Item) -> Dates:
    crl = load_crl(item.data, name)
    try:
        number = crl.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number
    except x509.ExtensionNotFound:
        number = 0
    start = _known(crl.last_update_utc, name)
    return Dates((start, number), start, _known(crl.next_update_utc, name))


def _of_document(document: TcbInfo | QeIdentity) -> Dates:
    """Intel has two evaluations at a time and dates both anew: the number comes first."""
    edition = (document.evaluation_data_number, document.issue_date)
    return Dates(edition, document.issue_date, document.next_update)


def _of_answer(name: str, item: Item) -> Dates:
    """That a responder does not know the certificate takes back nothing that it has said."""
    expected = f"an OCSP response of at most {MAX_ANSWER} bytes about one certificate"
    if len(item.data) > MAX_ANSWER:
        raise _bad(name, expected, f"{len(item.data)} bytes")
    try:
        response = ocsp.load_der_ocsp_response(item.data)
        if response.response_status != ocsp.OCSPResponseStatus.SUCCESSFUL:
            raise _bad(name, expected, response.response_status.name.lower().replace("_", " "))
        known = response.certificate_status != ocsp.OCSPCertStatus.UNKNOWN
        start = _known(response.this_update_utc, name)
        made, end = _known(response.produced_at_utc, name), _known(response.next_update_utc, name)
    except UNREADABLE as error:
        raise _bad(name, expected, f"{len(item.data)} bytes of something else") from error
    return Dates((int(known), start, made), start, end)


def _check_vcek(name: str, item: Item) -> None:
    """It is kept for good, so another chip's must not take its place."""
    key = EndorsementKey.parse(item.data)
    levels = key.tcb.to_dict()
    tcb = bytearray(TCB_SIZE)
    for part, at in TCB_LAYOUTS[key.product].items():
        tcb[at] = levels[part]
    if key.chip_id is None or vcek_name(key.product, key.chip_id, bytes(tcb)) != name:
        raise _bad(name, "the certificate of this chip and TCB version", "that of another")


def _known(time: datetime | None, name: str) -> int:
    if time is None:
        raise _bad(name, "a time at which it expires", "none")
    return int(time.timestamp())


def _bad(name: str, expected: str, seen: str) -> FormatError:
    return FormatError(
        "bad-collateral", f"the collateral item {name} cannot be used", expected=expected, seen=seen
    )
