"""Three secret services and two workers as real programs, some of which are killed."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path

import openai
import pytest

from confide.net.http_client import Upstream
from confide.protocol.frames import RECORD_START
from tests.support.app import ANSWER, App
from tests.support.clients import Clients
from tests.support.hostile_gateway import HostileGateway, hostile_gateway
from tests.support.native_service import NativeService
from tests.support.recorded import TO_THE_FIRST, TO_THE_OTHER, Recorded, refused, sealed_to_each
from tests.support.simulated_machine import current_manifest, manifest_value

MODELS = ("tiny", "second", "third")


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NativeService]:
    tiny = manifest_value()["models"][0]
    manifest = current_manifest(models=[tiny | {"name": name} for name in MODELS])
    folder = tmp_path_factory.mktemp("several")
    with NativeService(folder, manifest=manifest, models=MODELS, secret_services=3) as native:
        native.start_worker("worker-2", MODELS)
        native.wait("worker-2", "ready")
        native.start_gateway(workers=[native.urls["worker"], native.urls["worker-2"]])
        yield native


@pytest.fixture(scope="module")
def hostile(service: NativeService) -> Iterator[HostileGateway]:
    with hostile_gateway(service.urls["gateway"]) as gateway:
        yield gateway


@pytest.fixture(scope="module")
def app(service: NativeService, hostile: HostileGateway) -> App:
    return App(service.start_proxy(hostile.url, options=["--min-workers", "1"]))


def ask(app: App, model: str, text: str = "hello") -> str | None:
    reply = app.client.chat.completions.create(
        model=model, messages=[{"role": "user", "content": text}]
    )
    content: str | None = reply.choices[0].message.content
    return content


def test_the_verdict_says_how_many_there_are(service: NativeService, app: App) -> None:
    said = " ".join(service.log("proxy").split())
    assert "3 of the 3 that the gateway showed" in said
    assert "2 of the 2 that the gateway showed" in said


def test_another_worker_cannot_open_recorded_traffic(
    service: NativeService, hostile: HostileGateway
) -> None:
    """Whatever the gateway changes; and the worker that it is for opens it once, unchanged."""
    clients = Clients(hostile.url, service.manifest)
    sent = sealed_to_each(hostile, lambda: clients.new().ask("tiny"))
    workers = [service.urls["worker"], service.urls["worker-2"]]
    recorded = Recorded(service.urls["gateway"], service.manifest, "tiny", workers, sent)
    for to, changes in ((recorded.other, TO_THE_OTHER), (recorded.first, TO_THE_FIRST)):
        for name, (change, code) in changes.items():
            assert refused(recorded.deliver(to.worker, change(recorded))) == code, name
    for one in sent:
        assert recorded.deliver(one.worker, one).content[0] == RECORD_START
        assert refused(recorded.deliver(one.worker, one)) == "replay"


def test_killed_secret_services_lose_no_request(service: NativeService, app: App) -> None:
    assert ask(app, "tiny") == ANSWER
    for name in ("secret-service", "secret-service-2"):
        service.kill(name)
    # The key that is in use; a new one, at once and after the gateway has noticed.
    assert ask(app, "tiny") == ANSWER
    assert ask(app, "second") == ANSWER
    time.sleep(2.5)
    assert ask(app, "third") == ANSWER


def test_a_killed_worker_loses_no_request(
    service: NativeService, app: App, hostile: HostileGateway
) -> None:
    """Before the gateway has noticed: it answers 421, and the client seals for the other one.

    Not for a client that wants two workers: the new list has one.
    """
    url = service.start_proxy(hostile.url, name="choosy", options=["--min-workers", "2"])
    choosy = App(url)
    assert ask(choosy, "tiny") == ANSWER
    chats = [f"conversation {number}" for number in range(12)]
    for chat in chats:
        assert ask(app, "tiny", chat) == ANSWER
    service.kill("worker")
    for chat in chats:
        assert ask(app, "tiny", chat) == ANSWER
    with pytest.raises(openai.InternalServerError) as caught:
        for chat in chats:
            ask(choosy, "tiny", chat)
    assert caught.value.code == "too-few-workers"


def test_the_last_worker_is_gone(service: NativeService, app: App) -> None:
    service.kill("worker-2")
    with pytest.raises(openai.InternalServerError, match="gateway"):
        ask(app, "tiny")


def test_too_few_workers(tmp_path: Path, service: NativeService) -> None:
    with pytest.raises(TimeoutError) as caught:
        service.start_proxy(
            service.urls["gateway"], name="demanding", options=["--min-workers", "2"]
        )
    said = " ".join(str(caught.value).split())
    assert "workers" in said and "FAILED" in said
    assert json.loads(Upstream(service.urls["gateway"]).call("GET", "/healthz")[2])["models"] == []
