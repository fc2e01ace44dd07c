"""How the engine is started: with which program, arguments and environment."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest
from confide.errors import ConfigError
from confide.worker import engine
from confide.worker.models_file import ServedModel, encode_models

TINY = ServedModel("tiny", Path("/run/confide/models/tiny"), bytes(32), ("chat",))
OTHER = ServedModel("other", Path("/run/confide/models/other"), bytes(32), ("chat",))


class ExecutedError(Exception):
    """Stands for the moment at which this program is another one."""


def start(monkeypatch: pytest.MonkeyPatch, models_file: Path) -> tuple[str, list[str], object]:
    """Run main() up to the exec; what would be executed."""
    seen: list[tuple[str, list[str], object]] = []

    def execve(path: str, arguments: list[str], environment: object) -> None:
        seen.append((path, arguments, environment))
        raise ExecutedError

    monkeypatch.setattr(engine, "MODELS_FILE", models_file)
    monkeypatch.setattr("os.execve", execve)
    with pytest.raises(ExecutedError):
        engine.main()
    return seen[0]


def test_becomes_the_engine_for_the_open_model(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    models_file = tmp_path / "models.json"
    models_file.write_bytes(encode_models(bytes(32), [TINY]))
    monkeypatch.setenv("LD_PRELOAD", "/hostile.so")
    program, arguments, environment = start(monkeypatch, models_file)
    assert program == arguments[0] == "/opt/engine/bin/python3.11"
    assert "--model=/run/confide/models/tiny" in arguments
    assert "--served-model-name=tiny" in arguments
    assert environment == engine.environment()
    assert "LD_PRELOAD" not in engine.environment()


def test_server_script_is_there_and_is_python() -> None:
    script = Path(engine.command(TINY)[3])
    assert script.is_file()
    # It must be readable by the engine's own, older Python.
    ast.parse(script.read_text(), feature_version=(3, 11))


# Each of these keeps a promise about prompts or about what code runs.
@pytest.mark.parametrize(
    "argument",
    [
        "--host=127.0.0.1",
        "--port=8100",
        "--load-format=safetensors",
        "--no-enable-prefix-caching",
        "--no-enable-log-requests",
        "--disable-uvicorn-access-log",
        "--enforce-eager",
    ],
)
def test_argument_is_given(argument: str) -> None:
    assert argument in engine.command(TINY)


def test_code_of_a_model_is_never_trusted() -> None:
    assert not any("trust" in argument for argument in engine.command(TINY))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("VLLM_NO_USAGE_STATS", "1"),
        ("DO_NOT_TRACK", "1"),
        ("HF_HUB_OFFLINE", "1"),
        ("TRANSFORMERS_OFFLINE", "1"),
        ("VLLM_PLUGINS", ""),
        ("VLLM_LOGGING_LEVEL", "WARNING"),
        ("PYTHONPATH", "/opt/engine/site-packages"),
    ],
)
def test_environment_says(name: str, value: str) -> None:
    assert engine.environment()[name] == value


@pytest.mark.parametrize("models", [[], [TINY, OTHER]], ids=["none", "two"])
def test_only_one_model_can_be_served(models: list[ServedModel]) -> None:
    with pytest.raises(ConfigError):
        engine.only_model(models)


@pytest.mark.parametrize("content", [None, b"{}\n", encode_models(bytes(32), [TINY, OTHER])])
def test_error_is_printed_and_nothing_executed(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    content: bytes | None,
) -> None:
    models_file = tmp_path / "models.json"
    if content is not None:
        models_file.write_bytes(content)
    monkeypatch.setattr(engine, "MODELS_FILE", models_file)
    monkeypatch.setattr("os.execve", lambda *_: pytest.fail("executed"))
    assert engine.main() == 1
    assert capsys.readouterr().err.startswith("confide-engine: ")


def test_why_it_did_not_start_is_said_and_nothing_else() -> None:
    """Here vLLM cannot be imported; what a library prints on its own goes nowhere."""
    server = [sys.executable, str(engine.SERVER), "--model=/nonexistent"]
    ended = subprocess.run(server, capture_output=True, text=True, check=False, timeout=60)
    assert ended.returncode == 1
    [line] = ended.stderr.splitlines()
    assert line.startswith("confide-engine: vLLM does not start: ModuleNotFoundError: ")
    assert not ended.stdout


def test_start_imports_nothing_of_the_mesh() -> None:
    """Each import costs seconds on an emulated machine, before the engine's own begin."""
    code = "import sys, confide.worker.engine; print(*sys.modules)"
    modules = _python(code).split()
    assert "confide.worker.models_file" in modules
    assert not {"requests", "cryptography", "flask"} & set(modules)


def _python(code: str) -> str:
    return subprocess.run(
        [sys.executable, "-c", code],
        env={"PYTHONPATH": ":".join(path for path in sys.path if path)},
        capture_output=True,
        text=True,
        check=True,
    ).stdout
