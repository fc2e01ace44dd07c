"""Asking politely: what a SIMULATED vendor may answer, and how often it is asked."""

from __future__ import annotations

import email.utils
import socket
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from confide.client.collateral import fetch
from confide.client.collateral.fetch import (
    ANSWER_SECONDS,
    ATTEMPTS,
    DOWN_SECONDS,
    MAX_BODY,
    MAX_RETRY_AFTER,
    REFUSED_SECONDS,
    Fetcher,
    NoAnswerError,
)
from confide.client.collateral.vendors import AMD, Request
from tests.support.simulated_vendors import Reply, SimulatedVendors

NOW = 1_800_000_000
HOST = "vendor.example"
QUESTION = Request(AMD, f"https://{HOST}/item", lambda _: {})
GOOD = Reply(body=b"an item", headers={"X-Chain": "a chain"})
Faults = Reply | list[Reply]


@pytest.fixture
def vendors() -> Iterator[SimulatedVendors]:
    with SimulatedVendors({f"{HOST}/item": lambda _: GOOD}) as started:
        yield started


def refused(vendors: SimulatedVendors, faults: Faults, **changes: Any) -> NoAnswerError:
    vendors.faults[HOST] = faults
    with pytest.raises(NoAnswerError) as caught:
        vendors.fetcher(NOW, **changes).get(QUESTION)
    return caught.value


def test_an_answer(vendors: SimulatedVendors) -> None:
    answer = vendors.fetcher(NOW).get(QUESTION)
    assert (answer.body, answer.headers["x-chain"], answer.fetched) == (b"an item", "a chain", NOW)
    assert vendors.headers[0]["User-Agent"] == "confide"
    assert vendors.slept == []


def test_no_password_and_no_cookie(
    vendors: SimulatedVendors, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A program that poses as a vendor gets nothing of this user."""
    (tmp_path / "netrc").write_text(f"machine {HOST} login a password b\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    vendors.pages[f"{HOST}/item"] = lambda _: Reply(body=b"x", headers={"Set-Cookie": "a=b"})
    fetcher = vendors.fetcher(NOW)
    fetcher._session.trust_env = True
    monkeypatch.setenv("NO_PROXY", "*")
    for _ in range(2):
        assert fetcher.get(QUESTION).body == b"x"
    for headers in vendors.headers:
        assert not {"Authorization", "Cookie"} & set(headers)


def test_a_question_with_a_body(vendors: SimulatedVendors) -> None:
    seen: list[bytes] = []
    vendors.pages[f"{HOST}/item"] = lambda body: seen.append(body) or GOOD  # type: ignore[func-returns-value]
    question = Request(AMD, QUESTION.url, lambda _: {}, b"question", "application/ocsp-request")
    assert vendors.fetcher(NOW).get(question).body == b"an item"
    assert vendors.asked == [f"POST {HOST}/item"]
    assert seen == [b"question"]
    assert vendors.headers[0]["Content-Type"] == "application/ocsp-request"


@pytest.mark.parametrize("status", [429, 500, 502, 503])
def test_a_busy_vendor_is_asked_again_after_growing_pauses(
    vendors: SimulatedVendors, status: int
) -> None:
    vendors.faults[HOST] = [Reply(status), Reply(status)]
    assert vendors.fetcher(NOW, jitter=lambda: 0.0).get(QUESTION).body == b"an item"
    assert vendors.slept == [0.5, 1.0]
    vendors.slept.clear()
    error = refused(vendors, Reply(status), jitter=lambda: 1.0)
    assert vendors.slept == [1.0, 2.0]
    assert len(vendors.asked) == 3 + ATTEMPTS
    assert error.vendor_wide
    assert error.seconds == DOWN_SECONDS
    assert f"HTTP status {status}" in error.reason


def test_clients_do_not_come_back_at_once(vendors: SimulatedVendors) -> None:
    for _ in range(3):
        vendors.faults[HOST] = [Reply(503)]
        vendors.fetcher(NOW).get(QUESTION)
    assert len(set(vendors.slept)) == 3
    assert all(0.5 <= pause <= 1 for pause in vendors.slept)


@pytest.mark.parametrize(
    "wanted", ["7", email.utils.formatdate(NOW + 7, usegmt=True)], ids=["seconds", "date"]
)
def test_a_short_pause_that_the_vendor_wants(vendors: SimulatedVendors, wanted: str) -> None:
    vendors.faults[HOST] = [Reply(429, headers={"Retry-After": wanted})]
    assert vendors.fetcher(NOW).get(QUESTION).body == b"an item"
    assert vendors.slept == [7.0]


@pytest.mark.parametrize(
    ("wanted", "seconds"),
    [("11", DOWN_SECONDS), ("600", 600), ("9" * 400, MAX_RETRY_AFTER)],
)
def test_a_long_pause_is_remembered_and_not_waited_for(
    vendors: SimulatedVendors, wanted: str, seconds: int
) -> None:
    error = refused(vendors, Reply(429, headers={"Retry-After": wanted}))
    assert error.seconds == seconds
    assert error.vendor_wide
    assert len(vendors.asked) == 1
    assert vendors.slept == []


@pytest.mark.parametrize("wanted", ["", "0", "-1", "soon", "1.5", "Mon, 99 Foo 2026 00:00:00 GMT"])
def test_a_pause_that_is_none(vendors: SimulatedVendors, wanted: str) -> None:
    error = refused(vendors, Reply(429, headers={"Retry-After": wanted}))
    assert error.seconds == DOWN_SECONDS
    assert len(vendors.asked) == ATTEMPTS
    assert all(pause >= 0.5 for pause in vendors.slept)


@pytest.mark.parametrize("status", [400, 403, 404, 410])
def test_what_a_vendor_does_not_have_is_asked_for_once(
    vendors: SimulatedVendors, status: int
) -> None:
    error = refused(vendors, Reply(status))
    assert not error.vendor_wide
    assert error.seconds == REFUSED_SECONDS
    assert len(vendors.asked) == 1


@pytest.mark.parametrize("status", [301, 302, 307, 308])
@pytest.mark.parametrize("to", [f"https://{HOST}/other", "https://elsewhere.example/item"])
def test_redirects_are_not_followed(vendors: SimulatedVendors, status: int, to: str) -> None:
    vendors.pages |= {f"{HOST}/other": lambda _: GOOD, "elsewhere.example/item": lambda _: GOOD}
    error = refused(vendors, Reply(status, headers={"Location": to}))
    assert "redirects" in error.reason
    assert len(vendors.asked) == 1


def test_the_body_of_a_redirect_is_not_read(vendors: SimulatedVendors) -> None:
    """Whatever its size: this one would take four seconds."""
    started = time.monotonic()
    to = {"Location": f"https://{HOST}/other"}
    refused(vendors, Reply(302, body=bytes(2000), pieces=2000, headers=to))
    assert time.monotonic() - started < 2


def test_an_answer_that_is_too_large(vendors: SimulatedVendors) -> None:
    vendors.pages[f"{HOST}/item"] = lambda _: Reply(body=bytes(MAX_BODY))
    assert len(vendors.fetcher(NOW).get(QUESTION).body) == MAX_BODY
    error = refused(vendors, Reply(body=bytes(MAX_BODY + 1)))
    assert str(MAX_BODY) in error.reason
    assert len(vendors.asked) == 2


def test_an_answer_that_comes_too_slowly(vendors: SimulatedVendors) -> None:
    """Each piece is in time, the whole is not."""
    seconds = iter(range(0, 10_000, int(ANSWER_SECONDS / 3)))
    error = refused(
        vendors,
        Reply(body=bytes(1000), pieces=50),
        monotonic=lambda: float(next(seconds)),
    )
    assert "took more than 30 seconds" in error.reason
    assert error.vendor_wide


def test_an_answer_that_does_not_come(
    vendors: SimulatedVendors, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetch, "READ_SECONDS", 0.05)
    error = refused(vendors, Reply(seconds=0.3))
    assert "ReadTimeout" in error.reason
    assert len(vendors.asked) == ATTEMPTS


@pytest.mark.parametrize("chunked", [False, True])
def test_an_answer_that_breaks_off(vendors: SimulatedVendors, chunked: bool) -> None:
    half = Reply(body=b"half of it", pieces=2, chunked=chunked, broken=True)
    error = refused(vendors, half)
    assert error.vendor_wide
    assert len(vendors.asked) == ATTEMPTS
    vendors.faults[HOST] = replace(half, broken=False)
    assert vendors.fetcher(NOW).get(QUESTION).body == half.body


def test_chunks_are_bounded_too(vendors: SimulatedVendors) -> None:
    error = refused(vendors, Reply(body=bytes(MAX_BODY + 1), chunked=True))
    assert str(MAX_BODY) in error.reason


def test_a_vendor_that_is_not_there() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        nobody = Request(AMD, f"http://127.0.0.1:{port}/", lambda _: {})
        with pytest.raises(NoAnswerError, match="gives no answer") as caught:
            Fetcher(sleep=lambda _: None).get(nobody)
    assert caught.value.vendor_wide
