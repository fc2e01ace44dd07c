"""Which hosts are this computer alone: the one definition for --listen and for requests."""

from __future__ import annotations

import ipaddress

from confide.errors import ConfigError
from confide.net.address import is_port


def is_loopback(host: str) -> bool:
    """Whether a host, without port and brackets, is `localhost` or a loopback address.

    A browser never resolves an address, so a Host header with one cannot come from DNS rebinding.
    """
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def loopback_address(listen: str) -> str:
    """HOST:PORT with the host as an address.

    Raises:
        ConfigError: The host is not a loopback one, or the port is not 1 to 65535.
    """
    host, _, port = listen.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not (is_loopback(host) and is_port(port)):
        raise ConfigError(
            "not-loopback",
            "the proxy listens on loopback only, because everybody who reaches it can use it",
            expected="127.0.0.1:PORT, localhost:PORT or [::1]:PORT",
            seen=listen,
        )
    address = "127.0.0.1" if host == "localhost" else host
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"
