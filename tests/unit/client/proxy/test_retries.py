"""Until the head of an answer has opened, a request may go to another worker: three at most."""

from __future__ import annotations

import json
from typing import Any

import pytest

from confide.client.proxy import keys as keys_module
from confide.client.proxy.answer import ReportedError
from confide.client.proxy.completions import GatewayRefusal
from confide.errors import ConfideError, PolicyError, UnavailableError, VerificationError
from confide.net.http_client import StaleConnectionError
from confide.protocol.sealed import RequestHeaders
from confide.protocol.usage import TOKEN, Usage
from tests.support.retry_lab import BODY, STREAM, FakeAnswer, Lab
from tests.support.small_service import SmallService


@pytest.fixture
def lab() -> Lab:
    return Lab(SmallService(workers=5))


def test_one_worker_is_enough(lab: Lab) -> None:
    assert lab.ask().body == b'{"answer": 1}'
    lab.script = ["stream"]
    assert lab.ask(STREAM).body == b"data: 1\n\ndata: [DONE]\n\n"
    assert len(lab.sent) == 2


ELSEWHERE = [
    421,
    502,
    503,
    504,
    UnavailableError("peer-lost", "the connection broke"),
    ReportedError("engine-not-ready", "x"),
    ReportedError("not-attested", "x"),
    ReportedError("wrong-worker", "x"),
    ReportedError("replay", "x"),
    ReportedError("bad-seal", "x"),
]


@pytest.mark.parametrize("trouble", ELSEWHERE, ids=str)
def test_another_worker_gets_the_request_sealed_anew(lab: Lab, trouble: Any) -> None:
    lab.script = [trouble, trouble]
    assert lab.ask().body == b'{"answer": 1}'
    assert len(set(lab.tried())) == 3
    bodies = [body for _, body in lab.sent]
    # Another share, another salt, other bytes: nothing of one request opens at another worker.
    assert len({body[: 32 + 1168] for body in bodies}) == 3
    assert len({body[32 + 1168 :] for body in bodies}) == 3


@pytest.mark.parametrize("trouble", ELSEWHERE, ids=str)
def test_three_workers_at_most(lab: Lab, trouble: Any) -> None:
    """Whatever a gateway says, a prompt goes to three machines, all verified."""
    lab.script = [trouble] * 10
    with pytest.raises(ConfideError):
        lab.ask()
    assert len(lab.sent) == len(set(lab.tried())) == 3


def test_a_connection_that_broke_says_nothing_of_the_worker() -> None:
    """After a change of network there may be one worker only. It may have the request already."""
    lab = Lab(SmallService(workers=1))
    stale = StaleConnectionError("peer-lost", "a kept connection broke")
    lab.script = [stale]
    assert lab.ask().body == b'{"answer": 1}'
    one, two = lab.sent
    assert one[0].worker == two[0].worker
    counters = [int.from_bytes(body[1200:1208], "big") for _, body in lab.sent]
    assert counters == [0, 1], "sealed anew, so that no worker takes it for a replay"


def test_a_connection_that_always_breaks_is_given_up() -> None:
    lab = Lab(SmallService(workers=5))
    lab.script = [StaleConnectionError("peer-lost", "a kept connection broke")] * 10
    with pytest.raises(UnavailableError) as caught:
        lab.ask()
    assert caught.value.code == "peer-lost"
    assert len(lab.sent) == 3


def test_a_worker_that_has_the_request_answers_it_again() -> None:
    """The first answer was lost on its way, so the worker sees the same question twice."""
    lab = Lab(SmallService(workers=1))
    take = lab.open
    lost = [True]

    def open_(*arguments: Any, **options: Any) -> FakeAnswer:
        answer = take(*arguments, **options)
        if lost:
            lost.clear()
            raise StaleConnectionError("peer-lost", "a kept connection broke")
        return answer

    lab.open = open_  # type: ignore[method-assign]
    assert lab.ask().body == b'{"answer": 1}'
    assert len(lab.sent) == 2


STAY = [
    400,
    401,
    403,
    404,
    429,
    UnavailableError("peer-unreachable", "no gateway"),
    UnavailableError("peer-timeout", "slow"),
]


@pytest.mark.parametrize("trouble", STAY, ids=str)
def test_what_no_other_worker_mends(lab: Lab, trouble: Any) -> None:
    lab.script = [trouble]
    with pytest.raises((GatewayRefusal, UnavailableError)):
        lab.ask()
    assert len(lab.sent) == 1


@pytest.mark.parametrize(("step", "body"), [("breaks", BODY), ("stream breaks", STREAM)])
def test_after_the_head_nothing_is_sent_again(lab: Lab, step: str, body: bytes) -> None:
    lab.script = [step]
    with pytest.raises((UnavailableError, ConnectionResetError)):
        lab.ask(body)
    assert len(lab.sent) == 1


def test_an_altered_answer_is_not_asked_for_again(lab: Lab) -> None:
    """Somebody on the way changes answers: an app has to see that."""
    lab.open = lambda *_, **__: FakeAnswer(b"\x09" * 100)  # type: ignore[method-assign]
    with pytest.raises(VerificationError):
        lab.ask()


def test_a_421_without_a_list(lab: Lab) -> None:
    lab.open = lambda *_, **__: FakeAnswer(b"x", 421)  # type: ignore[method-assign]
    with pytest.raises(VerificationError):
        lab.ask()


def test_the_last_trouble_is_what_the_app_sees() -> None:
    lab = Lab(SmallService(workers=1))
    lab.script = [ReportedError("engine-not-ready", "x")]
    with pytest.raises(ReportedError) as caught:
        lab.ask()
    assert caught.value.code == "engine-not-ready"
    assert len(lab.sent) == 1


def test_unknown_key_makes_one_and_may_ask_the_same_worker() -> None:
    lab = Lab(SmallService(workers=1))
    unknown = ReportedError("unknown-key", "x")
    lab.script = [unknown]
    assert lab.ask().body == b'{"answer": 1}'
    one, two = lab.sent
    assert one[0].worker == two[0].worker and one[0].key_id != two[0].key_id
    assert one[1][: 32 + 1168] == two[1][: 32 + 1168], "the share stays"
    lab.script = [unknown]
    with pytest.raises(ReportedError):
        lab.ask()
    lab.monotonic.now += keys_module.REPLACE_SECONDS
    lab.script = [unknown]
    assert lab.ask().body == b'{"answer": 1}'


def test_a_kem_key_that_is_gone_is_fetched_anew() -> None:
    """The worker has renewed its certificate, and this client's share is too old."""
    lab = Lab(SmallService(workers=1))
    lab.ask()
    (node,) = lab.service.workers
    node.join()
    lab.monotonic.now += 1
    lab.script = [ReportedError("kem-key-gone", "x")]
    assert lab.ask().body == b'{"answer": 1}'
    assert lab.sent[-1][1][:32] != lab.sent[-2][1][:32]


@pytest.mark.parametrize("first", ["worker", "key"])
def test_a_new_mesh_is_attested(first: str) -> None:
    """The coordinator was started anew, and with it all machines. The proxy goes on by itself."""
    lab = Lab(SmallService())
    lab.ask()
    lab.service.start(services=1, workers=1)
    lab.know_workers()
    if first == "key":
        lab.completions._keys._keys.clear()  # it was too old just then
    else:
        lab.script = [421]
    assert lab.ask().body == b'{"answer": 1}'
    assert lab.handshakes == 2
    assert lab.tried()[-1] in lab.workers


def test_machines_of_a_mesh_that_no_coordinator_shows_get_nothing() -> None:
    """A gateway shows genuine machines of another mesh, and our coordinator."""
    lab = Lab(SmallService())
    lab.ask()
    ours = lab.service.coordinator
    lab.service.start(services=1, workers=1)
    lab.service.coordinator = ours
    lab.script = [421]
    for _ in range(3):
        with pytest.raises(ConfideError):
            lab.ask()
    assert len(lab.sent) == 2
    assert lab.handshakes == 2


def test_a_gateway_that_shows_no_worker_causes_no_attestation() -> None:
    lab = Lab(SmallService())
    lab.ask()
    lab.service.workers.clear()
    lab.service.loads.clear()
    lab.script = [421]
    with pytest.raises(ConfideError):
        lab.ask()
    assert lab.handshakes == 1


def test_a_gateway_that_shows_no_secret_service_causes_no_attestation() -> None:
    """A failed one would end the verified state, and with it what goes on without new keys."""
    lab = Lab(SmallService())
    lab.service.nodes.clear()
    with pytest.raises(UnavailableError) as caught:
        lab.ask()
    assert caught.value.code == "no-secret-service"
    assert lab.handshakes == 1


def test_counters_of_one_worker_go_up(lab: Lab) -> None:
    for _ in range(4):
        lab.ask()
    counters = [int.from_bytes(body[1200:1208], "big") for _, body in lab.sent]
    assert counters == [0, 1, 2, 3]


@pytest.mark.parametrize("usage", [Usage(TOKEN, 1 << 40, 4), Usage(TOKEN, 3, 1 << 40)])
def test_counts_that_the_request_does_not_allow(lab: Lab, usage: Usage) -> None:
    lab.usage = usage
    with pytest.raises(VerificationError) as caught:
        lab.ask()
    assert caught.value.code == "bad-usage"


def test_the_bounds_are_those_of_the_request(lab: Lab) -> None:
    lab.usage = Usage(TOKEN, 3, 21)
    body = json.dumps({**json.loads(BODY), "max_tokens": 20}).encode()
    with pytest.raises(VerificationError):
        lab.ask(body)
    lab.usage = Usage(TOKEN, 3, 20)
    lab.ask(body)


def test_a_receipt_of_another_worker_of_the_mesh(lab: Lab) -> None:
    """It has a genuine certificate, and the request's key from somewhere."""
    chosen: list[Any] = []

    def other(headers: RequestHeaders) -> Any:
        lab._asked_for = headers
        if not chosen:
            chosen.append(headers.worker)
            return lab.workers[headers.worker]
        return next(found for name, found in lab.workers.items() if name != headers.worker)

    lab._keys = other  # type: ignore[method-assign]
    with pytest.raises(VerificationError, match="another worker"):
        lab.ask()


def test_a_model_that_is_not_there_is_not_sent(lab: Lab) -> None:
    with pytest.raises(PolicyError):
        lab.ask(b'{"model": "gpt-5", "messages": [{"role": "user", "content": "hello"}]}')
    assert not lab.sent
