"""The operator hears of a machine whose clock drifts, whatever a machine says."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import pytest

from confide.host.gateway.app import create_app
from confide.host.gateway.clocks import WARN_SECONDS, Clocks
from confide.host.gateway.routing import Workers
from confide.host.gateway.secret_services import SecretServices
from confide.net.http_client import Upstream
from tests.support.programs import free_port
from tests.support.simulated_machine import NOW, Clock

URL = "http://127.0.0.1:1"


@contextmanager
def machine(stated: list[str]) -> Iterator[str]:
    """One that states the last of these as its `Date`."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response_only(200)
            self.send_header("Date", stated[-1])
            self.send_header("Content-Length", "0")
            self.end_headers()

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


def date(ahead: float) -> str:
    return formatdate(NOW + ahead, usegmt=True)


def test_what_a_machine_states_and_what_its_operator_hears(
    capsys: pytest.CaptureFixture[str],
) -> None:
    stated = [date(-3)]
    with machine(stated) as url:
        clocks = Clocks({"coordinator": url, "worker-1": URL}, now=Clock())
        clocks.look()
        assert clocks.skew() == {"coordinator": -3}
        assert capsys.readouterr().err == ""
        stated.append(date(WARN_SECONDS))
        clocks.look()
        clocks.look()
        said = capsys.readouterr().err
        assert said.count("\n") == 1
        assert f"the clock of coordinator ({url}) is 60 s ahead; at 300 s it is refused" in said
        stated.append(date(-1))
        clocks.look()
        assert capsys.readouterr().err.endswith("is 1 s behind\n")


@pytest.mark.parametrize(
    "odd",
    ["", "yesterday", "Thu, 01 Jan 1970", "Mon, 99 Foo 99999 99:99:99 GMT", "1" * 5000, "\x1b[2J"],
)
def test_an_odd_date_says_nothing_and_ends_nothing(
    capsys: pytest.CaptureFixture[str], odd: str
) -> None:
    stated = [odd]
    with machine(stated) as url:
        clocks = Clocks({"worker-1": url}, now=Clock())
        clocks.look()
        assert (clocks.skew(), capsys.readouterr().err) == ({}, "")
        stated.append(date(7))
        clocks.look()
        assert clocks.skew() == {"worker-1": 7}


def test_the_gateway_s_health_has_it() -> None:
    stated = [date(42)]
    with machine(stated) as url:
        clocks = Clocks({"coordinator": url}, now=Clock())
        clocks.start()
        deadline = time.monotonic() + 10
        while not clocks.skew() and time.monotonic() < deadline:
            time.sleep(0.01)
        clocks.stop()
    nowhere = f"http://127.0.0.1:{free_port()}"
    app = create_app(
        coordinator=Upstream(nowhere),
        secret_services=SecretServices([nowhere]),
        workers=Workers([]),
        access=None,
        clock_skew=clocks.skew,
    )
    health = app.test_client().get("/healthz").get_json()
    assert health["clock_skew"] == {"coordinator": 42}
