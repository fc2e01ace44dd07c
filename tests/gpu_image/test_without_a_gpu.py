"""The GPU worker's image in a machine that has no GPU: it refuses to serve, and says why.

Its manifest demands GPUs. Everything else about the machine is right, so that nothing but the GPUs
can be the reason: the registers that it shows are the predicted ones.
"""

from __future__ import annotations

import os
import time
from hashlib import sha256
from pathlib import Path

import pytest
import requests

from confide.protocol.evidence import Evidence, VtpmReport
from confide.protocol.routes.table import SEALED
from confide.protocol.sealed import (
    RequestContent,
    RequestHeaders,
    RequestKey,
    RequestSealer,
)
from confide.protocol.share import SEALED_SHARE_SIZE
from tests.support.attested import explained, launched_for, predicted_pcrs
from tests.support.refused import Refused


@pytest.fixture(scope="module")
def evidence(refused: Refused) -> Evidence:
    """What the worker sent with its join."""
    return Evidence.parse(refused.join.evidence)


@pytest.mark.parametrize("register", [0, 2, 3, 4, 5, 7, 8, 9, 11, 12, 13, 14])
def test_prediction_equals_the_quote(evidence: Evidence, gpu_image: Path, register: int) -> None:
    predicted = predicted_pcrs(gpu_image)["ovmf-disk"]
    quoted = dict(VtpmReport.parse(evidence.report).pcrs)
    assert quoted[register].hex() == predicted[str(register)]


def test_explain_finds_no_difference(evidence: Evidence, gpu_image: Path, manifest: bytes) -> None:
    found = explained(evidence, gpu_image)
    assert (found.compared_with, found.differences) == ("ovmf-disk", ())
    assert found.notes == (launched_for(sha256(manifest).digest()),)


def test_the_evidence_says_why(refused: Refused, evidence: Evidence) -> None:
    assert refused.join.role == "worker-gpu"
    assert (evidence.gpu_refusal, evidence.gpus) == ("no-gpu", ())


def test_the_console_says_why(refused: Refused) -> None:
    """Before any coordinator is asked, and once it has refused: the GPUs, and nothing else."""
    said = console(refused)
    assert "there is no usable NVIDIA GPU" in said
    assert "the check 'GPU refusal' failed; expected none; seen no-gpu" in said


def test_the_worker_has_no_certificate_and_serves_nothing(refused: Refused) -> None:
    """It says why, also to a well-formed request; that is all."""
    url = refused.worker.url
    health = requests.get(f"{url}/healthz", timeout=30)
    assert health.status_code == 503
    models = {"tiny": "no-gpu"}
    assert health.json() == {"role": "worker-gpu", "state": "no-gpu", "models": models}
    key = RequestKey(os.urandom(32), os.urandom(32), os.urandom(32), os.urandom(SEALED_SHARE_SIZE))
    headers = RequestHeaders("tiny", os.urandom(32), os.urandom(32), os.urandom(32))
    for path in SEALED:
        sealer = RequestSealer(key, 0)
        body = sealer.seal(RequestContent(b"{}"), headers, method="POST", path=path)
        reply = requests.post(f"{url}{path}", data=body, headers=headers.encode(), timeout=30)
        assert reply.status_code == 503, path
        error = reply.json()["error"]
        assert (error["code"], error["seen"]) == ("engine-not-ready", "tiny: no-gpu"), path
    for path in ("/", "/v1/models", "/metrics", "/health", "/v1/attest"):
        assert requests.get(f"{url}{path}", timeout=30).status_code == 404, path


def test_no_disk_is_opened_and_no_engine_starts(refused: Refused) -> None:
    """Both would say so on the console. They wait for the join, also after a while."""
    time.sleep(20)
    said = console(refused)
    assert "confide-disks" not in said
    assert "confide-engine" not in said
    assert "vllm" not in said.lower()
    assert refused.worker.running


def console(refused: Refused) -> str:
    return refused.worker.console.read_text(errors="replace")
