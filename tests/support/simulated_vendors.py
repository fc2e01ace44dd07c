"""SIMULATED: the vendors' services, as one HTTP server on 127.0.0.1 that a session is led to.

What is at which address is written down here by itself, from the vendors' documentation: it is not
taken from the code that asks.
"""

from __future__ import annotations

import base64
import json
import socket
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import pairwise
from typing import Any, Self
from urllib.parse import quote, urlsplit

import requests
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import OCSPNonce, ocsp
from requests.adapters import HTTPAdapter

from confide.client.collateral.fetch import Fetcher, VendorSession
from confide.client.collateral.finder import Finder
from confide.encoding.pem import write_chain
from tests.support.production import Production

KDS = "kdsintf.amd.com"
PCS = "api.trustedservices.intel.com"
PCS_ROOT = "certificates.trustedservices.intel.com"
RIMS = "rim.attestation.nvidia.com"
OCSP = "ocsp.ndis.nvidia.com"


@dataclass(frozen=True)
class Reply:
    status: int = 200
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    seconds: float = 0.0
    """To wait before the answer."""
    pieces: int = 1
    """In how many pieces the body comes."""
    chunked: bool = False
    """Sent in chunks, without a length; the last chunk is missing if `broken`."""
    broken: bool = False


Page = Callable[[bytes], Reply]
MakeFinder = Callable[..., Finder]
"""Takes the time, a bundle, and what a fetcher takes by keyword."""


class SimulatedVendors:
    """Context manager. `pages` by host and path, with query; `faults` by host come before them.

    A list of faults is used up one by one; a single one stays.
    """

    def __init__(self, pages: Mapping[str, Page]) -> None:
        self.pages = dict(pages)
        self.faults: dict[str, Reply | list[Reply]] = {}
        self.asked: list[str] = []
        self.headers: list[Mapping[str, str]] = []
        self.slept: list[float] = []

    def __enter__(self) -> Self:
        vendors = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                vendors.answer(self)

            do_POST = do_GET

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def fetcher(self, now: float, **changes: Any) -> Fetcher:
        """A fetcher that comes here whatever it asks for, and whose pauses take no time."""
        session = VendorSession()
        session.trust_env = False
        session.mount("https://", _ToLoopback(self._server.server_address[1]))
        session.mount("http://", _Nowhere())
        arguments: dict[str, Any] = {"clock": lambda: now, "sleep": self.slept.append}
        return Fetcher(session, **(arguments | changes))

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        address = handler.path.removeprefix("/")
        host = address.split("/")[0]
        body = handler.rfile.read(int(handler.headers.get("Content-Length", 0)))
        self.asked.append(f"{handler.command} {address}")
        self.headers.append(dict(handler.headers))
        fault = self.faults.get(host)
        if isinstance(fault, list):
            fault = fault.pop(0) if fault else None
        page: Page = self.pages.get(address, lambda _: Reply(404))
        reply = fault or page(body)
        time.sleep(reply.seconds)
        handler.send_response(reply.status)
        if reply.chunked:
            handler.send_header("Transfer-Encoding", "chunked")
        else:
            handler.send_header("Content-Length", str(len(reply.body) + reply.broken))
        for name, value in reply.headers.items():
            handler.send_header(name, value)
        handler.end_headers()
        size = -(-len(reply.body) // reply.pieces) or 1
        try:
            for at in range(0, len(reply.body), size):
                piece = reply.body[at : at + size]
                head, tail = (b"%x\r\n" % len(piece), b"\r\n") if reply.chunked else (b"", b"")
                handler.wfile.write(head + piece + tail)
                if reply.pieces > 1:
                    time.sleep(0.002)
            if reply.chunked and not reply.broken:
                handler.wfile.write(b"0\r\n\r\n")
        except OSError:
            pass  # the client has had enough
        if reply.broken:
            handler.close_connection = True
            handler.connection.shutdown(socket.SHUT_WR)


class _ToLoopback(HTTPAdapter):
    def __init__(self, port: int) -> None:
        super().__init__()
        self._port = port

    def send(self, request: requests.PreparedRequest, **kwargs: Any) -> requests.Response:  # type: ignore[override]
        parts = urlsplit(str(request.url))
        query = f"?{parts.query}" if parts.query else ""
        request.url = f"http://127.0.0.1:{self._port}/{parts.netloc}{parts.path}{query}"
        return super().send(request, **kwargs)


class _Nowhere(HTTPAdapter):
    def send(self, request: requests.PreparedRequest, **kwargs: Any) -> requests.Response:  # type: ignore[override]
        raise AssertionError(f"asked without TLS: {request.url}")


def pages_of(production: Production) -> dict[str, Page]:
    """Everything that the vendors say of the simulated machines."""
    items = production.bundle().items
    chip = production.chip
    kds, tdx = f"{KDS}/vcek/v1/Milan", f"{PCS}/tdx/certification/v4"
    levels = "blSPL=1&teeSPL=2&snpSPL=3&ucodeSPL=4"
    chain = write_chain((items["amd/milan/ask"].data, items["amd/milan/ark"].data))
    pages = {
        f"{kds}/{chip.hardware_id.hex()}?{levels}": always(chip.certificate()),
        f"{kds}/cert_chain": always(chain),
        f"{kds}/crl": always(items["amd/milan/crl"].data),
        f"{PCS}/sgx/certification/v4/pckcrl?ca=platform&encoding=der": always(
            items["intel/crl/platform"].data,
            **{"SGX-PCK-CRL-Issuer-Chain": quote(items["intel/crl/platform"].chain)},
        ),
        f"{PCS_ROOT}/IntelSGXRootCA.der": always(items["intel/crl/root"].data),
        f"{OCSP}/": lambda question: Reply(body=answer(production, question)),
    }
    for name, item in items.items():
        header = {}
        match name.split("/"):
            case ["intel", "tcb-info", fmspc]:
                address, header_name = (
                    f"{tdx}/tcb?fmspc={fmspc.upper()}&update=early",
                    "TCB-Info-Issuer-Chain",
                )
            case ["intel", "qe-identity"]:
                address, header_name = (
                    f"{tdx}/qe/identity?update=early",
                    "SGX-Enclave-Identity-Issuer-Chain",
                )
            case ["nvidia", "rim", rim_id]:
                rim = base64.b64encode(item.data).decode()
                body = {"id": rim_id, "rim": rim, "sha256": "00" * 32}
                pages[f"{RIMS}/v1/rim/{rim_id}"] = always(json.dumps(body).encode())
                continue
            case _:
                continue
        header[header_name] = quote(item.chain)
        pages[address] = always(item.data, **header)
    return pages


def always(body: bytes, **headers: str) -> Page:
    return lambda _: Reply(body=body, headers=headers)


def answer(production: Production, question: bytes) -> bytes:
    """What NVIDIA's responder says to this question, with its nonce."""
    asked = ocsp.load_der_ocsp_request(question)
    nonce = asked.extensions.get_extension_for_class(OCSPNonce).value.nonce
    assert len(nonce) == 32
    for chain in (production.gpu.chain[1:], production.nvidia.rim_chain):
        for certificate, issuer in pairwise(chain):
            if certificate.certificate.serial_number == asked.serial_number:
                return production.nvidia.answer(certificate, issuer, nonce=nonce).response
    return ocsp.OCSPResponseBuilder.build_unsuccessful(
        ocsp.OCSPResponseStatus.UNAUTHORIZED
    ).public_bytes(Encoding.DER)
