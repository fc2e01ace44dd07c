"""Verification is a state that expires: every way into it and out of it, on a clock tests turn."""

from __future__ import annotations

import threading
from unittest.mock import Mock

import pytest

from confide.client.proxy.handshake import Established
from confide.client.proxy.session import (
    AGAIN_SECONDS,
    LIFETIME_SECONDS,
    RETRY_SECONDS,
    Session,
)
from confide.errors import ConfideError, UnavailableError, VerificationError
from confide.protocol.manifest import Manifest
from tests.support.kept import NOTHING_ATTESTED
from tests.support.simulated_machine import Clock, manifest_bytes

FAILED = VerificationError("not-verified", "the check 'PCR 4' failed")
AWAY = UnavailableError("peer-unreachable", "nobody there")


class Service:
    """Stands for a handshake: succeeds, or fails with `error`."""

    def __init__(self) -> None:
        self.error: ConfideError | None = None
        self.runs = 0
        self.seconds = LIFETIME_SECONDS

    def __call__(self) -> Established:
        self.runs += 1
        if self.error is not None:
            raise self.error
        return Established(
            manifest=Manifest.parse(manifest_bytes()),
            mesh_ca=bytes([self.runs]),
            root_ca=b"",
            seconds=self.seconds,
            attested=NOTHING_ATTESTED,
        )


@pytest.fixture
def clock() -> Clock:
    return Clock(1000.0)


@pytest.fixture
def service() -> Service:
    return Service()


@pytest.fixture
def lines() -> list[str]:
    return []


@pytest.fixture
def session(service: Service, clock: Clock, lines: list[str]) -> Session:
    session = Session(service, clock=clock, report=lines.append)
    session.establish()
    return session


def refused(session: Session) -> UnavailableError:
    with pytest.raises(UnavailableError) as caught:
        session.current()
    assert caught.value.code == "not-verified"
    return caught.value


def test_first_failure_is_the_handshake_s_own_error(service: Service, clock: Clock) -> None:
    service.error = FAILED
    with pytest.raises(VerificationError):
        Session(service, clock=clock).establish()


def test_before_the_first_handshake_nothing_is_verified(service: Service, clock: Clock) -> None:
    service.error = AWAY
    session = Session(service, clock=clock)
    assert session.seconds_left() == 0
    assert "nobody there" in refused(session).seen


def test_it_stands_for_an_hour_and_no_longer(
    session: Session, service: Service, clock: Clock
) -> None:
    service.error = AWAY
    clock.now += LIFETIME_SECONDS - 1
    assert session.current().mesh_ca[-1] == 1
    clock.now += 1
    assert session.seconds_left() == 0
    assert "nobody there" in refused(session).seen


def test_a_shorter_manifest_shortens_it(service: Service, clock: Clock) -> None:
    service.seconds = 60
    session = Session(service, clock=clock)
    session.establish()
    clock.now += 60
    assert session.current().mesh_ca[-1] == 2


def test_renewal_is_due_at_three_quarters(session: Session, service: Service, clock: Clock) -> None:
    clock.now += 2699
    session.renew_if_due()
    assert service.runs == 1
    clock.now += 1
    session.renew_if_due()
    assert service.runs == 2
    assert session.current().mesh_ca[-1] == 2
    assert session.seconds_left() == LIFETIME_SECONDS


def test_an_absent_service_does_not_end_it(
    session: Session, service: Service, clock: Clock, lines: list[str]
) -> None:
    service.error = AWAY
    clock.now += 2700
    session.renew_if_due()
    assert session.current().mesh_ca[-1] == 1
    assert len(lines) == 1 and "nobody there" in lines[0]
    clock.now += 900
    refused(session)


def test_a_failed_check_ends_it_at_once(
    session: Session, service: Service, clock: Clock, lines: list[str]
) -> None:
    service.error = FAILED
    clock.now += 2700
    session.renew_if_due()
    assert session.seconds_left() == 0
    assert "PCR 4" in refused(session).seen
    assert "PCR 4" in lines[0]


def test_it_comes_back_by_itself(
    session: Session, service: Service, clock: Clock, lines: list[str]
) -> None:
    service.error = FAILED
    clock.now += LIFETIME_SECONDS
    refused(session)
    service.error = None
    clock.now += RETRY_SECONDS
    assert session.current()
    assert lines[-1] == "verified again"


def test_requests_do_not_hammer_a_failing_service(
    session: Session, service: Service, clock: Clock
) -> None:
    service.error = AWAY
    clock.now += LIFETIME_SECONDS
    for _ in range(10):
        refused(session)
    assert service.runs == 2
    clock.now += RETRY_SECONDS
    refused(session)
    assert service.runs == 3


def test_another_mesh_is_verified_at_once(session: Session, service: Service) -> None:
    stale = session.current()
    assert session.again(stale)
    assert session.current().mesh_ca == b"\x02"
    assert session.again(stale), "another request has verified it"
    assert service.runs == 2


def test_who_shows_strangers_costs_one_handshake_in_a_while(
    session: Session, service: Service, clock: Clock
) -> None:
    assert session.again(session.current())
    assert not session.again(session.current())
    assert service.runs == 2
    clock.now += AGAIN_SECONDS
    assert session.again(session.current())
    assert service.runs == 3


def test_strangers_without_a_coordinator_change_nothing(session: Session, service: Service) -> None:
    service.error = AWAY
    stale = session.current()
    assert not session.again(stale)
    assert session.current() is stale


def test_strangers_whose_coordinator_does_not_pass_end_it(
    session: Session, service: Service
) -> None:
    service.error = FAILED
    assert session.again(session.current())
    with pytest.raises(UnavailableError, match="not verified"):
        session.current()


def test_time_asleep_counts() -> None:
    """The default clock is the one that goes on while a laptop sleeps."""
    import time

    from confide.net.boot_clock import boot_seconds

    assert abs(boot_seconds() - time.clock_gettime(time.CLOCK_BOOTTIME)) < 1


class Silent:
    """Stands for a handshake with a gateway that says nothing until it is let go."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self.began = threading.Semaphore(0)
        self.let_go = threading.Event()

    def __call__(self) -> Established:
        self.began.release()
        assert self.let_go.wait(20)
        return self._service()


def test_a_renewal_that_hangs_stops_nobody(
    session: Session, service: Service, clock: Clock
) -> None:
    """The old state stands, and no lock is held."""
    silent = session._handshake = Silent(service)
    clock.now += 2700
    renewal = threading.Thread(target=session.renew_if_due)
    renewal.start()
    assert silent.began.acquire(timeout=10)
    assert session.current().mesh_ca[-1] == 1
    assert session.seconds_left() == 900
    silent.let_go.set()
    renewal.join()
    assert session.current().mesh_ca[-1] == 2


@pytest.mark.parametrize("error", [None, AWAY, FAILED])
def test_many_requests_wait_for_one_handshake(
    session: Session, service: Service, clock: Clock, error: ConfideError | None
) -> None:
    """Each of them gets its result, and the next one begins anew."""
    silent = session._handshake = Silent(service)
    clock.now += LIFETIME_SECONDS
    service.error = error
    ended: list[object] = []

    def ask() -> None:
        try:
            ended.append(session.current().mesh_ca)
        except UnavailableError as refused:
            ended.append(refused.seen)

    requests = [threading.Thread(target=ask) for _ in range(20)]
    for request in requests:
        request.start()
    assert silent.began.acquire(timeout=10)
    assert not silent.began.acquire(timeout=0.2), "two handshakes at once"
    assert session.seconds_left() == 0  # health is answered meanwhile
    silent.let_go.set()
    for request in requests:
        request.join()
    assert service.runs == 2
    assert ended == [bytes([2]) if error is None else str(error)] * 20
    clock.now += LIFETIME_SECONDS
    service.error = None
    assert session.current().mesh_ca[-1] == 3


def test_a_defect_in_a_handshake_does_not_stop_the_next_one(
    session: Session, service: Service, clock: Clock
) -> None:
    session._handshake = Mock(side_effect=RuntimeError)
    clock.now += LIFETIME_SECONDS
    with pytest.raises(RuntimeError):
        session.current()
    session._handshake = service
    assert session.current().mesh_ca[-1] == 2
