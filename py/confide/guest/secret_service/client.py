"""The worker's calls of the secret service: one key per call, over mutual TLS."""

from __future__ import annotations

from functools import partial

from confide.errors import UnavailableError
from confide.guest.mesh.join import Membership
from confide.guest.mesh.tls import client_context, peer_identity
from confide.net.calls import Caller
from confide.net.coordinator_client import peer_error
from confide.protocol.roles import Role
from confide.protocol.secret_service import MAX_REPLY, ReleasedKey

TIMEOUT = 30.0
"""Seconds; between emulated machines a handshake takes several."""


def fetch_key(url: str, membership: Membership, key_id: bytes) -> ReleasedKey:
    """Fetch the key with this id (32 bytes) from the secret service at `url` (https, no path).

    Raises UnavailableError if it is unreachable, VerificationError unless the peer's certificate
    names the role secret-service, PolicyError "unknown-key" or "model-not-allowed" if it refuses.
    """
    caller = Caller(
        url,
        connect_seconds=TIMEOUT,
        read_seconds=TIMEOUT,
        total_seconds=2 * TIMEOUT,
        tls=partial(client_context, membership),
        check_peer=partial(peer_identity, membership=membership, role=Role.SECRET_SERVICE),
    )
    try:
        status, _, body = caller.call("GET", f"/v1/keys/{key_id.hex()}", limit=MAX_REPLY)
    except UnavailableError as error:
        raise UnavailableError(
            "secret-service-unreachable",
            "the secret service is unreachable",
            expected=f"a TLS connection to {url}",
            seen=error.seen,
            next="check that it runs and is a member of the same mesh",
        ) from error
    if status != 200:
        raise peer_error(status, body, url)
    return ReleasedKey.parse(body)
