"""A worker asks several secret services: in which order, and whom it believes."""

from __future__ import annotations

import itertools
import random
from collections import Counter
from collections.abc import Mapping
from typing import Any

import pytest

from confide.errors import ConfideError, PolicyError, UnavailableError, VerificationError
from confide.guest.secret_service import client
from confide.guest.secret_service.client import DOWN_SECONDS, DeniedError, SecretServices
from confide.protocol.secret_service import ReleasedKey
from tests.support.simulated_machine import Clock

URLS = ("https://a", "https://b", "https://c")
KEY = ReleasedKey(bytes(32), "tiny", 600)
UNKNOWN = PolicyError("unknown-key", "it does not exist")
AWAY = UnavailableError("secret-service-unreachable", "nobody there")
LIAR = VerificationError("wrong-role", "a worker poses")
NOT_READY = PolicyError("internal", "HTTP 500")
REFUSED = PolicyError("model-not-allowed", "another model")


class Mesh:
    """What each secret service answers; by default it does not know the key."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.answers: Mapping[str, ReleasedKey | ConfideError] = dict.fromkeys(URLS, UNKNOWN)
        self.asked: list[str] = []
        self.clock = Clock(50)
        membership: Any = object
        self.services = SecretServices(URLS, membership, monotonic=self.clock)
        monkeypatch.setattr(client, "fetch_key", self._fetch)

    def _fetch(self, url: str, _membership: object, _key_id: bytes) -> ReleasedKey:
        self.asked.append(url)
        answer = self.answers[url]
        if isinstance(answer, ConfideError):
            raise answer
        return answer

    def fetch(self, key_id: bytes = bytes(32)) -> str:
        """What comes of it: "key", or the code of the error."""
        try:
            assert self.services.fetch(key_id) is KEY
        except ConfideError as error:
            return error.code
        return "key"


@pytest.fixture
def mesh(monkeypatch: pytest.MonkeyPatch) -> Mesh:
    return Mesh(monkeypatch)


@pytest.mark.parametrize("holder", URLS)
@pytest.mark.parametrize("others", [UNKNOWN, AWAY, LIAR, NOT_READY], ids=lambda e: e.code)
def test_one_that_has_the_key_is_enough(mesh: Mesh, holder: str, others: ConfideError) -> None:
    mesh.answers = dict.fromkeys(URLS, others) | {holder: KEY}
    assert mesh.fetch() == "key"


def test_unknown_only_if_each_one_that_answered_says_so(mesh: Mesh) -> None:
    assert mesh.fetch() == "unknown-key"
    assert sorted(mesh.asked) == sorted(URLS)
    for url in URLS:
        mesh.answers = dict.fromkeys(URLS, UNKNOWN) | {url: AWAY}
        assert mesh.fetch() == "unknown-key"


def test_denied_only_if_each_one_has_answered(mesh: Mesh) -> None:
    """A worker remembers that, so it must not count before the one that has the key was asked."""
    Answers = dict[str, ReleasedKey | ConfideError]
    unknown: Answers = dict.fromkeys(URLS, UNKNOWN)
    refused: Answers = dict.fromkeys(URLS, REFUSED)
    cases = [(unknown, True), (refused, True)]
    for url in URLS:
        cases += [(unknown | {url: AWAY}, False), (unknown | {url: LIAR}, False)]
    for answers, denied in cases:
        mesh.answers = answers
        with pytest.raises(PolicyError) as caught:
            mesh.services.fetch(bytes(32))
        assert isinstance(caught.value, DeniedError) == denied


@pytest.mark.parametrize("trouble", [AWAY, LIAR, NOT_READY], ids=lambda e: e.code)
def test_none_that_answers_is_not_an_unknown_key(mesh: Mesh, trouble: ConfideError) -> None:
    """Else the host could make clients change keys by cutting a cable."""
    mesh.answers = dict.fromkeys(URLS, trouble)
    assert mesh.fetch() == trouble.code


def test_a_refusal_is_an_answer(mesh: Mesh) -> None:
    mesh.answers = dict.fromkeys(URLS, REFUSED)
    assert mesh.fetch() == "model-not-allowed"
    assert len(mesh.asked) == 1


def test_keys_spread_over_the_services(mesh: Mesh) -> None:
    mesh.answers = dict.fromkeys(URLS, KEY)
    first: Counter[str] = Counter()
    for number in range(300):
        mesh.asked.clear()
        mesh.fetch(number.to_bytes(32, "big"))
        first[mesh.asked[0]] += 1
    assert set(first) == set(URLS) and min(first.values()) > 60


def test_one_that_is_down_is_asked_last_for_a_while(mesh: Mesh) -> None:
    mesh.answers = dict.fromkeys(URLS, KEY)
    mesh.fetch()
    (favourite,) = mesh.asked
    mesh.answers = dict.fromkeys(URLS, KEY) | {favourite: AWAY}
    for expected in (2, 1):
        mesh.asked.clear()
        assert mesh.fetch() == "key"
        assert len(mesh.asked) == expected
    mesh.clock.now += DOWN_SECONDS
    mesh.answers = dict.fromkeys(URLS, KEY)
    mesh.asked.clear()
    mesh.fetch()
    assert mesh.asked == [favourite]


def test_one_request_waits_for_one_that_still_hangs(
    mesh: Mesh, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While it is asked again, others ask it last; so a machine that is off costs little."""
    mesh.answers = dict.fromkeys(URLS, KEY)
    mesh.fetch()
    (favourite,) = mesh.asked
    mesh.answers = dict.fromkeys(URLS, KEY) | {favourite: AWAY}
    mesh.fetch()
    mesh.clock.now += DOWN_SECONDS
    plain = mesh._fetch
    during: list[str] = []

    def hang(url: str, membership: object, key_id: bytes) -> ReleasedKey:
        if url == favourite and not during:
            during.append(url)
            during.append(mesh.services._order(key_id)[-1])
        return plain(url, membership, key_id)

    monkeypatch.setattr(client, "fetch_key", hang)
    assert mesh.fetch() == "key"
    assert during == [favourite, favourite]


def test_no_secret_service_at_all(monkeypatch: pytest.MonkeyPatch) -> None:
    membership: Any = object
    with pytest.raises(UnavailableError) as caught:
        SecretServices((), membership).fetch(bytes(32))
    assert caught.value.code == "secret-service-unreachable"


def test_a_request_lacks_its_key_only_if_no_service_that_took_it_is_alive(mesh: Mesh) -> None:
    """Over random schedules of 200 steps: services start anew and lose all, or hang, or lie."""
    for seed in range(5):
        chance = random.Random(seed)
        held: dict[str, set[bytes]] = {url: set() for url in URLS}
        up = dict.fromkeys(URLS, True)
        names = itertools.count()
        for _ in range(200):
            url = chance.choice(URLS)
            match chance.randrange(4):
                case 0:
                    held[url].clear()  # started anew
                case 1:
                    up[url] = not up[url]
                case 2:
                    name = next(names).to_bytes(32, "big")
                    for service in URLS:
                        if up[service]:
                            held[service].add(name)
            mesh.clock.now += chance.random() * 2 * DOWN_SECONDS
            for name in set().union(*held.values()):
                mesh.answers = {
                    service: (KEY if name in held[service] else UNKNOWN)
                    if up[service]
                    else chance.choice([AWAY, LIAR, NOT_READY])
                    for service in URLS
                }
                alive = any(up[service] and name in held[service] for service in URLS)
                assert (mesh.fetch(name) == "key") == alive
