"""The config disk: the only thing a host may tell a guest. Hostile input.

Its content can send a guest to the wrong peer, which makes it useless; the peer still has to prove
who it is, so it cannot make the guest unsafe.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from confide.encoding.canonical import Json, json_decode, json_encode
from confide.encoding.fields import Fields
from confide.errors import FormatError

FORMAT = "confide-config/1"
SERIAL = "confide-config"
DISK_SIZE = 65536

_URL = re.compile(r"(https?)://([a-z0-9](?:[a-z0-9.-]{0,252}))(?::([1-9][0-9]{0,4}))?")


@dataclass(frozen=True)
class ConfigDisk:
    """64 KiB: canonical JSON, then NUL bytes.

    `coordinator` is an http and `secret_service` an https base URL without a path (empty for a role
    that has no secret service to talk to); `models` are the names a worker is asked to serve.
    """

    coordinator: str
    secret_service: str = ""
    models: tuple[str, ...] = ()

    def encode(self) -> bytes:
        """The whole disk: 65,536 bytes. Raises FormatError if it does not fit or is invalid."""
        value: dict[str, Json] = {
            "format": FORMAT,
            "coordinator": self.coordinator,
            "secret_service": self.secret_service,
            "models": list(self.models),
        }
        data = json_encode(value).ljust(DISK_SIZE, b"\0")
        ConfigDisk.parse(data)
        return data

    @classmethod
    def parse(cls, data: bytes) -> ConfigDisk:
        """Read a whole disk. Raises FormatError for anything but exactly this."""
        if len(data) != DISK_SIZE:
            raise FormatError(
                "bad-config",
                "the config disk has the wrong size",
                expected=f"{DISK_SIZE} bytes",
                seen=f"{len(data)} bytes",
            )
        what = "config disk"
        fields = Fields(json_decode(data.rstrip(b"\0"), what=what, limit=DISK_SIZE), what)
        fields.text("format", one_of=(FORMAT,))
        config = cls(
            coordinator=_url(fields.text("coordinator"), "http", "coordinator"),
            secret_service=fields.text("secret_service"),
            models=fields.names("models", max_items=16),
        )
        fields.done()
        if config.secret_service:
            _url(config.secret_service, "https", "secret_service")
        return config


def _url(text: str, scheme: str, name: str) -> str:
    match = _URL.fullmatch(text)
    if match is None or match[1] != scheme or int(match[3] or 80) > 65535:
        raise FormatError(
            "bad-config",
            f"the config disk's {name} is not a base URL",
            expected=f"{scheme}://HOST[:PORT]",
            seen=ascii(text[:80]),
        )
    return text
