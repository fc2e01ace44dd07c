"""Intel's items: signed documents with their signer's chain, and the lists of its CAs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress

from cryptography import x509

from confide.encoding.pem import read_chain
from confide.encoding.x509 import load_certificate
from confide.errors import FormatError
from confide.protocol.certificates import public_key_of
from confide.protocol.collateral import Item
from confide.protocol.policy.tdx import TdxPolicy
from confide.vendors.intel import pcs
from confide.vendors.intel.collateral import SIGNING_CHAIN_LENGTH, TcbInfo
from confide.verify import roots
from confide.verify.chain import Profile, Walker
from confide.verify.collateral import intel_answer
from confide.verify.items.dates import Dates, read_dates
from confide.verify.items.faults import (
    not_genuine,
    not_needed,
    require,
    require_current,
    without_signer,
)
from confide.verify.tdx.chain import ECDSA_SHA256, PCK_CHAIN, SIGNING_CHAIN
from confide.verify.tdx.signatures import check_signature
from confide.verify.verdict import check_equal
from confide.verify.x509 import check_crl, load_crl, short_name, spki_sha256

_ROOT_NAME = "Intel's root certificate"
_CA_CHAIN_LENGTH = 2


def check_document(name: str, item: Item, policy: TdxPolicy, now: int) -> Dates:
    """TCB info or QE identity, with the chain of its signer. Raises ConfideError."""
    dates = read_dates(name, item)
    kind = pcs.Item.QE_IDENTITY if name == "intel/qe-identity" else pcs.Item.TCB_INFO
    document, signature, ders = pcs.read_signed(kind, intel_answer(item))
    chain = [load_certificate(der, f"{kind} signer's") for der in ders]
    usable = dates.within(chain)
    require_current(name, usable, now)
    _check_chain(name, chain, SIGNING_CHAIN, first=0)
    key = public_key_of(chain[0], "TCB signer's")
    require(name, check_signature("signature", key, signature, document))
    if kind is pcs.Item.TCB_INFO:
        seen = TcbInfo.parse(document).fmspc.hex()
        if not name.endswith(f"/{seen}"):
            raise not_genuine(name, "the TCB info of this FMSPC", f"that of {seen}")
    minimum, number = policy.minimum_tcb_evaluation_data_number, dates.edition[0]
    if number < minimum:
        expected = f"an evaluation data number of at least {minimum}"
        raise not_needed(name, expected, str(number))
    # The same document may come again with a chain that lasts longer.
    return Dates((*dates.edition, usable.end or 0), dates.start, dates.end)


def check_list(name: str, item: Item, held: Mapping[str, Item], now: int) -> Dates:
    """The list of the root, or of a PCK CA with the chain of that CA. Raises ConfideError."""
    dates = read_dates(name, item)
    require_current(name, dates, now)
    issuer = name.rpartition("/")[2]
    if issuer == "root":
        signer = _held_root(name, held)
    else:
        if not item.chain:
            raise without_signer(name, "the certificate of its CA, as Intel's service sends it")
        ders = read_chain(item.chain, f"chain of {name}", max_certificates=_CA_CHAIN_LENGTH)
        chain = [load_certificate(der, "PCK CA's") for der in ders]
        require_current(name, dates.within(chain), now)
        _check_chain(name, chain, PCK_CHAIN, first=1)
        signer, wanted = chain[0], f"Intel SGX PCK {issuer.capitalize()} CA"
        if short_name(signer) != wanted:
            raise not_genuine(name, f"a list of {wanted}", f"one of {short_name(signer)}")
    require(name, check_crl("list", load_crl(item.data, name), signer, ECDSA_SHA256, now))
    return dates


def _held_root(name: str, held: Mapping[str, Item]) -> x509.Certificate:
    """The root stands at the end of every chain of Intel's that is held."""
    for other, item in held.items():
        with suppress(FormatError):
            if other.startswith("intel/") and item.chain:
                ders = read_chain(item.chain, "chain", max_certificates=SIGNING_CHAIN_LENGTH)
                return load_certificate(ders[-1], "root")
    raise without_signer(name, f"an item of Intel's that comes with {_ROOT_NAME}")


def _check_chain(
    name: str, chain: Sequence[x509.Certificate], profile: Profile, *, first: int
) -> None:
    pinned = roots.INTEL_SGX.spki_sha256
    require(name, check_equal("root", pinned, spki_sha256(chain[-1]), "pinned root key"))
    fault = next(filter(None, Walker().faults(chain, profile, first=first)), "")
    if not fault and len(chain) + first not in profile.lengths:
        fault = f"{len(chain)} certificates"
    if fault:
        raise not_genuine(name, "each certificate signed by the next", fault)
