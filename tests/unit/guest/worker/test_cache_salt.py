"""Whose requests share the engine's cache of prompts: what salt the engine gets."""

from __future__ import annotations

import json
from typing import Any

import pytest

from confide.errors import FormatError
from confide.guest.worker.cache_salt import MIN_SALT, CacheSalts
from confide.net.http_client import Upstream
from tests.support.sealed_worker import HELLO, STREAM, Client, Worker, sealed_error

AGREED = "a secret that two clients agreed on, and long"


def salted(salt: object) -> bytes:
    return json.dumps({**json.loads(HELLO), "cache_salt": salt}).encode()


def seen_by_engine(worker: Worker, client: Client, body: bytes) -> Any:
    """The salt in the request that the engine got."""
    assert client.ask(body).receipt
    stats = json.loads(Upstream(worker.engine).call("GET", "/stats")[2])
    return json.loads(stats["last"])["cache_salt"]


def test_every_request_of_a_key_has_its_salt(worker: Worker, client: Client) -> None:
    salt = seen_by_engine(worker, client, HELLO)
    assert len(bytes.fromhex(salt)) == 32
    assert seen_by_engine(worker, client, HELLO) == salt
    assert seen_by_engine(worker, client, STREAM) == salt
    assert seen_by_engine(worker, client, salted(None)) == salt
    assert client.key_id.hex() not in salt and client.key.hex() not in salt


def test_another_key_has_another_salt(worker: Worker, client: Client) -> None:
    other = Client(worker)
    assert seen_by_engine(worker, client, HELLO) != seen_by_engine(worker, other, HELLO)


def test_another_worker_has_another_salt(worker: Worker, client: Client) -> None:
    before = seen_by_engine(worker, client, HELLO)
    restarted = Worker(worker.engine, worker.node, secrets=worker.secrets)
    client.worker = restarted
    assert seen_by_engine(restarted, client, HELLO) != before


def test_clients_that_agree_on_a_salt_share(worker: Worker, client: Client) -> None:
    other = Client(worker)
    salt = seen_by_engine(worker, client, salted(AGREED))
    assert seen_by_engine(worker, other, salted(AGREED)) == salt
    assert seen_by_engine(worker, other, salted(AGREED + "!")) != salt
    assert seen_by_engine(worker, client, HELLO) != salt
    assert AGREED not in salt


@pytest.mark.parametrize("salt", ["x", "short", "x" * (MIN_SALT - 1)])
def test_a_salt_that_is_too_short_is_refused(client: Client, salt: object) -> None:
    assert sealed_error(client.ask(salted(salt))) == (400, "bad-cache-salt")


@pytest.mark.parametrize("salt", ["", "x" * 1025, "\ud800" * 40, 5, True, [AGREED], {}])
def test_a_salt_that_is_none_is_refused(client: Client, salt: object) -> None:
    assert sealed_error(client.ask(salted(salt))) == (400, "bad-field")


def test_nobody_gets_a_keys_salt_by_choosing_one() -> None:
    """Neither the salt that the engine gets nor the key id, as text or bytes, leads to it."""
    salts, key_id = CacheSalts(), bytes(range(32))
    mine = salts.for_request(key_id, None)
    for chosen in (mine, key_id.hex(), key_id.decode("latin-1"), "key\0" + key_id.hex()):
        assert salts.for_request(bytes(32), chosen) != mine


def test_the_error_does_not_quote_the_salt() -> None:
    with pytest.raises(FormatError) as caught:
        CacheSalts().for_request(bytes(32), "hunter2")
    assert "hunter2" not in str(caught.value)
