"""The config disk is written by the host: anything but exactly one form is refused."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from confide.encoding.canonical import json_encode
from confide.errors import FormatError
from confide.protocol.configdisk import DISK_SIZE, ConfigDisk

BINDING = bytes(range(32))
GOOD: dict[str, Any] = {
    "format": "confide-config/3",
    "manifest_sha256": BINDING.hex(),
    "coordinator": "http://10.0.2.2:8000",
    "secret_services": ["https://secrets.example.test:8443", "https://10.0.2.2"],
    "models": ["tiny"],
}


def disk(value: Any) -> bytes:
    return json_encode(value).ljust(DISK_SIZE, b"\0")


def test_round_trip() -> None:
    services = ("https://10.0.2.2:8443",)
    config = ConfigDisk(BINDING, "http://10.0.2.2:8000", services, ("tiny", "big"))
    data = config.encode()
    assert len(data) == 65536
    assert ConfigDisk.parse(data) == config


def test_reads_the_documented_form() -> None:
    config = ConfigDisk.parse(disk(GOOD))
    assert config.manifest_sha256 == BINDING
    assert config.coordinator == "http://10.0.2.2:8000"
    assert config.secret_services == ("https://secrets.example.test:8443", "https://10.0.2.2")
    assert config.models == ("tiny",)


def test_nothing_but_the_manifest() -> None:
    """A coordinator's."""
    assert ConfigDisk.parse(ConfigDisk(BINDING).encode()) == ConfigDisk(BINDING, "", (), ())


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("format", "confide-config/1"),
        ("format", "confide-config/2"),
        ("manifest_sha256", ""),
        ("manifest_sha256", None),
        ("manifest_sha256", "00" * 31),
        ("manifest_sha256", "00" * 33),
        ("manifest_sha256", "AB" * 32),
        ("coordinator", "https://10.0.2.2:8000"),
        ("coordinator", "http://10.0.2.2:0"),
        ("coordinator", "http://10.0.2.2:65536"),
        ("coordinator", "http://10.0.2.2:99999999"),
        ("coordinator", "http://10.0.2.2:8000/"),
        ("coordinator", "http://10.0.2.2:8000/v1"),
        ("coordinator", "http://user@10.0.2.2"),
        ("coordinator", "http://10.0.2.2\n"),
        ("coordinator", "http://10.0.2.2 x"),
        ("coordinator", "http://10.0.2.2?x"),
        ("coordinator", "http://[::1]"),
        ("coordinator", "file:///etc/passwd"),
        ("coordinator", "http://"),
        ("coordinator", "http://" + "a" * 300),
        ("coordinator", None),
        ("secret_services", "https://10.0.2.2:8443"),
        ("secret_services", ["http://10.0.2.2:8443"]),
        ("secret_services", [""]),
        ("secret_services", ["https://a", "https://a"]),
        ("secret_services", [f"https://a{index}" for index in range(9)]),
        ("secret_services", None),
        ("models", "tiny"),
        ("models", ["../tiny"]),
        ("models", ["a", "a"]),
        ("models", [f"m{index}" for index in range(17)]),
        ("command_line", "init=/bin/sh"),
    ],
)
def test_refuses(field: str, value: Any) -> None:
    with pytest.raises(FormatError):
        ConfigDisk.parse(disk({**GOOD, field: value}))


@pytest.mark.parametrize("field", GOOD)
def test_every_field_is_required(field: str) -> None:
    with pytest.raises(FormatError):
        ConfigDisk.parse(disk({k: v for k, v in GOOD.items() if k != field}))


def test_other_bytes() -> None:
    data = json_encode(GOOD)
    for other in (
        bytes(DISK_SIZE),
        data,
        data.ljust(DISK_SIZE - 1, b"\0"),
        data.ljust(DISK_SIZE + 1, b"\0"),
        data.ljust(DISK_SIZE, b" "),
        (data + b"\0x").ljust(DISK_SIZE, b"\0"),
        (b"\0" + data).ljust(DISK_SIZE, b"\0"),
        json.dumps(GOOD).encode().ljust(DISK_SIZE, b"\0"),
    ):
        with pytest.raises(FormatError):
            ConfigDisk.parse(other)


def test_encode_refuses_what_parse_refuses() -> None:
    with pytest.raises(FormatError):
        ConfigDisk(BINDING, "https://wrong-scheme").encode()
    with pytest.raises(FormatError):
        ConfigDisk(BINDING, "http://a", (), ("x",) * 2).encode()
    with pytest.raises(FormatError):
        ConfigDisk(BINDING[1:]).encode()


@given(st.binary(max_size=300))
def test_random_disks_raise_our_errors_only(data: bytes) -> None:
    with pytest.raises(FormatError):
        ConfigDisk.parse(data.ljust(DISK_SIZE, b"\0"))
