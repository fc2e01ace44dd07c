"""Three secret services and two workers: who opens what was recorded, and what an outage costs.

The tests follow each other: from the outage on, secret services are gone.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import pytest
import requests

from confide.commands.system import Build, Program, System
from confide.errors import ConfideError, VerificationError
from confide.protocol.frames import RECORD_ERROR, RECORD_START
from confide.protocol.keyexchange import InferenceKey
from confide.protocol.roles import Role
from confide.protocol.secret_service import KeyExchangeReply, KeyOffer
from tests.support.clients import Asking, Client, Clients
from tests.support.hostile_gateway import Exchange, HostileGateway, hostile_gateway
from tests.support.recorded import (
    CHAT,
    TO_THE_FIRST,
    TO_THE_OTHER,
    Recorded,
    refused,
    sealed_to_each,
)
from tests.support.sealed_client import SealedClient

pytestmark = pytest.mark.long

SECRET_SERVICES = ("secret-service", "secret-service-2", "secret-service-3")
WORKERS = ("worker-cpu", "worker-cpu-2")
MEMORY_MIB = {Role.COORDINATOR: 640, Role.SECRET_SERVICE: 640, Role.WORKER_CPU: 2048}
BOUND_SECONDS = 60.0
"""After so long, an error is late, on a busy computer that emulates all six machines."""


@pytest.fixture(scope="module")
def running(build: Build, tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    with System(
        build,
        tmp_path_factory.mktemp("keys"),
        secret_services=len(SECRET_SERVICES),
        workers=len(WORKERS),
        memory_mib=MEMORY_MIB,
        progress=print,
    ) as system:
        yield system


@pytest.fixture(scope="module")
def honest(running: System) -> Program:
    return running.start_gateway()


@pytest.fixture(scope="module")
def hostile_session(honest: Program) -> Iterator[HostileGateway]:
    with hostile_gateway(honest.url) as middle:
        yield middle


@pytest.fixture
def hostile(hostile_session: HostileGateway) -> Iterator[HostileGateway]:
    yield from hostile_session.fresh()


@pytest.fixture(scope="module")
def proxy(running: System, hostile_session: HostileGateway) -> Program:
    return running.start_proxy(hostile_session.url, options=["--min-workers", "2"])


@pytest.fixture(scope="module")
def clients(running: System, hostile_session: HostileGateway) -> Clients:
    return Clients(hostile_session.url, running.manifest.read_bytes())


def test_the_proxy_says_how_many_there_are(proxy: Program) -> None:
    said = " ".join(proxy.log.read_text().split())
    assert "3 of the 3 that the gateway showed" in said
    assert "2 of the 2 that the gateway showed" in said


def test_both_workers_answer(
    clients: Clients, hostile: HostileGateway, build: Build, expected: str
) -> None:
    client, asked = clients.new(), set()
    for number in range(16):
        assert client.ask(build.model_name, f"conversation {number}") == expected
        asked |= {exchange.headers.get("Confide-Worker") for exchange in hostile.seen} - {None}
        if len(asked) == len(WORKERS):
            break
    assert len(asked) == len(WORKERS)


# --- what was recorded ------------------------------------------------------------------------


@pytest.fixture(scope="module")
def recorded(
    running: System,
    honest: Program,
    hostile_session: HostileGateway,
    clients: Clients,
    build: Build,
) -> Recorded:
    sent = sealed_to_each(hostile_session, lambda: clients.new().ask(build.model_name))
    machines = [running.machine(name).url for name in WORKERS]
    return Recorded(honest.url, running.manifest.read_bytes(), build.model_name, machines, sent)


@pytest.mark.parametrize("name", TO_THE_OTHER)
def test_another_worker_does_not_open_it(recorded: Recorded, name: str) -> None:
    change, code = TO_THE_OTHER[name]
    assert refused(recorded.deliver(recorded.other.worker, change(recorded))) == code


@pytest.mark.parametrize("name", TO_THE_FIRST)
def test_nor_does_the_one_that_it_is_for_once_it_was_changed(recorded: Recorded, name: str) -> None:
    change, code = TO_THE_FIRST[name]
    assert refused(recorded.deliver(recorded.first.worker, change(recorded))) == code


def test_under_another_path_or_version(recorded: Recorded) -> None:
    to, sent = recorded.first.worker, recorded.first
    assert refused(recorded.deliver(to, sent, "/v1/completions")) == "bad-seal"
    old = recorded.deliver(to, sent.named(Confide_Version="1"))
    assert (old.status_code, old.json()["error"]["code"]) == (400, "bad-header")


def test_it_opens_once_at_the_worker_that_it_is_for(recorded: Recorded) -> None:
    """Nothing of the above has used it up, and both workers are well."""
    for sent in (recorded.first, recorded.other):
        assert recorded.deliver(sent.worker, sent).content[0] == RECORD_START
        for _ in range(2):
            assert refused(recorded.deliver(sent.worker, sent)) == "replay"


def test_recorded_key_messages(
    running: System, clients: Clients, hostile: HostileGateway, build: Build, expected: str
) -> None:
    """Sent again, to each secret service: its own is taken already, another's does not open."""
    assert clients.new().ask(build.model_name) == expected
    messages = [e.body for e in hostile.seen if e.path == "/confide/v1/keys"]
    assert len(messages) == len(SECRET_SERVICES)
    codes = []
    for name in SECRET_SERVICES:
        url = f"{running.machine(name).url}/v1/keys"
        answers = [requests.post(url, data=message, timeout=60).json() for message in messages]
        codes.append(sorted(answer["error"]["code"] for answer in answers))
    assert codes == [["kem-key-gone", "kem-key-gone", "key-exists"]] * len(SECRET_SERVICES)


# --- an outage --------------------------------------------------------------------------------


def services_shown(clients: Clients) -> str:
    """What a verification says now."""
    clients.verify()
    return clients.verdict.secret_services.checks[0].seen


def wait_until_shown(honest: Program, count: int) -> bytes:
    """Wait until the gateway shows so many secret services."""
    deadline = time.monotonic() + BOUND_SECONDS
    while time.monotonic() < deadline:
        shown = requests.get(f"{honest.url}/confide/v1/key-exchange", timeout=60).content
        if len(KeyExchangeReply.parse(shown).services) == count:
            return shown
        time.sleep(0.5)
    raise TimeoutError(f"the gateway does not show {count} secret services")


@pytest.fixture(scope="module")
def all_shown(honest: Program) -> bytes:
    """The list of all secret services, which a gateway can show later, too."""
    return wait_until_shown(honest, len(SECRET_SERVICES))


@pytest.fixture(scope="module")
def steady(clients: Clients, build: Build, expected: str) -> Client:
    """A client that has asked once, when all was well: at most one worker knows its key."""
    client = clients.new()
    assert client.ask(build.model_name) == expected
    return client


@pytest.fixture(scope="module")
def unused(running: System, honest: Program, build: Build) -> tuple[SealedClient, InferenceKey]:
    """A key that secret services have, and no worker."""
    client = SealedClient(honest.url, running.manifest.read_bytes())
    return client, client.key_for(build.model_name)


def test_secret_services_that_end_while_requests_run_lose_none(
    running: System,
    honest: Program,
    clients: Clients,
    hostile: HostileGateway,
    all_shown: bytes,
    steady: Client,
    unused: object,
    build: Build,
    expected: str,
) -> None:
    with Asking(clients, build.model_name) as asking:
        asking.more(2)
        for left, name in ((2, "secret-service"), (1, "secret-service-2")):
            running.machine(name).stop()
            asking.more(4)
            wait_until_shown(honest, left)
            assert services_shown(clients) == f"{left} of the {left} that the gateway showed"
    assert not asking.errors
    assert set(asking.answers) == {expected} and len(asking.answers) >= 10


def test_a_gateway_that_still_shows_those_that_have_ended(
    clients: Clients, hostile: HostileGateway, all_shown: bytes, build: Build, expected: str
) -> None:
    """Their certificates are genuine. One that is left takes the key, and that is enough."""
    hostile.on_message = with_services(KeyExchangeReply.parse(all_shown))
    assert services_shown(clients) == "3 of the 3 that the gateway showed"
    assert clients.new().ask(build.model_name) == expected


def test_a_worker_among_the_secret_services(
    clients: Clients,
    hostile: HostileGateway,
    recorded: Recorded,
    honest: Program,
    build: Build,
    expected: str,
) -> None:
    """The verdict says how many passed of how many."""
    left = KeyExchangeReply.parse(wait_until_shown(honest, 1)).services
    worker = recorded.workers[recorded.first.worker]
    posing = KeyOffer(worker.certificate, worker.kem_public_key)
    hostile.on_message = with_services(KeyExchangeReply((posing, *left, *left)))
    assert services_shown(clients).startswith("1 of the 3 that the gateway showed")
    hostile.seen.clear()
    assert clients.new().ask(build.model_name) == expected
    assert [e.path for e in hostile.seen].count("/confide/v1/keys") == 1


def with_services(reply: KeyExchangeReply) -> Callable[[Exchange, bytes], bytes]:
    def show(exchange: Exchange, message: bytes) -> bytes:
        return reply.encode() if exchange.path.endswith("/key-exchange") else message

    return show


def test_without_secret_services_what_has_a_key_goes_on(
    running: System,
    honest: Program,
    steady: Client,
    hostile: HostileGateway,
    build: Build,
    expected: str,
) -> None:
    """A worker has the key. One that has not says so, and the request goes to the other one."""
    running.machine("secret-service-3").stop()
    wait_until_shown(honest, 0)
    for number in range(8):
        assert steady.ask(build.model_name, f"conversation {number}") == expected
    asked = {e.headers["Confide-Worker"] for e in hostile.seen if e.path == CHAT}
    assert len(asked) == len(WORKERS)


def test_and_what_has_none_gets_a_named_error_in_time(
    clients: Clients,
    hostile: HostileGateway,
    all_shown: bytes,
    unused: tuple[SealedClient, InferenceKey],
    build: Build,
) -> None:
    start = time.monotonic()
    client, key = unused
    answer = client.post(CHAT, build.model_name, b"{}", key)
    assert answer[0] == RECORD_ERROR and b"secret-service-unreachable" in answer
    assert time.monotonic() - start < BOUND_SECONDS
    for reply, code in ((None, "no-secret-service"), (all_shown, "gateway-refused")):
        if reply:
            hostile.on_message = with_services(KeyExchangeReply.parse(reply))
        start = time.monotonic()
        with pytest.raises(ConfideError) as caught:
            clients.new().ask(build.model_name)
        assert caught.value.code == code
        assert time.monotonic() - start < BOUND_SECONDS
    hostile.reset()
    with pytest.raises(VerificationError, match="the check 'secret services' failed"):
        clients.verify()
    assert clients.verdict.secret_services.checks[0].seen == "0 of the 0 that the gateway showed"
