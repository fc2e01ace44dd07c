"""Calls of a coordinator, and of peers that are something else."""

from __future__ import annotations

import json

import pytest

from confide.errors import ConfideError
from confide.net.coordinator_client import CoordinatorClient
from tests.support.peer import Peer


def error_json(**parts: str) -> bytes:
    words = {"code": "no-code", "message": "m", "expected": "", "seen": "", "next": ""}
    return json.dumps({"error": words | parts}).encode()


@pytest.mark.parametrize("status", [200, 404, 502])
def test_a_web_page_in_place_of_an_answer(peer: Peer, status: int) -> None:
    peer.says("/v1/manifest", b"<html></html>", status=status, content_type="text/html")
    with pytest.raises(ConfideError) as caught:
        CoordinatorClient(peer.url).mesh()
    assert caught.value.code == ("bad-cbor" if status == 200 else "not-confide")


def test_the_peers_own_error(peer: Peer) -> None:
    error = error_json(code="no-manifest", next="n")
    peer.says("/v1/manifest", error, status=404, content_type="application/json")
    with pytest.raises(ConfideError) as caught:
        CoordinatorClient(peer.url).mesh()
    assert (caught.value.code, caught.value.next) == ("no-manifest", "n")
    assert caught.value.message == f"{peer.url} answers: m", "nobody takes it for ours"


def test_a_code_that_is_no_code(peer: Peer) -> None:
    """It would stand before all other words."""
    for code in (b"verified as of", b"\\u001b[2K", b"", b"x" * 65):
        error = error_json().replace(b"no-code", code)
        peer.says("/v1/manifest", error, status=404, content_type="application/json")
        with pytest.raises(ConfideError) as caught:
            CoordinatorClient(peer.url).mesh()
        assert caught.value.code == "not-confide"


def test_an_answer_that_is_too_large(peer: Peer) -> None:
    peer.says("/v1/challenge", b"x" * 100_000)
    with pytest.raises(ConfideError) as caught:
        CoordinatorClient(peer.url).challenge()
    assert caught.value.code == "answer-too-large"
