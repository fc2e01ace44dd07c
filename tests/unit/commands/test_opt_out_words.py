"""A client takes a manifest with opt-outs only with the same words, and shows them everywhere.

And it takes no manifest that has expired.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from confide.commands.cli import main
from confide.commands.status import ExitStatus
from confide.encoding.canonical import json_encode
from confide.encoding.messages import to_map
from tests.support.native_service import NativeService
from tests.support.programs import free_port
from tests.support.simulated_gpu import policy
from tests.support.simulated_machine import current_manifest, manifest_value

PASSED, FAILED, USAGE, _ = ExitStatus
DAY = 86400
OPT_OUT = "insecure_accept_unstated_mode"
WORD = "--insecure-accept-unstated-mode"


def with_opt_out() -> bytes:
    """The simulated manifest with a role that leaves something unchecked."""
    roles = manifest_value()["roles"]
    gpus: dict[str, Any] = to_map(policy()) | {"opt_outs": [OPT_OUT]}
    return current_manifest(roles=roles | {"worker-gpu": roles["worker-cpu"] | {"gpus": gpus}})


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NativeService]:
    with NativeService(tmp_path_factory.mktemp("service"), manifest=with_opt_out()) as native:
        native.start_gateway()
        (native.folder / "manifest.json").write_bytes(native.manifest)
        yield native


def test_each_command_needs_the_word(
    service: NativeService, capsys: pytest.CaptureFixture[str]
) -> None:
    manifest = ["--manifest", str(service.folder / "manifest.json")]
    gateway = service.urls["gateway"]
    listen = ["--listen", f"127.0.0.1:{free_port()}"]
    for command in (
        ["verify", gateway, "--development", *manifest],
        ["set", "--coordinator", service.urls["coordinator"], *manifest],
        ["proxy", "--gateway", gateway, *listen, "--development", *manifest],
    ):
        assert main(command) == FAILED, command
        said = capsys.readouterr().err
        assert "opt-out-not-given" in said and WORD in said
        assert main([*command, "--insecure-any-chip"]) == FAILED, "another word"
        capsys.readouterr()


def test_verify_and_set_show_it(service: NativeService, capsys: pytest.CaptureFixture[str]) -> None:
    manifest = ["--manifest", str(service.folder / "manifest.json"), WORD]
    coordinator = ["--coordinator", service.urls["coordinator"]]
    proof = str(service.folder / "proof")
    verify = ["verify", service.urls["gateway"], "--development", "--save", proof]
    for command in (verify, ["set", *coordinator], ["verify", proof, "--development"]):
        assert main([*command, *manifest]) == PASSED
        assert OPT_OUT in capsys.readouterr().out
        assert main([*command, *manifest, "--json"]) == PASSED
        assert json.loads(capsys.readouterr().out)["opt_outs"] == [OPT_OUT]


def test_the_proxy_shows_it_at_its_start_and_in_its_health(service: NativeService) -> None:
    url = service.start_proxy(service.urls["gateway"], options=[WORD])
    assert f"NOT CHECKED, because the manifest says so: {OPT_OUT}" in service.log("proxy")
    health = requests.get(f"{url}/healthz", timeout=10).json()
    assert health["opt_outs"] == [OPT_OUT]
    assert health["manifest_expires"] > time.time()


def written(tmp_path: Path, *, released: int, expires: int) -> str:
    """A manifest of these times, in seconds from now."""
    value = json.loads(current_manifest())
    now = int(time.time())
    path = tmp_path / "manifest.json"
    path.write_bytes(json_encode(value | {"released": now + released, "expires": now + expires}))
    return str(path)


@pytest.mark.parametrize(
    ("released", "expires", "code"),
    [
        (-10 * DAY, -1, "manifest-expired"),
        (2 * DAY, 3 * DAY, "manifest-not-valid-yet"),
    ],
)
def test_a_manifest_that_is_not_valid_now(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], released: int, expires: int, code: str
) -> None:
    """No peer is asked: at this address nobody answers."""
    peer = f"http://127.0.0.1:{free_port()}"
    manifest = ["--manifest", written(tmp_path, released=released, expires=expires)]
    listen = ["--listen", f"127.0.0.1:{free_port()}"]
    for command in (
        ["verify", peer, "--development"],
        ["proxy", "--gateway", peer, "--development", *listen],
        ["set", "--coordinator", peer],
    ):
        assert main([*command, *manifest]) == FAILED
        printed = capsys.readouterr()
        assert f"confide: {code}: " in printed.err and "; next: " in printed.err


def test_the_end_is_announced(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    manifest = ["--manifest", written(tmp_path, released=-10 * DAY, expires=5 * DAY + 60)]
    peer = f"http://127.0.0.1:{free_port()}"
    assert main(["verify", peer, "--development", *manifest]) == FAILED
    assert "the manifest expires in 5 days" in capsys.readouterr().err
    proxy = ["proxy", "--gateway", peer, "--development", "--listen", "127.0.0.1:0"]
    assert main([*proxy, *manifest]) != PASSED


def test_a_saved_proof_is_judged_at_its_own_time_or_at_another(
    service: NativeService, capsys: pytest.CaptureFixture[str]
) -> None:
    proof = str(service.folder / "saved")
    manifest = ["--manifest", str(service.folder / "manifest.json"), "--development", WORD]
    assert main(["verify", service.urls["gateway"], *manifest, "--save", proof]) == PASSED
    capsys.readouterr()
    later = str(int(time.time()) + 200 * DAY)
    assert main(["verify", proof, *manifest, "--json", "--at", later]) == FAILED
    checks = {check["name"]: check for check in json.loads(capsys.readouterr().out)["checks"]}
    assert not checks["manifest validity"]["passed"]
    assert checks["manifest validity"]["seen"].startswith("manifest-expired")
