"""The whole path with nginx or HAProxy between proxy and gateway, set up as operations.md says.

Both give a silent connection up after a few seconds here, so that silence is soon long.
"""

from __future__ import annotations

import hashlib
import http.client
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import openai
import pytest

from confide.client.kept_receipt import read_kept, verify_kept
from confide.net.sse import WAITING
from tests.support.app import ANSWER, App, engine_stats
from tests.support.load import HEADERS, PATH, body_of
from tests.support.native_service import NativeService
from tests.support.reverse_proxies import IDLE_SECONDS, start_haproxy, start_nginx
from tests.support.simulated_machine import MODEL
from tests.support.verdicts import failed

SILENCE = IDLE_SECONDS + 2
PROMPT = "x" * (7 << 20)
"""Near the 8 MiB that a proxy takes, and far over nginx's own limit."""

STARTS = {"nginx": start_nginx, "haproxy": start_haproxy}
WAYS = ("nothing", *STARTS)


@dataclass
class Way:
    """What stands between: its name, and how to reach a gateway through it."""

    name: str
    service: NativeService
    programs: Path

    def to(self, gateway: str) -> str:
        """A URL that leads to this gateway, by its name in the service."""
        url = self.service.urls[gateway]
        name = f"{self.name}-{gateway}"
        if self.name == "nothing":
            return url
        if name not in self.service.urls:
            STARTS[self.name](self.service, name, url, self.programs)
        return self.service.urls[name]

    def app(self, gateway: str, *options: str) -> App:
        """An app whose proxy takes this way to a gateway."""
        name = f"proxy-{self.name}-{gateway}"
        if name not in self.service.urls:
            self.service.start_proxy(self.to(gateway), name=name, options=options)
        return App(self.service.urls[name])


def _user(way: str) -> dict[str, object]:
    """An API key of its own for each way; a new proxy uses up most of the quota."""
    return {"sha256": hashlib.sha256(way.encode()).hexdigest(), "requests_per_minute": 8}


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NativeService]:
    folder = tmp_path_factory.mktemp("networks")
    with NativeService(folder) as native:
        lively = native.start_worker("lively-worker", (MODEL,), wait_seconds=1)
        native.wait("lively-worker", "ready")
        native.start_gateway("gateway", workers=[lively])
        native.start_gateway("quiet-gateway")
        keys = folder / "keys.json"
        keys.write_text(json.dumps({way: _user(way) for way in WAYS}))
        native.start_gateway("metered-gateway", ["--api-keys", str(keys)], workers=[lively])
        yield native


@pytest.fixture(scope="module", params=WAYS)
def way(request: pytest.FixtureRequest, service: NativeService, reverse_proxies: Path) -> Way:
    return Way(request.param, service, reverse_proxies)


@pytest.fixture
def app(way: Way, service: NativeService) -> App:
    return way.app("gateway", "--receipts", str(service.folder / f"receipts-{way.name}"))


def raw_stream(app: App, orders: str) -> bytes:
    """The bytes of a streamed answer as curl would show them."""
    parts = urlsplit(app.url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=60)
    connection.request("POST", PATH, body_of(orders, stream=True), HEADERS)
    response = connection.getresponse()
    assert response.status == 200
    assert response.getheader("X-Accel-Buffering") == "no"
    assert response.getheader("Cache-Control") == "no-cache, no-transform"
    body = response.read()
    connection.close()
    return body


def test_answers(app: App) -> None:
    assert app.ask() == ANSWER
    assert "".join(app.stream()) == ANSWER


def test_events_come_one_by_one(app: App) -> None:
    start = time.monotonic()
    times = [time.monotonic() - start for _ in app.stream("events=10 gap=0.2")]
    # Generous, because a busy machine may stall; an answer that was held back would span no time.
    assert times[-1] - times[0] > 1, "the events came at once"


def test_silence_longer_than_the_idle_limit(app: App) -> None:
    """Before the first event and between two, and before an answer that is not streamed."""
    assert len(list(app.stream(f"late={SILENCE} events=2 gap={SILENCE}"))) == 2
    assert app.ask(f"late={SILENCE}") == ANSWER


def test_an_app_hears_that_its_answer_still_comes(
    way: Way, app: App, service: NativeService
) -> None:
    """By comments, which are no part of the answer that the receipt is of."""
    folder = service.folder / f"receipts-{way.name}"
    before = set(folder.glob("*/[0-9]*.cbor"))
    answer = raw_stream(app, f"events=2 gap={SILENCE}")
    assert answer.count(WAITING) >= 2
    assert answer.endswith(b"data: [DONE]\n\n")
    (new,) = set(folder.glob("*/[0-9]*.cbor")) - before
    verify_kept(read_kept(new), service.manifest, answer=answer).require()
    forged = answer.replace(WAITING, b": other\n\n")
    assert failed(verify_kept(read_kept(new), service.manifest, answer=forged)) == ["answer"]


def test_without_wait_frames_the_idle_limit_ends_the_answer(way: Way) -> None:
    """So the test above would fail without them. The app hears who ended it."""
    if way.name == "nothing":
        assert way.app("quiet-gateway").ask(f"late={SILENCE}") == ANSWER
        return
    with pytest.raises(openai.InternalServerError, match="HTTP 504") as caught:
        way.app("quiet-gateway").ask(f"late={SILENCE}")
    assert caught.value.code == "gateway-refused"


def test_large_prompts(app: App) -> None:
    for _ in range(2):
        assert app.ask(PROMPT) == ANSWER


def test_connections_that_were_given_up_meanwhile(app: App) -> None:
    assert app.ask() == ANSWER
    time.sleep(SILENCE)
    assert app.ask() == ANSWER


def test_a_refusal_that_comes_while_the_prompt_is_sent(way: Way, tmp_path: Path) -> None:
    """The gateway says 429 before it has the prompt. The app gets that, and not "broke off"."""
    key = tmp_path / "key"
    key.write_text(way.name)
    key.chmod(0o600)
    app = way.app("metered-gateway", "--api-key-file", str(key))
    refusals = 0
    # The quota of a minute; a place becomes free every 7.5 s.
    for number in range(30):
        try:
            app.ask(PROMPT if refusals else "hello")
        except openai.RateLimitError as error:
            assert "rate-limited" in error.message
            refusals += 1
            if refusals == 4:
                return
        assert number < 29, "the quota is never used up"


def test_a_gateway_that_does_not_know_the_key(way: Way, service: NativeService) -> None:
    """A refusal of the handshake is one line with the reason."""
    process = service.start(
        f"unauthorized-{way.name}",
        "confide",
        ["proxy", "--gateway", way.to("metered-gateway"), "--manifest", str(service.manifest_file),
         "--development"],
        listen=True,
    )  # fmt: skip
    assert process
    service.processes[f"unauthorized-{way.name}"].wait(60)
    said = service.log(f"unauthorized-{way.name}")
    assert f"Connecting to {way.to('metered-gateway')}: at most 60 s." in said
    assert "unauthorized" in said and "HTTP 401" in said


@pytest.mark.parametrize("stream", [True, False])
def test_a_client_that_leaves_stops_the_engine(
    app: App, service: NativeService, stream: bool
) -> None:
    app.ask()  # the engine's report holds its last prompt, which may be a large one
    before = engine_stats(service)
    parts = urlsplit(app.url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=60)
    orders = "events=5000 gap=0.02" if stream else "hang"
    connection.request("POST", PATH, body_of(orders, stream=stream), HEADERS)
    response = connection.getresponse() if stream else None
    deadline = time.monotonic() + 60
    while engine_stats(service)["requests"] == before["requests"]:
        assert time.monotonic() < deadline, "the engine was never asked"
        time.sleep(0.05)
    connection.close()
    if response is not None:
        response.close()  # it holds the connection, too
    while engine_stats(service)["hung_up"] == before["hung_up"]:
        assert time.monotonic() < deadline, "the engine was left working"
        time.sleep(0.05)
    assert app.ask() == ANSWER
