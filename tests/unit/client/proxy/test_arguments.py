"""The proxy's command line: what it refuses before anything is sent anywhere."""

from __future__ import annotations

from pathlib import Path

import pytest

from confide.client.proxy.__main__ import loopback, main, parse_arguments, receipt_keeper
from confide.errors import ConfigError
from tests.support.programs import free_port
from tests.support.simulated_machine import manifest_bytes


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
    assert loopback(given) == wanted


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
        "8080",
        "",
    ],
)
def test_everything_else_is_refused(given: str) -> None:
    with pytest.raises(ConfigError, match="loopback"):
        loopback(given)


def test_a_manifest_is_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CONFIDE_MANIFEST", raising=False)
    with pytest.raises(ConfigError, match="--manifest"):
        parse_arguments(["--gateway", "http://127.0.0.1:1"])


def test_the_built_in_manifest_and_another_one(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    built_in, other = tmp_path / "built-in", tmp_path / "other"
    built_in.write_bytes(b"1")
    other.write_bytes(b"2")
    monkeypatch.setenv("CONFIDE_MANIFEST", str(built_in))
    assert parse_arguments(["--gateway", "http://g"]).manifest == b"1"
    given = ["--gateway", "http://g", "--manifest", str(other)]
    assert parse_arguments(given).manifest == b"2"


@pytest.mark.parametrize("content", [b"", b"two words", b"\xff", b"x" * 5000, b"\n"])
def test_api_key_files_that_hold_none(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "key"
    file.write_bytes(content)
    given = ["--gateway", "http://g", "--manifest", __file__, "--api-key-file", str(file)]
    with pytest.raises(ConfigError):
        parse_arguments(given)


def test_api_key_file(tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_bytes(b"abc\n")
    given = ["--gateway", "http://g", "--manifest", __file__, "--api-key-file", str(file)]
    assert parse_arguments(given).api_key == "abc"


def test_a_gateway_that_is_not_there_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    manifest = tmp_path / "manifest.json"
    manifest.write_bytes(manifest_bytes())
    gateway = f"http://127.0.0.1:{free_port()}"
    assert main(["--gateway", gateway, "--manifest", str(manifest)]) == 1
    output = capsys.readouterr().out
    assert "peer-unreachable" in output and gateway in output
    assert "Traceback" not in output


@pytest.mark.parametrize(
    "gateway", ["ftp://g", "g:9000", "http://g/path", "http://u@g", "http://g:x"]
)
def test_gateway_addresses_that_are_none(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], gateway: str
) -> None:
    manifest = tmp_path / "manifest.json"
    manifest.write_bytes(manifest_bytes())
    assert main(["--gateway", gateway, "--manifest", str(manifest)]) == 1
    assert "bad-url" in capsys.readouterr().out


def test_receipts_go_to_a_folder_of_their_own(tmp_path: Path) -> None:
    folder = tmp_path / "a" / "receipts"
    receipt_keeper(folder)(bytes(32), b"receipt")
    (file,) = folder.iterdir()
    assert file.read_bytes() == b"receipt"
    assert folder.stat().st_mode & 0o077 == 0


def test_a_folder_that_cannot_be(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(ConfigError):
        receipt_keeper(tmp_path / "file" / "receipts")
