"""One quote for many: a flood costs hashes, and an honest question waits for two quotes at most."""

from __future__ import annotations

import http.client
import os
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event

import pytest

from confide.errors import ConfideError, UnavailableError
from confide.guest.coordinator.app import create_app
from confide.guest.coordinator.domain import Coordinator
from confide.guest.coordinator.quotes import MAX_WAITING, Quotes
from confide.protocol.collateral import Bundle
from confide.protocol.coordinator import Nonce
from confide.protocol.nonce_tree import root_of
from confide.verify.service import verify_coordinator
from tests.support.programs import Program, program
from tests.support.simulated_machine import (
    NOW,
    Clock,
    SimulatedMachine,
    current_manifest,
    manifest_bytes,
)
from tests.support.slow_machine import SlowMachine

MANIFEST = manifest_bytes()
QUOTE_SECONDS = 0.1
Answer = tuple[bytes, int, tuple[bytes, ...]]


@dataclass
class Device:
    """Makes a "quote" of a root, which is the root itself, when the test lets it."""

    roots: list[bytes] = field(default_factory=list)
    begun: list[Event] = field(default_factory=lambda: [Event() for _ in range(4)])
    finish: list[Event] = field(default_factory=lambda: [Event() for _ in range(4)])

    def quote(self, root: bytes) -> bytes:
        turn = len(self.roots)
        self.roots.append(root)
        self.begun[turn].set()
        assert self.finish[turn].wait(10)
        return root


@contextmanager
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(3 * MAX_WAITING) as threads:
        yield threads


def ask(
    threads: ThreadPoolExecutor, quotes: Quotes[bytes], count: int
) -> dict[bytes, Future[Answer]]:
    """So many questions at once; all of them wait when this returns."""
    nonces = [os.urandom(32) for _ in range(count)]
    before = len(quotes._open.nonces)
    asked = {nonce: threads.submit(quotes.answer, nonce) for nonce in nonces}
    settle(lambda: len(quotes._open.nonces) >= before + count)
    return asked


def settle(done: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not done():
        assert time.monotonic() < deadline
        time.sleep(0.001)


def test_all_that_wait_are_answered_by_the_next_quote() -> None:
    device = Device()
    quotes = Quotes(device.quote)
    with pool() as threads:
        first = threads.submit(quotes.answer, bytes(32))
        assert device.begun[0].wait(10)
        waiting = ask(threads, quotes, MAX_WAITING)
        for event in device.finish:
            event.set()
        answers = {nonce: future.result(10) for nonce, future in waiting.items()}
        assert first.result(10)[0] == device.roots[0]
    assert len(device.roots) == 2
    for nonce, (root, index, path) in answers.items():
        assert root == device.roots[1] == root_of(nonce, index, path)


def test_a_quote_that_has_begun_answers_no_later_nonce() -> None:
    """What was asked after the machine was looked at is not answered by that look."""
    device = Device()
    quotes = Quotes(device.quote)
    with pool() as threads:
        first = threads.submit(quotes.answer, bytes(32))
        assert device.begun[0].wait(10)
        (late,) = ask(threads, quotes, 1).values()
        device.finish[0].set()
        first.result(10)
        assert device.begun[1].wait(10)
        assert not late.done()
        device.finish[1].set()
        assert late.result(10)[0] == device.roots[1]


def test_those_over_the_limit_are_refused_at_once_and_later_taken() -> None:
    device = Device()
    quotes = Quotes(device.quote)
    with pool() as threads:
        threads.submit(quotes.answer, bytes(32))
        assert device.begun[0].wait(10)
        waiting = ask(threads, quotes, MAX_WAITING)
        with pytest.raises(UnavailableError) as refused:
            quotes.answer(bytes(32))
        assert refused.value.code == "too-many-attestations"
        device.finish[0].set()
        # A new list opens with the next quote, not with its end.
        assert device.begun[1].wait(10)
        ask(threads, quotes, MAX_WAITING)
        with pytest.raises(UnavailableError):
            quotes.answer(bytes(32))
        for event in device.finish:
            event.set()
        for future in waiting.values():
            future.result(10)
    assert quotes._open.nonces == []


def test_an_attester_that_fails_fails_for_all_that_waited_and_for_nobody_else() -> None:
    device = Device()

    def quote(root: bytes) -> bytes:
        made = device.quote(root)
        if len(device.roots) == 2:
            raise UnavailableError("tsm-busy", "the kernel gave no report in time")
        return made

    quotes = Quotes(quote)
    with pool() as threads:
        first = threads.submit(quotes.answer, bytes(32))
        assert device.begun[0].wait(10)
        waiting = ask(threads, quotes, 5)
        for event in device.finish:
            event.set()
        assert first.result(10)[0] == device.roots[0]
        for future in waiting.values():
            error = future.exception(10)
            assert isinstance(error, ConfideError) and error.code == "tsm-busy"
    assert quotes.answer(bytes(32))[0] == device.roots[2]


def test_a_flood_of_attestations_costs_hashes() -> None:
    """100 strangers ask at once, and one honest client among them. One by one it took 10 s."""
    machine = SlowMachine(QUOTE_SECONDS, manifest=MANIFEST)
    coordinator = Coordinator(machine, binding=machine.binding, now=Clock())
    coordinator.set_manifest(MANIFEST)
    nonce = os.urandom(32)
    with pool() as threads:
        flood = [threads.submit(coordinator.attest, os.urandom(32)) for _ in range(100)]
        began = time.monotonic()
        attestation = coordinator.attest(nonce)
        waited = time.monotonic() - began
        assert all(other.result(10).manifest == MANIFEST for other in flood)
    # Two quotes and a good deal for a busy machine; one for each nonce would be a hundred.
    assert waited < 20 * QUOTE_SECONDS
    assert machine.quotes < 10
    verify_coordinator(
        attestation, manifest_pinned=MANIFEST, nonce=nonce, collateral=Bundle(), now=NOW
    ).require()
    verdict = verify_coordinator(
        flood[0].result(), manifest_pinned=MANIFEST, nonce=nonce, collateral=Bundle(), now=NOW
    )
    assert [check.name for check in verdict.checks if not check.passed] == ["quote binding"]


def test_who_is_refused_hears_when_to_come_again() -> None:
    machine = SimulatedMachine("coordinator", manifest=MANIFEST)
    coordinator = Coordinator(machine, binding=machine.binding, now=Clock())

    def full(_: bytes) -> None:
        raise UnavailableError("too-many-attestations", "too many wait")

    coordinator.attest = full  # type: ignore[method-assign,assignment]
    client = create_app(coordinator).test_client()
    answer = client.post("/v1/attest", data=Nonce(bytes(32)).encode())
    assert (answer.status_code, answer.headers["Retry-After"]) == (429, "2")
    # Nobody knows when another error is over.
    assert "Retry-After" not in client.get("/v1/manifest").headers


def post(running: Program) -> tuple[int, str]:
    """The status of one question, and what its `Retry-After` says."""
    connection = http.client.HTTPConnection("127.0.0.1", running.port, timeout=60)
    try:
        connection.request("POST", "/v1/attest", body=Nonce(os.urandom(32)).encode())
        answer = connection.getresponse()
        answer.read()
        return answer.status, answer.getheader("Retry-After", "")
    finally:
        connection.close()


def test_a_flood_over_http_leaves_the_other_doors_open(tmp_path: Path) -> None:
    """More strangers than may wait, and a quote that takes two seconds."""
    with (
        program("coordinator", tmp_path, current_manifest(), "slow") as running,
        ThreadPoolExecutor(3 * MAX_WAITING) as threads,
    ):
        running.wait("no-manifest")
        flood = [threads.submit(post, running) for _ in range(3 * MAX_WAITING)]
        settle(lambda: any(asked.done() for asked in flood))  # the first are refused
        assert not all(asked.done() for asked in flood)
        assert running.health()["state"] == "no-manifest"
        answers = {asked.result(60) for asked in flood}
        assert answers == {(200, ""), (429, "2")}
        assert post(running) == (200, "")
