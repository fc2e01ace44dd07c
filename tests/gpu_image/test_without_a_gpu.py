"""The GPU worker's image in a machine that has no GPU: it refuses to serve, and says why.

Its manifest demands GPUs. Everything else about the machine is right, so that nothing but the GPUs
can be the reason: the registers that it shows are the predicted ones.
"""

from __future__ import annotations

import time
from pathlib import Path

import pytest
import requests
from confide.formats.evidence import Evidence, VtpmReport

from tests.gpu_image.conftest import Refused
from tests.support.attested import explained, predicted_pcrs


@pytest.fixture(scope="module")
def evidence(refused: Refused) -> Evidence:
    """What the worker sent with its join."""
    return Evidence.parse(refused.join.evidence)


@pytest.mark.parametrize("register", [0, 2, 3, 4, 5, 7, 8, 9, 11, 12, 13, 14])
def test_prediction_equals_the_quote(evidence: Evidence, gpu_image: Path, register: int) -> None:
    predicted = predicted_pcrs(gpu_image)["ovmf-disk"]
    quoted = dict(VtpmReport.parse(evidence.report).pcrs)
    assert quoted[register].hex() == predicted[str(register)]


def test_explain_finds_no_difference(evidence: Evidence, gpu_image: Path) -> None:
    found = explained(evidence, gpu_image)
    assert (found.compared_with, found.differences, found.notes) == ("ovmf-disk", (), ())


def test_the_evidence_says_why(refused: Refused, evidence: Evidence) -> None:
    assert refused.join.role == "worker-gpu"
    assert (evidence.gpu_refusal, evidence.gpus) == ("no-gpu", ())


def test_the_console_says_why(refused: Refused) -> None:
    """Before any coordinator is asked, and once it has refused: the GPUs, and nothing else."""
    said = console(refused)
    assert "there is no NVIDIA GPU that can be used" in said
    assert "the check 'GPU refusal' failed; expected none; seen no-gpu" in said


def test_the_worker_has_no_certificate_and_serves_nothing(refused: Refused) -> None:
    """Every way in answers that the worker is not attested, or that there is no such way."""
    health = requests.get(f"{refused.worker.url}/healthz", timeout=30)
    assert health.status_code == 503
    assert health.json()["state"] == "not-attested"
    for path in ("/v1/chat/completions", "/v1/completions"):
        reply = requests.post(f"{refused.worker.url}{path}", data=b"sealed", timeout=30)
        assert reply.status_code in (400, 503), path
    for path in ("/", "/v1/models", "/metrics", "/health", "/v1/attest"):
        assert requests.get(f"{refused.worker.url}{path}", timeout=30).status_code == 404, path


def test_the_engine_is_not_started(refused: Refused) -> None:
    """What a starting engine prints goes to the console; this one waits, also after a while."""
    time.sleep(20)
    said = console(refused)
    assert "waiting for the GPUs" in said
    assert "vllm" not in said.lower()
    assert refused.worker.running


def console(refused: Refused) -> str:
    return refused.worker.console.read_text(errors="replace")
