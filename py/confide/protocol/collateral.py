"""Collateral: what vendors say about their hardware, in one file that anybody may carry.

Certificates, revocation lists, TCB info, reference integrity manifests, OCSP responses: all signed
by their vendors, so whoever brings them is trusted with nothing. A bundle proves nothing until a
verifier has checked the items it uses; the worst that a bad one can do is to make that fail.

Items have names, so that a verifier asks for exactly what some evidence needs:

    amd/PRODUCT/{ark,ask,asvk,crl}          DER
    amd/vcek/PRODUCT/CHIP/TCB               DER; hardware id and reported TCB in hex
    intel/tcb-info/FMSPC, intel/qe-identity JSON as Intel's service gives it, its signers' chain
    intel/crl/{root,processor,platform}     DER
    nvidia/rim/ID                           XML
    nvidia/ocsp/CERTIFICATE                 DER; SHA-256 of the certificate it is about, in hex
    google/issuer/KEY                       DER; a vTPM's issuer, by its key identifier in hex
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from confide.encoding.canonical import Cbor, cbor_decode, cbor_encode
from confide.encoding.fields import Fields
from confide.errors import FormatError

FORMAT = "confide-collateral/1"
MAX_BUNDLE = 8 << 20
MAX_ITEM = 1 << 20
MAX_ITEMS = 4096
_NAME = re.compile(r"[a-z]+(/[A-Za-z0-9_.-]{1,160}){1,4}")


@dataclass(frozen=True)
class Item:
    """One vendor's statement: its bytes, and when it was fetched (unix seconds, by our clock).

    `chain` is the PEM chain that a service sends beside what it signed, `nonce` what was sent along
    when this was asked for; both are empty if there is none.
    """

    data: bytes
    fetched: int
    chain: bytes = b""
    nonce: bytes = b""


@dataclass(frozen=True)
class Bundle:
    """CBOR map {format, items: {name: {data, chain, fetched, nonce}}}; at most 8 MiB."""

    items: Mapping[str, Item] = field(default_factory=dict)

    def get(self, name: str) -> Item | None:
        """The item of this name, None if the bundle has none."""
        return self.items.get(name)

    def merged(self, other: Bundle) -> Bundle:
        """The items of both; of two with one name, that fetched later."""
        items = dict(self.items)
        for name, item in other.items.items():
            if name not in items or items[name].fetched <= item.fetched:
                items[name] = item
        return Bundle(items)

    def encode(self) -> bytes:
        """As deterministic CBOR."""
        items: dict[str, Cbor] = {
            name: {
                "data": item.data,
                "chain": item.chain,
                "fetched": item.fetched,
                "nonce": item.nonce,
            }
            for name, item in self.items.items()
        }
        return cbor_encode({"format": FORMAT, "items": items})

    @classmethod
    def parse(cls, data: bytes) -> Bundle:
        """Raises FormatError. Nothing in an item is looked at: that is the verifier's part."""
        fields = Fields(cbor_decode(data, what="collateral", limit=MAX_BUNDLE), "collateral")
        fields.text("format", one_of=(FORMAT,))
        entries = fields.map("items")
        names = entries.unread()
        if len(names) > MAX_ITEMS:
            raise FormatError(
                "bad-collateral",
                "the collateral has too many items",
                expected=f"at most {MAX_ITEMS}",
                seen=str(len(names)),
            )
        items = {check_item_name(name): _read_item(entries.map(name)) for name in names}
        fields.done()
        return cls(items)


def check_item_name(name: str) -> str:
    """Return `name` if it can name an item. Raises FormatError."""
    if not _NAME.fullmatch(name) or ".." in name:
        raise FormatError(
            "bad-collateral",
            "an item of collateral has no such name",
            expected="vendor/kind/...",
            seen=ascii(name[:80]),
        )
    return name


def _read_item(fields: Fields) -> Item:
    item = Item(
        data=fields.blob("data", max_length=MAX_ITEM),
        fetched=fields.integer("fetched"),
        chain=fields.blob("chain", max_length=65536),
        nonce=fields.blob("nonce", max_length=64),
    )
    fields.done()
    return item
