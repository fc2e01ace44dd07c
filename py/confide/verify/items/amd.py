"""AMD's items: certificates up to the pinned root key of a product, and the root's list."""

from __future__ import annotations

from collections.abc import Mapping

from cryptography import x509

from confide.encoding.x509 import load_certificate
from confide.protocol.collateral import Item
from confide.vendors.amd.report import Product
from confide.verify.chain import Walker
from confide.verify.items.dates import Dates, read_dates
from confide.verify.items.faults import not_genuine, require, require_current, require_signer
from confide.verify.snp import chain as snp_chain
from confide.verify.verdict import check_equal
from confide.verify.x509 import check_crl, load_crl, short_name, spki_sha256

_PLACES = ("vcek", "ask", "ark")


def check_certificate(name: str, item: Item, held: Mapping[str, Item], now: int) -> Dates:
    """ARK, ASK, ASVK or VCEK. Raises ConfideError."""
    parts = name.split("/")
    product, part = (parts[2], "vcek") if parts[1] == "vcek" else (parts[1], parts[2])
    dates = read_dates(name, item)
    first = _PLACES.index("ask" if part == "asvk" else part)
    chain = [load_certificate(item.data, name)]
    for issuer in _PLACES[first + 1 :]:
        signer = f"amd/{product}/{issuer}"
        chain.append(load_certificate(require_signer(name, signer, held).data, signer))
    usable = dates.within(chain)
    require_current(name, usable, now)
    _check(name, product, chain, first)
    # The root signs the issuers of both kinds of keys: neither may stand in the other's place.
    if first == 1 and ("VLEK" in short_name(chain[0])) != (part == "asvk"):
        raise not_genuine(name, f"the {part.upper()} of this product", short_name(chain[0]))
    return usable


def check_list(name: str, item: Item, held: Mapping[str, Item], now: int) -> Dates:
    """The root's revocation list. Raises ConfideError."""
    product = name.split("/")[1]
    dates = read_dates(name, item)
    require_current(name, dates, now)
    root = load_certificate(require_signer(name, f"amd/{product}/ark", held).data, "root")
    require(name, check_crl("list", load_crl(item.data, name), root, snp_chain.PSS, now))
    return dates


def _check(name: str, product: str, chain: list[x509.Certificate], first: int) -> None:
    """That the chain, whose first certificate stands in this place, is the product's."""
    known = snp_chain.ROOTS[Product(product)]
    require(name, check_equal("root", known.spki_sha256, spki_sha256(chain[-1]), "pinned root key"))
    fault = next(filter(None, Walker().faults(chain, snp_chain.PROFILE, first=first)), "")
    if fault:
        raise not_genuine(name, "each certificate signed by the next", fault)
