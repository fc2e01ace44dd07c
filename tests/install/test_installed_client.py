"""What pip installs works: each command, and the whole path from an app to the (FAKE) engine."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from tests.support.app import ANSWER, App
from tests.support.installed import Installed
from tests.support.native_service import NativeService
from tests.support.programs import free_port
from tests.support.site_manifest import site_manifest


@pytest.mark.parametrize(
    "command",
    [
        ["confide", "--help"],
        ["confide", "verify", "--help"],
        ["confide", "proxy", "--help"],
        ["confide", "trust", "--help"],
        ["confide", "manifest", "show", "--help"],
        ["confide", "collateral", "--help"],
        ["python3", "-m", "measure", "--help"],
    ],
    ids=" ".join,
)
def test_a_command_starts(installed: Installed, command: list[str]) -> None:
    ended = installed.run(*command)
    assert ended.returncode == 0, ended.stderr
    assert "usage" in ended.stdout


def test_it_is_small_and_holds_the_release(installed: Installed, tmp_path: Path) -> None:
    assert not (installed.folder / "pynvml.py").exists()
    release = installed.folder / "confide/client/release"
    shown = installed.run("confide", "manifest", "show", str(release / "development.json"))
    assert shown.returncode == 0, shown.stderr
    assert "mode     development" in shown.stdout
    made = tmp_path / "manifest.json"
    built = installed.run(
        "confide", "manifest", "build", "--references", str(release / "references.json"),
        "--policy", str(release / "policy.json"), "--insecure-any-platform",
        "--role", "coordinator", "secret-service", "-o", str(made),
    )  # fmt: skip
    assert built.returncode == 0, built.stderr
    shown = installed.run("confide", "manifest", "show", str(made))
    assert "opt-out  insecure_any_platform" in shown.stdout
    for package in ("confide", "measure"):
        assert (installed.folder / package / "py.typed").exists()


def test_the_proxy_trusts_nothing_by_itself(installed: Installed, tmp_path: Path) -> None:
    """Nothing answers at this address: with a manifest it gets as far as asking."""
    proxy = ["confide", "proxy", "--gateway", f"http://127.0.0.1:{free_port()}"]
    proxy += ["--listen", f"127.0.0.1:{free_port()}"]
    ended = installed.run(*proxy)
    assert ended.returncode == 2
    assert "no-manifest" in ended.stderr
    ended = installed.run(*proxy, "--development")
    assert ended.returncode == 1
    assert "peer-unreachable" in ended.stderr
    # A site's manifest, held against the references in the package.
    manifest = tmp_path / "site.json"
    manifest.write_bytes(site_manifest())
    assert installed.run("confide", "trust", str(manifest)).returncode == 0
    ended = installed.run(*proxy)
    assert installed.run("confide", "trust", "--forget").returncode == 0
    assert ended.returncode == 1
    assert "peer-unreachable" in ended.stderr


def test_the_public_face_of_the_verifier_imports(installed: Installed) -> None:
    ended = installed.run("python3", "-c", "import confide.verify as v; assert v.__all__")
    assert ended.returncode == 0, ended.stderr


def test_measure_reads_an_event_log(installed: Installed, vectors: Path) -> None:
    log = vectors / "go-eventlog/ubuntu-2104-no-secure-boot.bin"
    ended = installed.run("python3", "-m", "measure", "eventlog", str(log))
    assert ended.returncode == 0, ended.stderr
    assert "sha256  7 " in ended.stdout


@pytest.mark.parametrize("machine", ["linux", "elsewhere"])
def test_verify_and_proxy(installed: Installed, machine: str, tmp_path: Path) -> None:
    environment = installed.environment if machine == "linux" else installed.elsewhere
    with NativeService(tmp_path) as service:
        gateway = service.start_gateway()
        manifest = tmp_path / "manifest.json"
        manifest.write_bytes(service.manifest)
        command = ["confide", "verify", gateway, "--manifest", str(manifest), "--development"]
        command += ["--json"]
        ended = subprocess.run(
            command, env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=60
        )
        assert ended.returncode == 0, ended.stdout + ended.stderr
        assert json.loads(ended.stdout)["passed"] is True

        port = free_port()
        command = ["confide", "proxy", "--gateway", gateway, "--manifest", str(manifest)]
        command += ["--development"]
        with (tmp_path / "proxy.log").open("wb") as log:
            process = subprocess.Popen(
                [*command, "--listen", f"127.0.0.1:{port}"],
                env=environment,
                cwd=tmp_path,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        app = App(service.adopt("proxy", process, port))
        service.wait("proxy", "ready")
        assert app.ask() == ANSWER
        assert "".join(app.stream()) == ANSWER
