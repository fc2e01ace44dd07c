"""Addresses of HTTP peers."""

from __future__ import annotations

from urllib.parse import SplitResult, urlsplit

from confide.errors import ConfigError


def split_base_url(url: str) -> SplitResult:
    """The parts of ``http://host:port`` or ``https://host:port``; the port may be left out.

    Raises ConfigError "bad-url" for anything else, such as a path, a query or a user.
    """
    parts = urlsplit(url)
    try:
        good = parts.port != 0
    except ValueError:
        good = False
    if (
        not good
        or parts.scheme not in ("http", "https")
        or not parts.hostname
        or parts.username is not None
        or parts.path.rstrip("/")
        or parts.query
        or parts.fragment
    ):
        raise ConfigError(
            "bad-url",
            "the address of a peer is not usable",
            expected="http://HOST:PORT or https://HOST:PORT without a path",
            seen=url,
        )
    return parts
