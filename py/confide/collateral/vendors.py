"""Where each item of collateral comes from, and how a vendor's answer becomes one.

Pure: requests are described, answers are taken apart, nothing is sent. Nothing in an answer is
believed either: it is kept as it came, and a verifier checks it each time it is used.

Source: AMD 57230 "VCEK Certificate and KDS Interface Specification"; Intel PCS API version 4; NVIDIA
RIM service and OCSP (RFC 6960, RFC 8954 nonce).
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

from confide.errors import FormatError
from confide.formats.pem import read_chain
from confide.formats.snp import TCB_LAYOUTS, Product
from confide.formats.spdm import NONCE_SIZE

AMD = "https://kdsintf.amd.com"
INTEL = "https://api.trustedservices.intel.com"
INTEL_ROOT_CRL = "https://certificates.trustedservices.intel.com/IntelSGXRootCA.der"
NVIDIA_RIM = "https://rim.attestation.nvidia.com"
NVIDIA_OCSP = "https://ocsp.ndis.nvidia.com"

_SPL = {
    "bootloader": "blSPL",
    "tee": "teeSPL",
    "snp": "snpSPL",
    "microcode": "ucodeSPL",
    "fmc": "fmcSPL",
}
_CHAINS = {"tcb-info": "TCB-Info-Issuer-Chain", "qe-identity": "SGX-Enclave-Identity-Issuer-Chain"}
CertificatePair = tuple[x509.Certificate, x509.Certificate]


@dataclass(frozen=True)
class Answer:
    """An HTTP answer: the body, and headers by lower-case name."""

    body: bytes
    headers: Mapping[str, str]


@dataclass(frozen=True)
class Parts:
    """What an answer holds: items by name, as (data, chain, nonce)."""

    items: Mapping[str, tuple[bytes, bytes, bytes]]


@dataclass(frozen=True)
class Request:
    """One HTTP request, and what its answer gives. `body` is None for GET."""

    vendor: str
    url: str
    read: Callable[[Answer], Parts]
    body: bytes | None = None
    content_type: str = ""


def request_for(name: str, certificates: Mapping[str, CertificatePair]) -> Request | None:
    """What to ask, and whom, for the item `name`; None if no vendor has such an item.

    `certificates` has, by item name, the certificate an OCSP question is about and its issuer, and
    for a vTPM's issuer a certificate that it signed (twice).
    """
    vendor, _, rest = name.partition("/")
    parts = rest.split("/")
    if vendor == "amd" and parts[0] == "vcek" and len(parts) == 4:
        return _vcek(name, Product(parts[1]), bytes.fromhex(parts[2]), bytes.fromhex(parts[3]))
    if vendor == "amd" and len(parts) == 2:
        return _amd(Product(parts[0]), parts[1])
    if vendor == "intel":
        return _intel(name, parts)
    if vendor == "nvidia" and parts[0] == "rim" and len(parts) == 2:
        url = f"{NVIDIA_RIM}/v1/rim/{urllib.parse.quote(parts[1], safe='')}"
        return Request("NVIDIA's RIM service", url, lambda answer: _rim(name, answer))
    if name in certificates and vendor == "nvidia":
        return _ocsp(name, *certificates[name])
    if name in certificates and vendor == "google":
        return _issuer(name, certificates[name][0])
    return None


def _vcek(name: str, product: Product, chip: bytes, tcb: bytes) -> Request:
    levels = {_SPL[part]: tcb[at] for part, at in TCB_LAYOUTS[product].items()}
    query = urllib.parse.urlencode(levels)
    url = f"{AMD}/vcek/v1/{product.value.capitalize()}/{chip.hex()}?{query}"
    return Request("AMD's key distribution service", url, lambda answer: _one(name, answer.body))


def _amd(product: Product, kind: str) -> Request | None:
    family = product.value.capitalize()
    vendor = "AMD's key distribution service"
    if kind == "crl":
        name = f"amd/{product.value}/crl"
        url = f"{AMD}/vcek/v1/{family}/crl"
        return Request(vendor, url, lambda answer: _one(name, answer.body))
    service = {"ask": "vcek", "ark": "vcek", "asvk": "vlek"}.get(kind)
    if service is None:
        return None
    intermediate = "asvk" if service == "vlek" else "ask"

    def read(answer: Answer) -> Parts:
        chain = read_chain(answer.body, "AMD's chain", max_certificates=2)
        names = (f"amd/{product.value}/{intermediate}", f"amd/{product.value}/ark")
        return Parts({n: (der, b"", b"") for n, der in zip(names, chain, strict=True)})

    return Request(vendor, f"{AMD}/{service}/v1/{family}/cert_chain", read)


def _intel(name: str, parts: list[str]) -> Request | None:
    vendor = "Intel's provisioning certification service"
    api = f"{INTEL}/tdx/certification/v4"
    match parts:
        case ["tcb-info", fmspc]:
            url = f"{api}/tcb?fmspc={fmspc}"
            return Request(vendor, url, lambda answer: _signed_json(name, "tcb-info", answer))
        case ["qe-identity"]:
            url = f"{api}/qe/identity"
            return Request(vendor, url, lambda answer: _signed_json(name, "qe-identity", answer))
        case ["crl", "root"]:
            return Request(vendor, INTEL_ROOT_CRL, lambda answer: _one(name, answer.body))
        case ["crl", ("processor" | "platform") as ca]:
            url = f"{INTEL}/sgx/certification/v4/pckcrl?ca={ca}&encoding=der"
            return Request(vendor, url, lambda answer: _one(name, answer.body))
    return None


def _ocsp(name: str, certificate: x509.Certificate, issuer: x509.Certificate) -> Request:
    nonce = secrets.token_bytes(NONCE_SIZE)
    question = (
        ocsp.OCSPRequestBuilder()
        .add_certificate(certificate, issuer, hashes.SHA384())
        .add_extension(x509.OCSPNonce(nonce), critical=False)
        .build()
    )
    return Request(
        "NVIDIA's OCSP service",
        NVIDIA_OCSP,
        lambda answer: Parts({name: (answer.body, b"", nonce)}),
        body=question.public_bytes(Encoding.DER),
        content_type="application/ocsp-request",
    )


def _issuer(name: str, certificate: x509.Certificate) -> Request | None:
    """Google's certificates say where their issuer's is; only its own storage is asked."""
    try:
        access = certificate.extensions.get_extension_for_class(x509.AuthorityInformationAccess)
    except x509.ExtensionNotFound:
        return None
    for description in access.value:
        location = description.access_location
        if description.access_method != x509.oid.AuthorityInformationAccessOID.CA_ISSUERS:
            continue
        if not isinstance(location, x509.UniformResourceIdentifier):
            continue
        url = urllib.parse.urlsplit(location.value)
        if (url.hostname or "").endswith(".storage.googleapis.com"):
            secure = urllib.parse.urlunsplit(url._replace(scheme="https"))
            return Request("Google's storage", secure, lambda answer: _one(name, answer.body))
    return None


def _one(name: str, der: bytes) -> Parts:
    return Parts({name: (der, b"", b"")})


def _signed_json(name: str, kind: str, answer: Answer) -> Parts:
    header = answer.headers.get(_CHAINS[kind].lower())
    if header is None:
        raise FormatError(
            "bad-answer", "Intel's answer comes without its signers", expected=_CHAINS[kind]
        )
    chain = urllib.parse.unquote_to_bytes(header)
    return Parts({name: (answer.body, chain, b"")})


def _rim(name: str, answer: Answer) -> Parts:
    """{"id": ..., "rim": XML in base64, "sha256": ...}."""
    try:
        rim = base64.b64decode(json.loads(answer.body)["rim"], validate=True)
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise FormatError(
            "bad-answer", "NVIDIA's answer holds no RIM", expected="base64 in a field rim"
        ) from error
    return Parts({name: (rim, b"", b"")})
