"""One worker, two models: an engine process each, with the options that the manifest gives it.

Both are the tiny model, under two names: the disk is the same, so its root hash is.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import requests

from confide.commands.system import Build, Program, System
from confide.protocol.engine_options import EngineOptions
from confide.protocol.manifest import Manifest
from tests.support.sealed_client import SealedClient

SHORT = "short"
SHORT_TOKENS = 512
PATH = "/v1/completions"


@pytest.fixture(scope="module")
def two_models(build: Build, tmp_path_factory: pytest.TempPathFactory) -> Build:
    """The build with a manifest that has the tiny model twice."""
    manifest = Manifest.parse(build.manifest.read_bytes())
    model = manifest.model(build.model_name)
    short = replace(model, name=SHORT, engine=EngineOptions(max_model_len=SHORT_TOKENS))
    path = tmp_path_factory.mktemp("two") / "manifest.json"
    path.write_bytes(replace(manifest, models=(short, model)).encode())
    return replace(build, manifest=path)


@pytest.fixture(scope="module")
def running(two_models: Build, tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    names = (two_models.model_name, SHORT)
    with System(two_models, tmp_path_factory.mktemp("system"), models=names) as system:
        yield system


@pytest.fixture(scope="module")
def client(running: System) -> SealedClient:
    gateway: Program = running.start_gateway()
    return SealedClient(gateway.url, running.manifest.read_bytes())


def test_the_worker_says_of_each_that_it_is_ready(running: System) -> None:
    health = requests.get(f"{running.machine('worker-cpu').url}/healthz", timeout=10).json()
    assert health == {
        "role": "worker-cpu",
        "state": "ready",
        "models": dict.fromkeys(running.models, "ready"),
    }


def test_each_model_answers_under_its_own_name(
    running: System, client: SealedClient, expected: str
) -> None:
    for model in running.models:
        status, answer = client.ask(PATH, model, {"prompt": "Hello", "max_tokens": 100})
        assert (status, answer["model"]) == (200, model)
        assert answer["choices"][0]["text"].strip() == expected


def test_each_engine_has_its_own_options(running: System, client: SealedClient) -> None:
    long, short = running.models
    fields = {"prompt": "x" * (SHORT_TOKENS + 100), "max_tokens": 1}
    assert client.ask(PATH, long, fields)[0] == 200
    status, answer = client.ask(PATH, short, fields)
    assert status == 400
    assert str(SHORT_TOKENS) in answer["error"]["message"]


def test_the_console_says_that_both_are_ready_and_nothing_more(running: System) -> None:
    worker = running.machine("worker-cpu")
    console = Path(worker.console).read_text(errors="replace").splitlines()
    said = sorted(line for line in console if "confide-engine:" in line)
    assert [line.partition("confide-engine: ")[2].strip() for line in said] == [
        f"the engine of the model {model} is ready" for model in sorted(running.models)
    ]
