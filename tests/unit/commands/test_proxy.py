"""`confide proxy`: what it refuses before it sends anything, and what it announces."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest
import requests

from confide.client.proxy.program import Settings
from confide.commands.cli import command_parser, main
from confide.commands.proxy import settings
from tests.support.native_service import NativeService
from tests.support.programs import free_port
from tests.support.simulated_machine import current_manifest


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    file = tmp_path / "manifest.json"
    file.write_bytes(current_manifest())
    return file


def parse(*options: str) -> Settings:
    return settings(command_parser("proxy").parse_args(["--gateway", "http://g", *options]))


def test_api_key_file(tmp_path: Path, manifest: Path) -> None:
    file = tmp_path / "key"
    file.write_bytes(b"abc\n")
    assert (
        parse("--development", "--manifest", str(manifest), "--api-key-file", str(file)).api_key
        == "abc"
    )
    assert parse("--development", "--manifest", str(manifest)).api_key == ""


def test_a_gateway_that_is_not_there_is_one_line(
    manifest: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    gateway = f"http://127.0.0.1:{free_port()}"
    listen = ["--listen", f"127.0.0.1:{free_port()}"]
    assert (
        main(["proxy", "--gateway", gateway, "--development", "--manifest", str(manifest), *listen])
        == 1
    )
    printed = capsys.readouterr()
    assert printed.err.startswith("confide: peer-unreachable: ") and gateway in printed.err
    assert printed.out == f"Connecting to {gateway}: at most 60 s.\n"
    assert printed.err.count("\n") == 1


@pytest.mark.parametrize(
    "gateway", ["ftp://g", "g:9000", "http://g/path", "http://u@g", "http://g:x"]
)
def test_wrong_gateway_addresses(
    manifest: Path, capsys: pytest.CaptureFixture[str], gateway: str
) -> None:
    assert main(["proxy", "--gateway", gateway, "--development", "--manifest", str(manifest)]) == 2
    assert "bad-url" in capsys.readouterr().err


def test_a_port_in_use(manifest: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It is found out before anything is verified, and nothing is announced."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        listen = f"127.0.0.1:{taken.getsockname()[1]}"
        options = ["--gateway", "http://127.0.0.1:1", "--development", "--manifest", str(manifest)]
        assert main(["proxy", *options, "--listen", listen]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("confide: cannot-listen: ") and listen in printed.err


def test_it_answers_at_the_address_that_it_announces(tmp_path: Path) -> None:
    with NativeService(tmp_path) as service:
        gateway = service.start_gateway()
        manifest = tmp_path / "manifest.json"
        manifest.write_bytes(service.manifest)
        listen = f"127.0.0.2:{free_port()}"
        options = ["--gateway", gateway, "--development", "--manifest", str(manifest)]
        options += ["--listen", listen]
        service.start("proxy", "confide", ["proxy", *options], port=1)
        service.urls["proxy"] = f"http://{listen}"
        service.wait("proxy", "ready")
        printed = service.log("proxy")
        announced = printed.split("OpenAI API: ")[1].split()[0]
        assert announced == f"http://{listen}/v1"
        for own in (announced, announced.replace("127.0.0.2", "localhost")):
            host = {"Host": own.split("/")[2]}
            answer = requests.get(f"{announced}/models", headers=host, timeout=10)
            assert [model["id"] for model in answer.json()["data"]] == ["tiny"]
        foreign = requests.get(f"{announced}/models", headers={"Host": "g.example"}, timeout=10)
        assert foreign.status_code == 403
        # One line for each party; every check only on request.
        assert "secret service" in printed and "PCR" not in printed
        assert "DEVELOPMENT manifest" in printed
        key = tmp_path / "key"
        key.write_text("k" * 32)
        key.chmod(0o600)
        listen = f"127.0.0.1:{free_port()}"
        options = [*options[:-1], listen, "--verbose", "--local-key-file", str(key)]
        service.start("verbose", "confide", ["proxy", *options], port=1)
        service.urls["verbose"] = f"http://{listen}"
        service.wait("verbose", "ready")
        assert "PCR" in service.log("verbose") and "k" * 32 not in service.log("verbose")
        for sent, status in (({}, 401), ({"x-api-key": "k" * 32}, 200)):
            answer = requests.get(f"http://{listen}/v1/models", headers=sent, timeout=10)
            assert answer.status_code == status
            assert answer.headers["x-confide-mode"] == "development"
