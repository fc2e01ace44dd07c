"""The worker's way to the secret service: one key per call, over mutual TLS."""

from __future__ import annotations

import http.client
from urllib.parse import urlsplit

from confide.errors import FormatError, UnavailableError
from confide.guest.mesh.join import Membership
from confide.guest.mesh.tls import client_context, peer_identity
from confide.net.coordinator_client import peer_error
from confide.protocol.roles import Role
from confide.protocol.secret_service import MAX_REPLY, ReleasedKey

TIMEOUT = 30.0
"""Seconds; between emulated machines a handshake takes several."""


def fetch_key(url: str, membership: Membership, key_id: bytes) -> ReleasedKey:
    """Fetch the key with this id (32 bytes) from the secret service at `url` (https, no path).

    Raises UnavailableError if it is not there, VerificationError unless the peer's certificate says
    that it is the secret service, PolicyError "unknown-key" or "model-not-allowed" if it refuses.
    """
    parts = urlsplit(url)
    connection = http.client.HTTPSConnection(
        parts.hostname or "", parts.port, timeout=TIMEOUT, context=client_context(membership)
    )
    try:
        connection.connect()
        peer_identity(connection.sock, membership, role=Role.SECRET_SERVICE)
        connection.request("GET", f"/v1/keys/{key_id.hex()}")
        response = connection.getresponse()
        body = response.read(MAX_REPLY + 1)
    except (OSError, http.client.HTTPException) as error:
        raise UnavailableError(
            "secret-service-unreachable",
            "the secret service cannot be reached",
            expected=f"a TLS connection to {url}",
            seen=type(error).__name__,
            next="check that it runs and is a member of the same mesh",
        ) from error
    finally:
        connection.close()
    if len(body) > MAX_REPLY:
        raise FormatError("answer-too-large", "the secret service answers too much")
    if response.status != 200:
        raise peer_error(response.status, body, url)
    return ReleasedKey.parse(body)
