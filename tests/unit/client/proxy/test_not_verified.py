"""When verification has failed or expired the proxy refuses, says why, and sends nothing."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path

import pytest
from flask.testing import FlaskClient

from confide.client.proxy.answer import ReportedError
from confide.client.proxy.app import create_app
from confide.client.proxy.completions import Completions, GatewayRefusal
from confide.client.proxy.gateway import gateway_error
from confide.client.proxy.handshake import Established
from confide.client.proxy.session import LIFETIME_SECONDS, Session
from confide.client.receipts import ReceiptFolder, ReserveReceipt, keep_nothing
from confide.errors import ConfideError, PolicyError, UnavailableError, VerificationError
from confide.net.http_client import Upstream
from tests.support.simulated_machine import Clock
from tests.support.small_service import SmallService

CHAT = "/v1/chat/completions"
HELLO = b'{"model": "tiny", "messages": [{"role": "user", "content": "hello"}]}'
PCR_4 = VerificationError("not-verified", "the check 'PCR 4' failed")


class Lab:
    """A proxy whose handshake succeeds or fails as a test wants, and a gateway that is watched."""

    def __init__(self) -> None:
        self.service = SmallService()
        self.clock = Clock(0.0)
        self.error: ConfideError | None = None
        self.answer: ConfideError = UnavailableError("peer-lost", "the gateway is gone")
        self.sent = 0
        self.reserve: ReserveReceipt = keep_nothing
        self.session = Session(self._handshake, clock=self.clock)
        self.session.establish()
        upstream = Upstream("http://127.0.0.1:1")
        upstream.open = self._open  # type: ignore[assignment,method-assign]
        completions = Completions(
            self.session,
            upstream,
            self.service.gateway,
            reserve_receipt=lambda a: self.reserve(a),
            clock=self.service.clock,
        )
        self.manifest = self.service.manifest
        app = create_app(completions, self.session, self.manifest)
        self.http: FlaskClient = app.test_client()

    def _handshake(self) -> Established:
        if self.error is not None:
            raise self.error
        return self.service.established

    def _open(self, *_: object, **__: object) -> None:
        self.sent += 1
        raise self.answer

    def expire(self, error: ConfideError) -> None:
        self.error = error
        self.clock.now += LIFETIME_SECONDS


@pytest.fixture
def lab() -> Lab:
    return Lab()


@pytest.mark.parametrize(
    "error", [PCR_4, UnavailableError("peer-unreachable", "the gateway is away")]
)
def test_expired(lab: Lab, error: ConfideError) -> None:
    lab.expire(error)
    answer = lab.http.post(CHAT, data=HELLO)
    told = answer.get_json()["error"]
    assert (answer.status_code, told["code"]) == (503, "not-verified")
    assert error.message in told["message"]
    assert lab.sent == 0
    assert lab.http.get("/v1/models").status_code == 503
    health = lab.http.get("/healthz")
    assert (health.status_code, health.get_json()["state"]) == (503, "not-verified")


def test_failed_renewal(lab: Lab) -> None:
    lab.error = PCR_4
    lab.clock.now += 2700
    lab.session.renew_if_due()
    assert lab.http.post(CHAT, data=HELLO).status_code == 503
    assert lab.sent == 0


def test_ready(lab: Lab) -> None:
    health = lab.http.get("/healthz")
    assert health.status_code == 200
    assert health.get_json() == {
        "role": "proxy",
        "state": "ready",
        "mode": "development",
        "verified_for_seconds": LIFETIME_SECONDS,
        "manifest_expires": lab.manifest.expires,
        "opt_outs": [],
    }


@pytest.mark.parametrize(
    ("error", "status", "retry"),
    [
        (UnavailableError("peer-unreachable", "x"), 502, None),
        (UnavailableError("peer-timeout", "x"), 502, None),
        (VerificationError("bad-frame", "x"), 502, "false"),
        (ReportedError("replay", "x"), 502, None),
        (ReportedError("model-not-served", "x"), 503, None),
        (ReportedError("kem-key-gone", "x"), 503, None),
        (GatewayRefusal(401, UnavailableError("gateway-refused", "x")), 401, None),
        (GatewayRefusal(429, UnavailableError("gateway-refused", "x")), 429, None),
        (GatewayRefusal(503, UnavailableError("gateway-refused", "x")), 503, None),
        (PolicyError("too-strange", "x"), 400, None),
    ],
)
def test_statuses(lab: Lab, error: ConfideError, status: int, retry: str | None) -> None:
    lab.answer = error
    answer = lab.http.post(CHAT, data=HELLO)
    assert (answer.status_code, answer.get_json()["error"]["code"]) == (status, error.code)
    assert answer.headers.get("x-should-retry") == retry
    assert ("Retry-After" in answer.headers) == (status in (429, 503))


@pytest.mark.parametrize(
    ("given", "passed"),
    [("7", "7"), ("", "5"), ("soon", "5"), ("-1", "5"), ("1000000", "3600"), ("\u00b2", "5")],
)
def test_when_to_come_again(lab: Lab, given: str, passed: str) -> None:
    """A number of seconds only: what else a gateway writes there goes to no app."""
    lab.answer = GatewayRefusal(429, gateway_error(429, b"", "POST /x", given))
    answer = lab.http.post(CHAT, data=HELLO)
    assert (answer.status_code, answer.headers["Retry-After"]) == (429, passed)


def test_an_upload_that_breaks_off_is_not_the_app_s_fault(lab: Lab) -> None:
    """Client libraries send a 408 again, and a 400 never."""
    cut = {"CONTENT_LENGTH": "100"}
    answer = lab.http.post(CHAT, input_stream=BytesIO(HELLO), environ_overrides=cut)
    assert (answer.status_code, answer.get_json()["error"]["code"]) == (408, "incomplete-body")
    assert lab.sent == 0


def test_a_crash_says_nothing(lab: Lab, capfd: pytest.CaptureFixture[str]) -> None:
    lab.answer = RuntimeError("prompt")  # type: ignore[assignment]
    answer = lab.http.post(CHAT, data=HELLO)
    assert answer.status_code == 500
    assert "prompt" not in answer.get_data(as_text=True) + "".join(capfd.readouterr())


def test_a_manifest_that_expires_while_the_proxy_runs(lab: Lab) -> None:
    """The next renewal ends the state at once, and the app is told why."""
    lab.error = PolicyError("manifest-expired", "the manifest expired on 2027-05-27")
    lab.clock.now += 2700
    lab.session.renew_if_due()
    answer = lab.http.post(CHAT, data=HELLO)
    assert answer.status_code == 503
    assert "the manifest expired on 2027-05-27" in answer.get_json()["error"]["message"]
    assert lab.sent == 0


def test_a_receipt_that_cannot_be_kept(lab: Lab, tmp_path: Path) -> None:
    """A full disk and a folder that is gone: said by name, before the question is sent."""
    lab.reserve = ReceiptFolder(tmp_path / "receipts").reserve
    (tmp_path / "receipts").rmdir()
    answer = lab.http.post(CHAT, data=HELLO)
    error = answer.get_json()["error"]
    assert (answer.status_code, error["code"]) == (503, "receipt-not-kept")
    assert "nothing was sent" in error["message"] and str(tmp_path) in error["message"]
    assert lab.sent == 0
