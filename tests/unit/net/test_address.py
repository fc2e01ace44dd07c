"""Addresses that a person gives: each one works in every client, or is refused with a reason."""

from __future__ import annotations

import pytest

from confide.errors import ConfigError, UnavailableError
from confide.net.address import is_port, source_of, split_base_url
from confide.net.calls import Caller
from confide.net.http_client import Upstream
from confide.net.server import listen_on

UNUSABLE = [
    "",
    "http://",
    "http://[::1",
    "http://[x]:1",
    "http://*.example:1",
    "http://.example:1",
    "http://a..b:1",
    f"http://{'a' * 64}:1",
    f"http://{'a.' * 127}:1",
    "http://a b:1",
    "http://a\0b:1",
    "http://\u2100:1",
    "http://\udcff:1",
    "http://b\u00fccher.example:1",
    "http://127.0.0.1:99999",
    "http://127.0.0.1:" + "1" * 5000,
    "http://user@127.0.0.1:1",
    "ftp://127.0.0.1:1",
]


@pytest.mark.parametrize("url", UNUSABLE, ids=ascii)
def test_an_address_that_no_client_can_use_is_refused(url: str) -> None:
    with pytest.raises(ConfigError) as caught:
        split_base_url(url)
    assert caught.value.code == "bad-url"
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "LOCALHOST.", "[::1]"])
@pytest.mark.parametrize("client", [Caller, Upstream])
def test_what_passes_is_an_address_for_both_clients(
    client: type[Caller] | type[Upstream], host: str
) -> None:
    with pytest.raises(UnavailableError):
        client(f"http://{host}:1").call("GET", "/")


@pytest.mark.parametrize("name", ["xn--bcher-kva.example", "my_service", "a-b.c", "192.0.2.1"])
def test_names_as_networks_have_them(name: str) -> None:
    assert split_base_url(f"https://{name}").hostname == name


@pytest.mark.parametrize(
    "address", ["a..b:80", f"{'a' * 70}:80", "a\0b:80", "\udcff:80"], ids=ascii
)
def test_a_host_that_cannot_be_a_name_is_no_place_to_listen(address: str) -> None:
    with pytest.raises(ConfigError) as caught:
        listen_on(address)
    assert caught.value.code == "cannot-listen"


def test_ports() -> None:
    assert all(map(is_port, ("1", "80", "65535")))
    refused = ("", "0", "65536", "-1", "+1", " 1", "1\n", "\u0661", "\u00b2", "9" * 5000)
    assert not any(map(is_port, refused))


@pytest.mark.parametrize(
    ("address", "source"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("2001:db8::1", "2001:db8::/64"),
        ("2001:db8::ffff:ffff:ffff:ffff", "2001:db8::/64"),
        ("2001:db8:0:1::1", "2001:db8:0:1::/64"),
        ("", ""),
        ("a socket", "a socket"),
    ],
)
def test_whom_to_count(address: str, source: str) -> None:
    assert source_of(address) == source
