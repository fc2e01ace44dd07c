"""How a request leaves: in pieces, for as long as its peer has not answered."""

from __future__ import annotations

import http.client
import ssl
from collections.abc import Mapping

from confide.net.sockets import readable

PIECE_SIZE = 64 * 1024
"""Bytes between two looks whether there is an answer already."""


def send_request(
    connection: http.client.HTTPConnection,
    method: str,
    path: str,
    body: bytes | None,
    headers: Mapping[str, str],
) -> bool:
    """Send a request, and return whether all of it was sent.

    A peer that answers early does not want the rest. Within TLS only the end of the connection
    shows that: bytes that have arrived may be TLS's own.
    """
    if body is None or len(body) <= PIECE_SIZE:
        connection.request(method, path, body=body, headers=dict(headers))
        return True
    connection.putrequest(method, path, skip_accept_encoding=True)
    for name, value in {**headers, "Content-Length": str(len(body))}.items():
        connection.putheader(name, value)
    connection.endheaders()
    view = memoryview(body)
    plain = not isinstance(connection.sock, ssl.SSLSocket)
    for at in range(0, len(body), PIECE_SIZE):
        if plain and readable(connection.sock):
            return False
        connection.send(view[at : at + PIECE_SIZE])
    return True
