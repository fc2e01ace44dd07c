"""The config disk: the only thing a host may tell a guest. Hostile input.

A false config disk can send a guest to the wrong peer, and then the guest does not work. It cannot
make the guest unsafe, because every peer has to attest itself. On a vTPM machine the disk also says
which manifest the machine is for, and the machine shows that in its evidence. A confidential VM
does not read this field: it was launched for a manifest.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Annotated

from confide.encoding.canonical import json_decode, json_encode
from confide.encoding.messages import from_map, to_map
from confide.errors import FormatError
from confide.protocol.launch import BINDING_SIZE
from measure.kinds import Definitions, Hex, Kind, ListOf, Name, Schema, Text, Word

FORMAT = "confide-config/3"
SERIAL = "confide-config"
DISK_SIZE = 65536
MAX_MODELS = 16
MAX_SECRET_SERVICES = 8

_URL = re.compile(r"(https?)://([a-z0-9](?:[a-z0-9.-]{0,252}))(?::([1-9][0-9]{0,4}))?")


@dataclass(frozen=True)
class _BaseUrl(Kind):
    """A base URL without a path, of this scheme; if `may_be_empty`, the empty text as well."""

    scheme: str
    may_be_empty: bool = False

    def decode(self, value: object, what: str) -> str:
        """Raises FormatError `bad-config` for a text that is not such a URL."""
        text: str = Text().decode(value, what)
        match = _URL.fullmatch(text)
        is_url = match is not None and match[1] == self.scheme and int(match[3] or 80) <= 65535
        if not is_url and (text or not self.may_be_empty):
            raise FormatError(
                "bad-config",
                f"{what} is not a base URL",
                expected=f"{self.scheme}://HOST[:PORT]",
                seen=ascii(text[:80]),
            )
        return text

    def schema(self, definitions: Definitions) -> Schema:
        """`string`."""
        return Text().schema(definitions)


@dataclass(frozen=True)
class ConfigDisk:
    """64 KiB: canonical JSON, then NUL bytes.

    `manifest_sha256` is the SHA-256 of the manifest that the machine is for, or zeros: it is to
    attest only. `coordinator` is an http base URL without a path, `secret_services` are https ones,
    both empty for a role that does not talk to them. `models` are the names a worker is asked to
    serve.
    """

    format: Annotated[str, Word((FORMAT,))] = field(default=FORMAT, init=False)
    manifest_sha256: Annotated[bytes, Hex(BINDING_SIZE)]
    coordinator: Annotated[str, _BaseUrl("http", may_be_empty=True)] = ""
    secret_services: Annotated[
        tuple[str, ...], ListOf(_BaseUrl("https"), MAX_SECRET_SERVICES, unique=True)
    ] = ()
    models: Annotated[tuple[str, ...], ListOf(Name(), MAX_MODELS, unique=True)] = ()

    def encode(self) -> bytes:
        """The whole disk: 65,536 bytes. Raises FormatError if it does not fit or is invalid."""
        data = json_encode(to_map(self)).ljust(DISK_SIZE, b"\0")
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
        what = "the config disk"
        return from_map(cls, json_decode(data.rstrip(b"\0"), what=what, limit=DISK_SIZE), what)
