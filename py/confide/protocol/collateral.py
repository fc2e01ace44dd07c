"""Collateral: what vendors say about their hardware, in one file that anybody may carry.

Certificates, revocation lists, TCB info, reference integrity manifests, OCSP responses: all signed
by their vendors, so anybody may bring them. A bundle proves nothing until a verifier has checked
the items that it uses. A program that keeps what anybody brings checks each item when it comes
(`verify/items/merge.py`).

Items have names, so that a verifier asks for exactly what some evidence needs:

    amd/PRODUCT/{ark,ask,asvk,crl}          DER
    amd/vcek/PRODUCT/CHIP/TCB               DER; hardware id and reported TCB in hex
    intel/tcb-info/FMSPC, intel/qe-identity JSON as Intel's service gives it, its signers' chain
    intel/crl/{root,processor,platform}     DER
    nvidia/rim/ID                           XML
    nvidia/ocsp/CERTIFICATE                 DER; SHA-256 of the certificate it is about, in hex
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any

from confide.encoding.messages import CborMessage
from confide.errors import FormatError
from measure.declare import Nested
from measure.kinds import Blob, Converted, Integer, MapOf, Text, Word

FORMAT = "confide-collateral/1"
MAX_BUNDLE = 8 << 20
MAX_ITEM = 1 << 20
MAX_ITEMS = 4096
MAX_CHAIN = 65536
_NAME = re.compile(r"[a-z]+(/[A-Za-z0-9_.-]{1,160}){1,4}")


def check_item_name(name: str) -> str:
    """Return `name` if it can name an item. Raises FormatError."""
    if not _NAME.fullmatch(name) or ".." in name:
        raise FormatError(
            "bad-collateral",
            "the name of a collateral item is malformed",
            expected="vendor/kind/...",
            seen=ascii(name[:80]),
        )
    return name


def _check_count(items: Mapping[str, Any]) -> Mapping[str, Any]:
    if len(items) > MAX_ITEMS:
        raise FormatError(
            "bad-collateral",
            "the collateral has too many items",
            expected=f"at most {MAX_ITEMS}",
            seen=str(len(items)),
        )
    return items


@dataclass(frozen=True)
class Item:
    """One vendor's statement: its bytes, and when it was fetched (unix seconds, by our clock).

    `chain` is in PEM, from a certificate up to the root: for TCB info and QE identity the signer's,
    for the list of a PCK CA that CA's, for an OCSP answer that of the certificate it is about.
    `nonce` is the nonce of an OCSP request. Each is empty for all other items.
    """

    data: Annotated[bytes, Blob(max_size=MAX_ITEM)]
    fetched: Annotated[int, Integer()]
    chain: Annotated[bytes, Blob(max_size=MAX_CHAIN)] = b""
    nonce: Annotated[bytes, Blob(max_size=64)] = b""


ITEM_NAME = Converted(Text(max_length=MAX_BUNDLE), read=check_item_name, write=str)
_ITEMS = MapOf(ITEM_NAME, Nested(Item), max_items=MAX_BUNDLE)


@dataclass(frozen=True)
class Bundle(CborMessage, what="the collateral", limit=MAX_BUNDLE):
    """Items by name; at most 8 MiB. No item is read here: that is the verifier's part."""

    format: Annotated[str, Word((FORMAT,))] = field(default=FORMAT, init=False)
    items: Annotated[Mapping[str, Item], Converted(_ITEMS, read=_check_count, write=dict)] = field(
        default_factory=dict
    )

    def get(self, name: str) -> Item | None:
        """The item of this name, None if the bundle has none."""
        return self.items.get(name)
