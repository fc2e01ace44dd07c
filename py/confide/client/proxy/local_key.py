"""The key of the loopback proxy: who does not send it gets no answer.

Loopback is open to every user and every program of a computer. With a key, only apps that can read
one file reach the service.
"""

from __future__ import annotations

import hmac
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

from confide.encoding.files import read_own_file
from confide.errors import ConfigError, PolicyError

MAX_FILE = 4096
MIN_LENGTH = 16
OTHERS = 0o077


def read_local_key(path: Path | None) -> str:
    """The key in this file; "" without a file.

    Raises ConfigError: other users may read or write the file, it cannot be read, or it does not
    hold one line of at least `MIN_LENGTH` characters of printable ASCII without spaces.
    """
    if path is None:
        return ""
    data = read_own_file(path, "key of this proxy", MAX_FILE, forbidden=OTHERS)
    key = data.decode("ascii", "replace").strip()
    if not (key.isascii() and key.isprintable() and len(key) >= MIN_LENGTH) or " " in key:
        raise ConfigError(
            "bad-local-key",
            "the file of the proxy's own key does not hold a key",
            expected=f"one line of {MIN_LENGTH} or more printable ASCII characters without spaces",
            seen=str(path),
            next=f"openssl rand -hex 32 > {path}",
        )
    return key


def require_local_key(authorization: str, api_key: str | None, key: str) -> None:
    """Raises PolicyError `wrong-local-key` unless a header has the key; "" asks for none.

    `authorization` is the value of the header Authorization, "" if it is not there; `api_key` that
    of x-api-key, None if it is not there.
    """
    # Hashes have one size, so the time tells nothing of the key, nor of its length.
    wanted = sha256(key.encode()).digest()
    sent = [sha256(value.encode()).digest() for value in _sent(authorization, api_key)]
    found = [hmac.compare_digest(digest, wanted) for digest in sent]
    if key and not any(found):
        raise PolicyError(
            "wrong-local-key",
            "the request does not have the key of this proxy",
            expected="Authorization: Bearer KEY, or x-api-key: KEY",
            seen="another key" if found else "no key",
            next="give the app the key in the file of --local-key-file",
        )


def _sent(authorization: str, api_key: str | None) -> Iterator[str]:
    scheme, _, token = authorization.partition(" ")
    if scheme.lower() == "bearer":
        yield token.strip()
    if api_key is not None:
        yield api_key
