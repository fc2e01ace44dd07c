"""With a key of its own, the proxy answers only apps that send it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from flask.testing import FlaskClient

from confide.client.proxy.app import create_app
from confide.client.proxy.completions import Completions
from confide.client.proxy.gateway import Gateway
from confide.client.proxy.handshake import Established
from confide.client.proxy.local_key import MIN_LENGTH, read_local_key
from confide.client.proxy.session import LIFETIME_SECONDS, Session
from confide.client.receipts import keep_nothing
from confide.errors import ConfigError
from confide.net.calls import Caller
from confide.net.http_client import Upstream
from confide.protocol.manifest import Manifest
from tests.support.kept import NOTHING_ATTESTED
from tests.support.simulated_machine import manifest_bytes
from tests.support.site_manifest import site_manifest

KEY = "k" * MIN_LENGTH
HELLO = b'{"model": "tiny", "messages": [{"role": "user", "content": "hello"}]}'


def proxy(local_key: str = KEY, data: bytes = b"", *, is_foreign: bool = False) -> FlaskClient:
    manifest = Manifest.parse(data or manifest_bytes())
    established = Established(manifest, b"", b"", LIFETIME_SECONDS, NOTHING_ATTESTED)
    session = Session(lambda: established)
    session.establish()
    url = "http://127.0.0.1:1"
    gateway = Gateway(Caller(url), api_key="", manifest_sha256=manifest.sha256)
    completions = Completions(session, Upstream(url), gateway, reserve_receipt=keep_nothing)
    app = create_app(completions, session, manifest, is_foreign=is_foreign, local_key=local_key)
    return app.test_client()


@pytest.mark.parametrize(
    "headers",
    [
        {"Authorization": f"Bearer {KEY}"},
        {"Authorization": f"bearer  {KEY}"},
        {"x-api-key": KEY},
        {"Authorization": "Bearer unused", "x-api-key": KEY},
        {"Authorization": f"Bearer {KEY}", "x-api-key": ""},
    ],
)
def test_the_key_in_either_header(headers: dict[str, str]) -> None:
    assert proxy().get("/v1/models", headers=headers).status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Authorization": ""},
        {"Authorization": KEY},
        {"Authorization": f"Basic {KEY}"},
        {"Authorization": f"Bearer {KEY}x"},
        {"Authorization": f"Bearer {KEY[1:]}"},
        {"Authorization": "Bearer \xff\xfe"},
        {"x-api-key": ""},
        {"x-api-key": f"Bearer {KEY}"},
        {"Cookie": f"x-api-key={KEY}"},
    ],
)
@pytest.mark.parametrize("path", ["/v1/models", "/v1/chat/completions", "/v1/else", "/"])
def test_everything_else_is_401_in_the_shape_that_sdks_read(
    headers: dict[str, str], path: str
) -> None:
    """Also for paths that are not there: they tell nothing before the key."""
    http = proxy()
    answer = (
        http.post(path, data=HELLO, headers=headers)
        if "chat" in path
        else http.get(path, headers=headers)
    )
    assert answer.status_code == 401
    assert answer.headers["WWW-Authenticate"] == "Bearer"
    error = answer.get_json()["error"]
    assert error["type"] == "authentication_error" and error["code"] == "wrong-local-key"
    assert KEY not in answer.get_data(as_text=True)


def test_health_is_open_and_tells_no_secret() -> None:
    answer = proxy().get("/healthz")
    assert answer.status_code == 200
    assert KEY not in answer.get_data(as_text=True)
    assert set(answer.get_json()) == {
        "manifest_expires", "mode", "opt_outs", "role", "state", "verified_for_seconds",
    }  # fmt: skip


def test_without_a_key_nobody_is_asked_for_one() -> None:
    for headers in ({}, {"Authorization": "Bearer unused"}):
        assert proxy("").get("/v1/models", headers=headers).status_code == 200


def test_a_web_page_is_refused_before_the_key_is_looked_at() -> None:
    headers = {"Origin": "http://evil.example", "x-api-key": KEY}
    assert proxy().get("/v1/models", headers=headers).status_code == 403


def test_every_answer_says_the_mode() -> None:
    for data, mode in ((b"", "development"), (site_manifest(), "production")):
        http = proxy(data=data)
        for path in ("/healthz", "/v1/models", "/v1/else"):
            answer = http.get(path)
            assert answer.headers["x-confide-mode"] == mode
            assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert http.get("/healthz").get_json()["mode"] == mode


def test_health_shows_a_foreign_manifest_like_an_opt_out() -> None:
    assert proxy(data=site_manifest()).get("/healthz").get_json()["opt_outs"] == []
    health = proxy(data=site_manifest(), is_foreign=True).get("/healthz").get_json()
    assert health["opt_outs"] == ["insecure_foreign_measurements"]


def test_a_key_file(tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_text(f"{KEY}\n")
    for mode in (0o600, 0o400):
        file.chmod(mode)
        assert read_local_key(file) == KEY
    assert read_local_key(None) == ""


@pytest.mark.parametrize("mode", [0o604, 0o640, 0o620, 0o602, 0o644])
def test_a_key_file_that_others_can_reach(tmp_path: Path, mode: int) -> None:
    file = tmp_path / "key"
    file.write_text(KEY)
    file.chmod(mode)
    with pytest.raises(ConfigError) as caught:
        read_local_key(file)
    assert caught.value.code == "unsafe-file" and "chmod 600" in caught.value.next


def test_a_key_file_of_another_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "key"
    file.write_text(KEY)
    file.chmod(0o600)
    owner = file.stat().st_uid
    real = os.fstat

    def of_another(descriptor: int) -> os.stat_result:
        values = list(real(descriptor))
        values[4] = owner + 1000
        return os.stat_result(values)

    monkeypatch.setattr(os, "fstat", of_another)
    with pytest.raises(ConfigError) as caught:
        read_local_key(file)
    assert caught.value.code == "unsafe-file"


def test_a_pipe_in_place_of_a_key_file_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "key", 0o600)
    with pytest.raises(ConfigError) as caught:
        read_local_key(tmp_path / "key")
    assert caught.value.code == "unsafe-file"


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (b"", "bad-local-key"),
        (b"k" * (MIN_LENGTH - 1), "bad-local-key"),
        (b"k" * MIN_LENGTH + b" k", "bad-local-key"),
        (b"k" * MIN_LENGTH + b"\nk", "bad-local-key"),
        (b"k" * MIN_LENGTH + b"\xff", "bad-local-key"),
        (b"k" * 5000, "unreadable-file"),
    ],
)
def test_what_is_no_key(tmp_path: Path, content: bytes, code: str) -> None:
    file = tmp_path / "key"
    file.write_bytes(content)
    file.chmod(0o600)
    with pytest.raises(ConfigError) as caught:
        read_local_key(file)
    assert caught.value.code == code


def test_a_key_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        read_local_key(tmp_path / "key")
    assert caught.value.code == "unreadable-file"
