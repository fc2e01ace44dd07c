"""The renewal of a proxy's verification lives on, whatever a gateway answers."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial

import pytest

from confide.client.collateral.finder import offline
from confide.client.proxy import session as session_module
from confide.client.proxy.gateway import Gateway, gateway_error
from confide.client.proxy.handshake import Handshake
from confide.client.proxy.session import Session
from confide.net import loops
from confide.net.calls import Caller
from tests.support.odd_answers import DEEP, odd_peer
from tests.support.simulated_machine import NOW, Clock
from tests.support.small_service import MANIFEST, SmallService

ODD = 60


@pytest.mark.parametrize("seed", range(4))
def test_a_gateway_that_answers_anything(monkeypatch: pytest.MonkeyPatch, seed: int) -> None:
    service = SmallService()

    def honest(path: str, body: bytes) -> tuple[int, str, bytes]:
        method = "POST" if body else "GET"
        return service.call(method, path, body=body, headers={}, limit=1 << 30, seconds=60.0)[:3]

    monkeypatch.setattr(session_module, "_LOOK_SECONDS", 0.001)
    monkeypatch.setattr(session_module, "RENEW_AFTER", 0.0)
    monkeypatch.setattr(session_module, "RETRY_SECONDS", 0.0)
    monkeypatch.setattr(loops, "FIRST_PAUSE", 0.001)
    with odd_peer(seed, honest) as peer:
        gateway = Gateway(Caller(peer.url), api_key="", manifest_sha256=service.manifest.sha256)
        handshake = Handshake(
            gateway, manifest=MANIFEST, find_collateral=offline(), clock=Clock(NOW)
        )
        session = Session(lambda: handshake.run(lambda _: None))
        session.establish()
        session.keep_fresh()
        for _ in range(2):
            enough, peer.honest = peer.asked + ODD, False
            _wait(partial(peer.has_been_asked, enough), seed)
            enough, peer.honest = peer.asked + 8, True
            _wait(partial(peer.has_been_asked, enough), seed)
            _wait(lambda: session.seconds_left() > 0, seed)
        session.stop()


def _wait(condition: Callable[[], bool], seed: int) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, f"seed {seed}"
        time.sleep(0.005)


@pytest.mark.parametrize(
    "body",
    [b"", b"null", b"[]", b'{"error":1}', b'{"error":"x"}', b'{"error":{"code":"x"}}', DEEP,
     b'{"error":{"code":{},"message":1}}'],
    ids=lambda body: repr(body)[:24],
)  # fmt: skip
def test_a_refusal_without_our_error_has_no_reason(body: bytes) -> None:
    error = gateway_error(503, body, "GET /x", "7")
    assert (error.code, error.seen, error.retry_after) == ("gateway-refused", "'no reason'", 7)
