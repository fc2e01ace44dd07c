"""Whose keys a secret service counts: what TCP says, and nothing that a client writes."""

from __future__ import annotations

import os

from confide.guest.secret_service.app import create_public_app
from confide.protocol.keyexchange import InferenceKey, seal_key
from tests.support.simulated_machine import MODEL
from tests.support.small_service import SmallService


def test_an_address_has_a_quarter_whatever_it_claims_to_be() -> None:
    service = SmallService()
    store, node = service.secrets[0], service.nodes[0]
    store._max_keys = 8
    http = create_public_app(store, node).test_client()

    def put(address: str, claimed: str = "") -> tuple[int, str | None]:
        key = InferenceKey(os.urandom(32), MODEL, int(service.clock()))
        public = node.membership().kem_public_key
        answer = http.post(
            "/v1/keys",
            data=seal_key(key, public, manifest_sha256=service.manifest.sha256),
            headers={"X-Forwarded-For": claimed, "Forwarded": f"for={claimed}"},
            environ_overrides={"REMOTE_ADDR": address},
        )
        return answer.status_code, answer.headers.get("Retry-After")

    assert [put("192.0.2.1", f"192.0.2.{n}") for n in range(2, 5)] == [
        (200, None), (200, None), (429, "60"),
    ]  # fmt: skip
    assert put("2001:db8::1") == put("2001:db8::2") == (200, None)
    assert put("2001:db8::3") == (429, "60"), "one network is one sender"
    assert put("192.0.2.2", "192.0.2.1") == (200, None)
