"""What `confide demo` prints, with a SIMULATED service in place of the machines."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest

from confide.commands import demo
from confide.commands.cli import main
from confide.commands.status import ExitStatus
from tests.support.native_service import NativeService
from tests.support.programs import free_port

COLUMNS, LINES = 80, 24


@pytest.fixture
def run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., list[str]]:
    """Runs the demo in a terminal of 80 columns; gives the lines that it printed."""
    (tmp_path / "model.json").write_text('{"name": "tiny"}')
    monkeypatch.setenv("COLUMNS", str(COLUMNS))
    monkeypatch.setattr("confide.commands.demo.Tools.find", lambda: None)

    @contextmanager
    def system(_: object, run_dir: Path, progress: Callable[[str], None]) -> Iterator[object]:
        with NativeService(tmp_path) as native:
            bound = f"each machine's evidence: bound to manifest {'0' * 16}…"
            for line in ("coordinator: verified, has the manifest", "b: ready", "c: ready", bound):
                progress(line)

            def program(name: str, url: str) -> SimpleNamespace:
                return SimpleNamespace(url=url, log=tmp_path / f"{name}.log")

            yield SimpleNamespace(
                start_gateway=lambda: program("gateway", native.start_gateway()),
                start_proxy=lambda gateway, listen, options: program(
                    "proxy", native.start_proxy(gateway, options=options)
                ),
            )

    monkeypatch.setattr(demo, "System", system)

    def start(*options: str) -> list[str]:
        built = [f"--{name}={tmp_path}" for name in demo.BUILD_OUTPUTS]
        listen = f"127.0.0.1:{free_port()}"
        argv = ["demo", *built, "--run-dir", str(tmp_path), "--listen", listen, *options]
        assert main(argv) == ExitStatus.PASSED
        return capsys.readouterr().out.splitlines()

    return start


def test_it_fits_a_screen(run: Callable[..., list[str]], monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(signal, "pause", interrupted)
    lines = run()
    # The command to copy is one line, which the terminal folds.
    shown = sum(max(1, -(-len(line) // COLUMNS)) for line in lines)
    assert shown <= LINES, "\n".join(lines)
    text = "\n".join(lines)
    for party in ("coordinator", "secret services", "workers", "gateway"):
        assert f"\n {party} " in text
    assert "PCR" not in text
    assert "Who can read this question?" in text
    assert any(line.startswith("Seconds: boot ") for line in lines)
    assert "Ctrl-C" in text


def test_every_check_on_request(run: Callable[..., list[str]]) -> None:
    text = "\n".join(run("--once", "--verbose"))
    assert "PCR 11" in text
    assert "Ctrl-C" not in text
