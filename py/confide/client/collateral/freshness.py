"""How long an item of collateral may be used, as it states itself.

Unverified: this is only about what is worth keeping. A verifier holds each item's times against its
own clock once more, after its signature.
"""

from __future__ import annotations

from datetime import datetime

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

RENEW_AFTER = 86400
"""Seconds after which a newer one is asked for, where there can be one.

Revocation lists are good for months. Who only looked again at their end would learn of a revocation
just then. Until a newer one comes, the old one stays good.
"""


def end_of(name: str, item: Item) -> int | None:
    """Until when the item may be used (unix seconds, included); None for one that has no end.

    Certificates and RIMs stay what they are: whether they are still good is what the others say.
    Raises FormatError if the item is not of the kind that its name says.
    """
    match name.split("/"):
        case ["amd", _, "crl"] | ["intel", "crl", _]:
            end = load_crl(item.data, name).next_update_utc
            return int(_known(end, name).timestamp())
        case ["intel", "tcb-info", _]:
            return TcbInfo.parse(_signed(pcs.Item.TCB_INFO, item)).next_update
        case ["intel", "qe-identity"]:
            return QeIdentity.parse(_signed(pcs.Item.QE_IDENTITY, item)).next_update
        case ["nvidia", "ocsp", _]:
            return _end_of_answer(name, item)
        case ["nvidia", "rim", _]:
            document = load_rim_xml(item.data)
            Rim.read(document)
            signing_certificates(document)
        case ["amd", "vcek", *_]:
            _check_vcek(name, item)
        case _:
            load_certificate(item.data, name)
    return None


def is_young(item: Item, now: int) -> bool:
    """Whether nothing newer is worth asking for. A time of fetching that is to come proves none."""
    return 0 <= now - item.fetched < RENEW_AFTER


def _check_vcek(name: str, item: Item) -> None:
    """It is kept for good, so another chip's must not take its place."""
    key = EndorsementKey.parse(item.data)
    levels = key.tcb.to_dict()
    tcb = bytearray(TCB_SIZE)
    for part, at in TCB_LAYOUTS[key.product].items():
        tcb[at] = levels[part]
    if key.chip_id is None or vcek_name(key.product, key.chip_id, bytes(tcb)) != name:
        raise _bad(name, "the certificate of this chip and TCB version", "that of another")


def _signed(kind: pcs.Item, item: Item) -> bytes:
    return pcs.read_signed(kind, intel_answer(item))[0]


def _end_of_answer(name: str, item: Item) -> int:
    expected = f"an OCSP response of at most {MAX_ANSWER} bytes about one certificate"
    if len(item.data) > MAX_ANSWER:
        raise _bad(name, expected, f"{len(item.data)} bytes")
    try:
        response = ocsp.load_der_ocsp_response(item.data)
        if response.response_status != ocsp.OCSPResponseStatus.SUCCESSFUL:
            raise _bad(name, expected, response.response_status.name.lower().replace("_", " "))
        return int(_known(response.next_update_utc, name).timestamp())
    except UNREADABLE as error:
        raise _bad(name, expected, f"{len(item.data)} bytes of something else") from error


def _known(end: datetime | None, name: str) -> datetime:
    if end is None:
        raise _bad(name, "a time at which it expires", "none")
    return end


def _bad(name: str, expected: str, seen: str) -> FormatError:
    return FormatError(
        "bad-collateral", f"the collateral item {name} cannot be used", expected=expected, seen=seen
    )
