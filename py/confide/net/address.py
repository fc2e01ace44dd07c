"""Addresses of HTTP peers, and ports."""

from __future__ import annotations

import ipaddress
import re
from urllib.parse import SplitResult, urlsplit

from confide.errors import ConfigError

_LABEL = "[0-9A-Za-z_-]{1,63}"
_NAME = re.compile(rf"{_LABEL}(?:\.{_LABEL})*\.?")


def split_base_url(url: str) -> SplitResult:
    """The parts of ``http://host:port`` or ``https://host:port``; the port may be left out.

    Raises ConfigError "bad-url" for anything else, such as a path, a query or a user. A host is an
    IP address or a name in ASCII: whatever passes here, no HTTP client stumbles over.
    """
    try:
        parts = urlsplit(url)
        good = parts.port != 0 and _is_host(parts.hostname or "")
    except ValueError:
        good = False
    if (
        not good
        or parts.scheme not in ("http", "https")
        or parts.username is not None
        or parts.path.rstrip("/")
        or parts.query
        or parts.fragment
    ):
        raise ConfigError(
            "bad-url",
            "the address of a peer is not usable",
            expected="http://HOST:PORT or https://HOST:PORT without a path",
            seen=url if url.isprintable() else ascii(url),
        )
    return parts


def is_port(text: str) -> bool:
    """Whether a text is a number from 1 to 65535."""
    return re.fullmatch("[0-9]{1,5}", text) is not None and 0 < int(text) < 65536


def _is_host(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return len(text) < 254 and _NAME.fullmatch(text) is not None
    return True


def source_of(address: str) -> str:
    """Whom to count for an IP address: itself, or of IPv6 its network of 64 bits.

    A user with one IPv6 address usually has such a network. Other texts stay as they are.
    """
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return address
    if isinstance(parsed, ipaddress.IPv6Address):
        if parsed.ipv4_mapped is not None:
            return str(parsed.ipv4_mapped)
        return str(ipaddress.IPv6Network((int(parsed), 64), strict=False))
    return str(parsed)
