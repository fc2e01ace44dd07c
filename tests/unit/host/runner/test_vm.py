"""A machine that does not come up leaves one clear error, its logs and no process."""

from __future__ import annotations

import http.server
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path

import pytest

from confide.commands.cli import main
from confide.errors import ConfigError, FormatError, UnavailableError
from confide.host.runner import vm
from confide.host.runner.qemu import Tools
from confide.host.runner.vm import Machine
from confide.protocol.configdisk import ConfigDisk
from confide.protocol.launch import UNBOUND
from tests.support.fake_tools import MakeTools
from tests.support.simulated_machine import manifest_bytes


def machine(image: Path, tools: Tools, **options: object) -> Machine:
    run_dir = image.parent / "run"
    options = {"config": ConfigDisk(bytes(32))} | options
    return Machine(image, "coordinator", run_dir=run_dir, tools=tools, **options)  # type: ignore[arg-type]


def copy_config(image: Path) -> str:
    """A script for the stand-in for QEMU: keep a copy of the config disk, if there is one."""
    pick = 'case $word in *id=config,*) cp "${word##*file=}"'
    return f'for word in "$@"; do {pick} {image}/copy ;; esac; done'


@contextmanager
def service(port: int, answers: list[tuple[int, bytes]]) -> Iterator[None]:
    """What a guest would answer on /healthz; the last answer is repeated."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, body = answers.pop(0) if len(answers) > 1 else answers[0]
            self.send_response(status)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = http.server.HTTPServer(("127.0.0.1", port), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_missing_disk(tmp_path: Path, make_tools: MakeTools) -> None:
    with pytest.raises(ConfigError, match=r"disk\.raw"), machine(tmp_path / "none", make_tools()):
        pass


def test_missing_model_disk(image: Path, make_tools: MakeTools) -> None:
    with (
        pytest.raises(ConfigError, match="model"),
        machine(image, make_tools(), model_disks=[image / "model.disk"]),
    ):
        pass


@pytest.mark.parametrize(
    "config",
    [
        ConfigDisk(bytes(31)),
        ConfigDisk(bytes(32), "ftp://10.0.2.2"),
        ConfigDisk(bytes(32), "http://10.0.2.2:1", models=("not a name",)),
    ],
)
def test_bad_config(image: Path, make_tools: MakeTools, config: ConfigDisk) -> None:
    with pytest.raises(FormatError):
        machine(image, make_tools(), config=config)


@pytest.mark.parametrize("config", [ConfigDisk(bytes(range(32)), "http://10.0.2.2:1"), None])
def test_the_config_disk_that_the_machine_gets(
    image: Path, make_tools: MakeTools, no_tpm: None, config: ConfigDisk | None
) -> None:
    qemu = f"{copy_config(image)}; exec sleep 100"
    with machine(image, make_tools(qemu=qemu, swtpm="exec sleep 100"), config=config) as booted:
        deadline = time.monotonic() + 2 if config is None else time.monotonic() + 20
        while not (image / "copy").exists() and time.monotonic() < deadline:
            time.sleep(0.05)
        ran = booted.running
    assert ran
    assert (image / "copy").exists() == (config is not None)
    if config is not None:
        assert ConfigDisk.parse((image / "copy").read_bytes()) == config


@pytest.mark.parametrize(
    ("kvm", "cpus", "expected"), [(False, None, "1"), (True, None, "2"), (False, 3, "3")]
)
def test_how_many_processors_a_coordinator_gets(
    image: Path,
    make_tools: MakeTools,
    no_tpm: None,
    monkeypatch: pytest.MonkeyPatch,
    kvm: bool,
    cpus: int | None,
    expected: str,
) -> None:
    monkeypatch.setattr(vm, "kvm_works", lambda _: kvm)
    qemu = f'echo "$@" >{image}/words.new; mv {image}/words.new {image}/words; exec sleep 100'
    with machine(image, make_tools(qemu=qemu, swtpm="exec sleep 100"), cpus=cpus):
        deadline = time.monotonic() + 20
        while not (image / "words").exists() and time.monotonic() < deadline:
            time.sleep(0.05)
    assert f" -smp {expected} " in (image / "words").read_text()


def test_the_worker_s_engine_has_two_processors_at_least() -> None:
    assert vm.default_cpus("worker-cpu", kvm=False) >= 2


def test_tpm_that_does_not_start(
    image: Path, make_tools: MakeTools, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vm, "kvm_works", lambda _: False)
    tools = make_tools(swtpm="echo cannot >&2; exit 1")
    with pytest.raises(UnavailableError, match="software TPM") as error:
        machine(image, tools).start()
    assert error.value.code == "swtpm-failed"
    assert (image.parent / "run/swtpm.log").read_text() == "cannot\n"


def test_emulator_that_ends_is_noticed_at_once(
    image: Path, make_tools: MakeTools, no_tpm: None
) -> None:
    tools = make_tools(qemu="echo no such option >&2; exit 1", swtpm="exec sleep 100")
    with machine(image, tools) as broken:
        with pytest.raises(UnavailableError, match="no such option") as error:
            broken.wait_ready(30)
        assert error.value.code == "machine-not-ready"
        assert str(broken.console) in error.value.next


def test_time_limit_shows_the_console_without_control_sequences(
    image: Path, make_tools: MakeTools, no_tpm: None
) -> None:
    console = image.parent / "run/console.log"
    qemu = rf"printf '\033[2J\033[31mKernel \007panic\033[0m\r\n' > {console}; exec sleep 100"
    with machine(image, make_tools(qemu=qemu, swtpm="exec sleep 100")) as silent:
        with pytest.raises(UnavailableError, match="not ready after") as error:
            silent.wait_ready(1)
        assert "\nKernel panic\n" in error.value.seen
        ran = silent.running
    assert ran and not silent.running
    assert console.exists()


def test_what_the_kernel_says_of_its_end_comes_first(
    image: Path, make_tools: MakeTools, no_tpm: None
) -> None:
    console = image.parent / "run/console.log"
    said = "[ 9.3] Kernel panic - not syncing: dm-verity device corrupted"
    qemu = f"echo '{said}' > {console}; echo '[ 9.4] Call Trace:' >> {console}; exit 0"
    with machine(image, make_tools(qemu=qemu, swtpm="exec sleep 100")) as broken:
        with pytest.raises(UnavailableError) as error:
            broken.wait_ready(30)
        assert error.value.seen.startswith(f"power off: {said};")


def test_ready_once_the_service_says_so(image: Path, make_tools: MakeTools, no_tpm: None) -> None:
    answers = [
        (503, b'{"state": "starting"}'),
        (200, b"not json"),
        (200, b'{"state": "starting"}'),
        (200, b'{"role": "coordinator", "state": "no-manifest"}'),
    ]
    tools = make_tools(qemu="exec sleep 100", swtpm="exec sleep 100")
    with machine(image, tools) as booted, service(booted.port(), answers):
        assert booted.wait_ready(20) == {"role": "coordinator", "state": "no-manifest"}
        assert booted.url == f"http://127.0.0.1:{booted.port()}"
        assert booted.guest_url() == f"http://10.0.2.2:{booted.port()}"


def test_state_is_in_the_error(image: Path, make_tools: MakeTools, no_tpm: None) -> None:
    tools = make_tools(qemu="exec sleep 100", swtpm="exec sleep 100")
    with (
        machine(image, tools) as booted,
        service(booted.port(), [(503, b'{"state": "joining"}')]),
        pytest.raises(UnavailableError, match="HTTP 503, state 'joining'"),
    ):
        booted.wait_ready(1.5)


def test_given_ports_are_used(image: Path, make_tools: MakeTools, no_tpm: None) -> None:
    tools = make_tools(qemu="exec sleep 100", swtpm="exec sleep 100")
    with machine(image, tools, ports={8000: 0, 8443: 45678}) as booted:
        assert booted.port(8443) == 45678
        assert booted.port() not in (0, 45678)


def test_nothing_but_logs_is_left(
    image: Path,
    make_tools: MakeTools,
    no_tpm: None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(scratch))
    tools = make_tools(qemu="exec sleep 100", swtpm="exec sleep 100")
    with machine(image, tools) as booted:
        assert len(list(scratch.iterdir())) == 1
    assert not list(scratch.iterdir())
    booted.stop()  # again is no error


# --- the command ------------------------------------------------------------------------------


def test_command_reports_a_broken_machine(
    image: Path, make_tools: MakeTools, no_tpm: None, capsys: pytest.CaptureFixture[str]
) -> None:
    tools = make_tools(qemu="echo broken >&2; exit 1", swtpm="exec sleep 100")
    run_dir = image.parent / "run"
    argv = [str(image), "--inventory", "--tools", str(tools.folder)]
    argv += ["--run-dir", str(run_dir), "--json"]
    assert main(["run", *argv]) == 1
    error = json.loads(capsys.readouterr().out)["error"]
    assert error["code"] == "machine-not-ready"
    assert "broken" in error["seen"]


@pytest.mark.parametrize("option", ["--manifest", "--inventory"])
def test_command_binds_the_machine(
    image: Path, make_tools: MakeTools, no_tpm: None, option: str
) -> None:
    manifest = image / "manifest.json"
    manifest.write_bytes(manifest_bytes())
    given = [option, str(manifest)] if option == "--manifest" else [option]
    tools = make_tools(qemu=f"{copy_config(image)}; exit 1", swtpm="exec sleep 100")
    argv = [str(image), *given, "--coordinator", "http://10.0.2.2:1", "--tools", str(tools.folder)]
    assert main(["run", *argv, "--run-dir", str(image.parent / "run")]) == 1
    binding = sha256(manifest_bytes()).digest() if option == "--manifest" else UNBOUND
    disk = ConfigDisk.parse((image / "copy").read_bytes())
    assert disk == ConfigDisk(binding, "http://10.0.2.2:1")


@pytest.mark.parametrize(
    "given", [[], ["--manifest", "manifest.json", "--inventory"]], ids=["neither", "both"]
)
def test_command_needs_to_know_what_the_machine_is_for(image: Path, given: list[str]) -> None:
    with pytest.raises(SystemExit) as error:
        main(["run", str(image), *given])
    assert error.value.code == 2


def test_command_with_a_malformed_manifest(
    image: Path, make_tools: MakeTools, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nothing is booted for it: no client would ever take it."""
    (image / "manifest.json").write_text("{}\n")
    argv = [str(image), "--manifest", str(image / "manifest.json")]
    assert main(["run", *argv, "--tools", str(make_tools().folder), "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["error"]["code"] == "missing-field"


def test_command_takes_the_role_from_the_image(
    tmp_path: Path, make_tools: MakeTools, capsys: pytest.CaptureFixture[str]
) -> None:
    argv = [str(tmp_path), "--inventory", "--tools", str(make_tools().folder), "--json"]
    assert main(["run", *argv]) == 2
    assert json.loads(capsys.readouterr().out)["error"]["code"] == "no-role"
    (tmp_path / "role").write_text("root\n")
    assert main(["run", *argv]) == 2
    assert json.loads(capsys.readouterr().out)["error"]["seen"] == "'root'"


def test_command_with_models_but_no_coordinator(
    image: Path, make_tools: MakeTools, capsys: pytest.CaptureFixture[str]
) -> None:
    argv = [str(image), "--inventory", "--tools", str(make_tools().folder)]
    argv += ["--model", "tiny", "--json"]
    assert main(["run", *argv]) == 2
    assert json.loads(capsys.readouterr().out)["error"]["code"] == "bad-config"


@pytest.mark.parametrize("port", ["8000", "x:1", "8000:99999", "0:1"])
def test_command_refuses_bad_ports(
    image: Path, port: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as error:
        main(["run", str(image), "--inventory", "--port", port])
    assert error.value.code == 2
