"""Each rule of the judge is broken alone, and by what a defect of a service would look like."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest

from tests.faults.clients import SECRET, Request, Result
from tests.faults.history import NOTICE_SECONDS, History, Thing
from tests.faults.judge import API_KEY, NEVER, Judge, Judgement
from tests.faults.schedule import Shape
from tests.support.error_codes import declared
from tests.support.simulated_machine import Clock

SHAPE = Shape(services=2, workers=2, gateways=2, proxies=2)
PROMPT = f"digest events=6 {SECRET}-3-7"
ANSWERED = Request(PROMPT, "proxy-1", True, 100.0, 101.0, Result.ANSWERED, 200, "", "engine-1")
REFUSED = replace(ANSWERED, result=Result.REFUSED, status=502, code="peer-lost", engine="")
RAN = {"engine-1": [PROMPT], "engine-2": []}
NOWHERE: dict[str, list[str]] = {"engine-1": [], "engine-2": []}
QUIET = {"gateway-1": "gateway: http://127.0.0.1:8000, 3 worker(s)\n"}


class Past:
    """A history whose clock a test turns."""

    def __init__(self) -> None:
        self.clock = Clock(0.0)
        self.history = History(self.clock)

    def broke(self, thing: Thing, since: float, until: float) -> None:
        self.clock.now = since
        self.history.breaks(thing)
        self.clock.now = until
        self.history.works(thing)


@pytest.fixture
def past() -> Past:
    return Past()


def judged(
    past: Past,
    *requests: Request,
    prompts: Mapping[str, Sequence[str]] = RAN,
    logs: Mapping[str, str] = QUIET,
) -> Judgement:
    return Judge(SHAPE, past.history, start=0.0).judge(requests, prompts, logs)


def only(judgement: Judgement) -> str:
    (violation,) = judgement.violations
    return violation


def test_a_right_answer_breaks_nothing(past: Past) -> None:
    judgement = judged(past, ANSWERED)
    assert not judgement.violations
    assert judgement.owed == 1
    assert judgement.results == {"ANSWERED": 1}


@pytest.mark.parametrize(
    ("changes", "rule"),
    [
        ({"result": Result.WRONG}, "wrong answer"),
        ({"engine": "engine-9"}, "wrong answer"),
        ({"result": Result.SILENT}, "no answer and no error"),
        ({"result": Result.CUT}, "unnamed error"),
        ({"result": Result.REFUSED, "status": 502, "code": "odd"}, "undeclared error"),
        ({"result": Result.BROKEN, "code": "odd"}, "undeclared error"),
        ({"result": Result.REFUSED, "status": 500, "code": "internal"}, "never has"),
        ({"result": Result.REFUSED, "status": 502, "code": "replay"}, "never has"),
        ({"result": Result.REFUSED, "status": 400, "code": "bad-request"}, "is blamed"),
        (
            {"result": Result.REFUSED, "status": 502, "code": "peer-lost", "said": PROMPT},
            "quotes the prompt",
        ),
    ],
)
def test_a_bad_outcome(past: Past, changes: dict[str, Any], rule: str) -> None:
    """Although its gateway was away, so that it was owed no answer."""
    past.broke("gateway-1", 99.0, 102.0)
    assert rule in only(judged(past, replace(ANSWERED, **changes)))


def test_the_codes_that_never_come_are_declared() -> None:
    assert {code for room in declared().values() for code in room} > NEVER


def test_a_connection_ends_with_its_proxy(past: Past) -> None:
    past.broke("proxy-1", 100.5, 200.0)
    assert not judged(past, replace(ANSWERED, result=Result.CUT)).violations


def test_a_request_that_runs_too_often(past: Past) -> None:
    twice = {"engine-1": [PROMPT, PROMPT], "engine-2": []}
    assert "ran at ['engine-1', 'engine-1']" in only(judged(past, ANSWERED, prompts=twice))


def test_an_answer_that_no_engine_gave(past: Past) -> None:
    assert "no engine gave" in only(judged(past, ANSWERED, prompts=NOWHERE))


def test_a_lost_request(past: Past) -> None:
    judgement = judged(past, REFUSED, prompts=NOWHERE)
    assert "not answered, although nothing that it needs was broken" in only(judgement)


@pytest.mark.parametrize(
    "thing", ["proxy-1", "gateway-1", "disk of proxy-1", ("proxy-1", "gateway-1")]
)
def test_what_every_request_needs(past: Past, thing: Thing) -> None:
    past.broke(thing, 50.0, 100.2)
    assert not judged(past, REFUSED, prompts=NOWHERE).violations


@pytest.mark.parametrize(
    "things",
    [
        ["worker-1"],
        ["worker-1", "secret-service-2"],
        [("gateway-1", "worker-1"), ("worker-2", "secret-service-1")],
        ["gateway-2", "proxy-2", "disk of gateway-1", ("gateway-2", "worker-2"), "coordinator"],
    ],
)
def test_one_worker_with_one_secret_service_is_enough(past: Past, things: list[Thing]) -> None:
    for thing in things:
        past.broke(thing, 50.0, 150.0)
    assert "not answered" in only(judged(past, REFUSED, prompts=NOWHERE))


@pytest.mark.parametrize(
    "things",
    [
        ["worker-1", "worker-2"],
        ["secret-service-1", "secret-service-2"],
        ["worker-1", ("gateway-1", "worker-2")],
        ["worker-1", ("worker-2", "secret-service-1"), ("gateway-1", "secret-service-2")],
    ],
)
def test_without_a_worker_that_gets_a_key(past: Past, things: list[Thing]) -> None:
    for thing in things:
        past.broke(thing, 50.0, 150.0)
    assert not judged(past, REFUSED, prompts=NOWHERE).violations


def test_neighbours_have_time_to_notice_a_repair(past: Past) -> None:
    past.broke("gateway-1", 89.0, 92.0)
    assert not judged(past, REFUSED, prompts=NOWHERE).violations
    later = replace(REFUSED, began=95.0 + NOTICE_SECONDS + 0.1, ended=200.0)
    assert judged(past, later, prompts=NOWHERE).violations


def test_what_had_begun_at_a_lost_worker_is_not_sent_again(past: Past) -> None:
    past.broke("worker-1", 100.5, 103.0)
    broken = replace(ANSWERED, result=Result.BROKEN, code="peer-lost")
    assert not judged(past, broken).violations
    elsewhere = {"engine-1": [], "engine-2": [PROMPT]}
    assert "not answered" in only(judged(past, broken, prompts=elsewhere))


def test_a_new_mesh_excuses_a_proxy_until_it_has_verified_it(past: Past) -> None:
    past.clock.now = 90.0
    past.history.new_mesh()
    late = replace(REFUSED, began=150.0, ended=151.0)
    assert not judged(past, REFUSED, late, prompts=NOWHERE).violations
    assert "150.0 to" in only(judged(past, REFUSED, ANSWERED, late))


@pytest.mark.parametrize(
    "line",
    [
        f"worker: {PROMPT}",
        "gateway: said-0123456789ab",
        f"proxy: {API_KEY}",
        "Traceback (most recent call last):",
        "confide: unexpected ValueError in confide.host.gateway.app",
    ],
)
def test_what_no_log_may_have(past: Past, line: str) -> None:
    assert "the log of gateway-1" in only(judged(past, logs={"gateway-1": f"ready\n{line}\n"}))
