"""Where each item of collateral comes from, and how a vendor's answer becomes one.

Pure: requests are described, answers are taken apart, nothing is sent. Nothing in an answer is
verified either: it is kept as it came, and a verifier checks it each time it is used.

Evidence, which anyone may write, decides what is asked for. So hosts are constants, and evidence
puts nothing into a URL but hex digits, numbers or a quoted id.

Source: AMD 57230 "VCEK Certificate and KDS Interface Specification"; Intel's Provisioning
Certification Service API, version 4; NVIDIA's RIM service, and OCSP (RFC 6960, 4.1 and appendix A;
RFC 8954: the nonce).
"""

from __future__ import annotations

import base64
import json
import secrets
import urllib.parse
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import ocsp

from confide.encoding.pem import write_chain
from confide.encoding.x509 import UNREADABLE
from confide.errors import FormatError
from confide.protocol.collateral import MAX_CHAIN, Item
from confide.vendors.amd.report import TCB_LAYOUTS, Product
from confide.vendors.intel import pcs
from confide.vendors.intel.pck import FMSPC_SIZE
from confide.vendors.nvidia.spdm import NONCE_SIZE
from confide.verify.collateral import About


@dataclass(frozen=True)
class Vendor:
    """A service; `without` says what still works while it does not."""

    name: str
    without: str


_HELD = "items in a bundle or the cache are used until they expire"
AMD = Vendor("AMD's key distribution service", f"{_HELD}, and TDX machines and GPUs need none")
INTEL = Vendor("Intel's certification service", f"{_HELD}, and SEV-SNP machines and GPUs need none")
NVIDIA_RIM = Vendor("NVIDIA's RIM service", f"{_HELD}, and machines without GPUs need none")
NVIDIA_OCSP = Vendor("NVIDIA's OCSP service", f"{_HELD}, and machines without GPUs need none")

_AMD_URL = "https://kdsintf.amd.com"
_NVIDIA_RIM_URL = "https://rim.attestation.nvidia.com/v1/rim"
_NVIDIA_OCSP_URL = "https://ocsp.ndis.nvidia.com/"
_SPL = {
    "fmc": "fmcSPL",
    "bootloader": "blSPL",
    "tee": "teeSPL",
    "snp": "snpSPL",
    "microcode": "ucodeSPL",
}


@dataclass(frozen=True)
class Answer:
    """A good HTTP answer: body, headers by lower-case name, and when it came (unix seconds)."""

    body: bytes
    headers: Mapping[str, str]
    fetched: int

    def item(self, *, chain: bytes = b"", nonce: bytes = b"") -> Item:
        """The body as an item."""
        return Item(self.body, self.fetched, chain, nonce)


@dataclass(frozen=True)
class Request:
    """One HTTP request, GET unless it has a body, and `read`: what items an answer to it holds.

    `read` raises FormatError for an answer of another form.
    """

    vendor: Vendor
    url: str
    read: Callable[[Answer], Mapping[str, Item]]
    body: bytes | None = None
    content_type: str = ""


def request_for(name: str, about: About) -> Request | None:
    """What to ask, and whom, for the item `name`; None if no vendor has it.

    `name` and `about` are as `verify.collateral.missing_for` gives them.
    """
    match name.split("/"):
        case ["amd", "vcek", product, chip, tcb]:
            return _vcek(name, Product(product), bytes.fromhex(chip), bytes.fromhex(tcb))
        case ["amd", product, "crl"]:
            url = f"{_AMD_URL}/vcek/v1/{product.capitalize()}/crl"
            return Request(AMD, url, lambda answer: {name: answer.item()})
        case ["amd", product, ("ask" | "ark")]:
            return _amd_chain(product, "vcek", "ask")
        case ["amd", product, "asvk"]:
            return _amd_chain(product, "vlek", "asvk")
        case ["intel", *kind]:
            return _intel(name, kind)
        case ["nvidia", "rim", rim_id]:
            url = f"{_NVIDIA_RIM_URL}/{urllib.parse.quote(rim_id, safe='')}"
            return Request(NVIDIA_RIM, url, lambda answer: {name: _rim(answer)})
        case ["nvidia", "ocsp", _]:
            return _ocsp(name, *about)
    return None


def _vcek(name: str, product: Product, chip: bytes, tcb: bytes) -> Request:
    levels = {_SPL[part]: tcb[at] for part, at in TCB_LAYOUTS[product].items()}
    family = product.value.capitalize()
    url = f"{_AMD_URL}/vcek/v1/{family}/{chip.hex()}?{urllib.parse.urlencode(levels)}"
    return Request(AMD, url, lambda answer: {name: answer.item()})


def _amd_chain(product: str, service: str, intermediate: str) -> Request:
    """Intermediate and root come in one answer."""

    def read(answer: Answer) -> dict[str, Item]:
        # Lines end in LF or CRLF, as the product has it: this is not our one spelling of PEM.
        try:
            chain = x509.load_pem_x509_certificates(answer.body)
        except UNREADABLE as error:
            raise _bad_answer("certificates", "PEM") from error
        names = (f"amd/{product}/{intermediate}", f"amd/{product}/ark")
        ders = (certificate.public_bytes(Encoding.DER) for certificate in chain)
        return {n: Item(der, answer.fetched) for n, der in zip(names, ders, strict=False)}

    return Request(AMD, f"{_AMD_URL}/{service}/v1/{product.capitalize()}/cert_chain", read)


def _intel(name: str, kind: list[str]) -> Request | None:
    fmspc, ca = bytes(FMSPC_SIZE), pcs.PckCa.PLATFORM
    match kind:
        case ["tcb-info", digits]:
            wanted, fmspc = pcs.Item.TCB_INFO, bytes.fromhex(digits)
        case ["qe-identity"]:
            wanted = pcs.Item.QE_IDENTITY
        case ["crl", "root"]:
            wanted = pcs.Item.ROOT_CRL
        case ["crl", issuer]:
            wanted, ca = pcs.Item.PCK_CRL, pcs.PckCa(issuer)
        case _:
            return None
    header = pcs.CHAIN_HEADERS.get(wanted, "")

    def read(answer: Answer) -> dict[str, Item]:
        chain = answer.headers.get(header.lower(), "")
        return {name: answer.item(chain=urllib.parse.unquote_to_bytes(chain))}

    return Request(INTEL, pcs.urls(pcs.Platform(fmspc, ca))[wanted], read)


def _ocsp(
    name: str, certificate: x509.Certificate, issuer: x509.Certificate, *above: x509.Certificate
) -> Request:
    ders = (c.public_bytes(Encoding.DER) for c in (certificate, issuer, *above))
    chain = write_chain(tuple(ders))
    if len(chain) > MAX_CHAIN:
        chain = b""  # evidence is anybody's; an answer without a chain is kept by nobody else
    nonce = secrets.token_bytes(NONCE_SIZE)
    question = (
        ocsp.OCSPRequestBuilder()
        .add_certificate(certificate, issuer, hashes.SHA384())
        .add_extension(x509.OCSPNonce(nonce), critical=False)
        .build()
    )
    return Request(
        NVIDIA_OCSP,
        _NVIDIA_OCSP_URL,
        lambda answer: {name: answer.item(chain=chain, nonce=nonce)},
        body=question.public_bytes(Encoding.DER),
        content_type="application/ocsp-request",
    )


def _rim(answer: Answer) -> Item:
    """{"id": ..., "rim": XML in base64, "sha256": ...}; the XML is signed, the rest is not."""
    try:
        rim = base64.b64decode(json.loads(answer.body)["rim"], validate=True)
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise _bad_answer("a RIM", "base64 in a field rim") from error
    return Item(rim, answer.fetched)


def _bad_answer(what: str, expected: str) -> FormatError:
    return FormatError("bad-answer", f"the answer does not hold {what}", expected=expected)
