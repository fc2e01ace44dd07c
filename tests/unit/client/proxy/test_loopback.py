"""Which addresses the proxy listens on, and which ones it answers for: one definition."""

from __future__ import annotations

import pytest

from confide.client.proxy.loopback import is_loopback, loopback_address
from confide.errors import ConfigError


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        ("127.0.0.1:8080", "127.0.0.1:8080"),
        ("127.9.9.9:1", "127.9.9.9:1"),
        ("localhost:65535", "127.0.0.1:65535"),
        ("[::1]:8080", "[::1]:8080"),
    ],
)
def test_loopback_addresses(given: str, wanted: str) -> None:
    assert loopback_address(given) == wanted
    host = wanted.rpartition(":")[0].strip("[]")
    assert is_loopback(host)


@pytest.mark.parametrize(
    "given",
    [
        "0.0.0.0:8080",
        ":8080",
        "[::]:8080",
        "192.168.1.2:8080",
        "example.org:8080",
        "127.0.0.1",
        "127.0.0.1:0",
        "127.0.0.1:65536",
        "127.0.0.1:x",
        "127.0.0.1: 80",
        "127.0.0.1:" + "1" * 5000,
        "8080",
        "",
    ],
)
def test_everything_else_is_refused(given: str) -> None:
    with pytest.raises(ConfigError, match="loopback"):
        loopback_address(given)


@pytest.mark.parametrize("host", ["", "localhost.example.org", "127.0.0.1.example.org", "0.0.0.0"])
def test_hosts_that_a_web_page_could_name(host: str) -> None:
    assert not is_loopback(host)
