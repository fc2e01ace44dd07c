"""`measure explain` on the flake's own measurements: one role's machine taken for another's.

The roles share kernel, initrd and firmware; what differs is the command line with its root hashes.
Their evidence is made here from their measurements: no hardware is involved.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from measure import explain, report
from measure.explain.evidence import Evidence, SnpEvidence, TdxEvidence, VtpmEvidence
from measure.pcr import Component
from tests.support.measurement.samples import log_of

EXPECTED, SEEN = "coordinator", "secret-service"


@pytest.fixture(scope="module")
def measured(images: Path) -> dict[str, dict[str, Any]]:
    found = {}
    for role in (EXPECTED, SEEN):
        path = images / role / "measurements.json"
        found[role] = report.parse(path.read_bytes(), path.name)
    return found


@pytest.fixture(scope="module")
def predicted(measured: dict[str, dict[str, Any]]) -> dict[str, report.Predictions]:
    return {role: report.read(content, role) for role, content in measured.items()}


@pytest.fixture(scope="module")
def clues(images: Path) -> explain.Clues:
    """The other role's parts, offered as files."""
    folder = images / SEEN / "boot"
    files = [(path.name, path.read_bytes()) for path in sorted(folder.iterdir())]
    return explain.Clues(files=files)


def explained(
    measured: dict[str, dict[str, Any]], seen: Evidence, clues: explain.Clues
) -> explain.Explanation:
    return explain.explain(seen, measured[EXPECTED], EXPECTED, clues)


def test_launch_digests(measured: Any, predicted: Any, clues: explain.Clues) -> None:
    assert len(predicted[SEEN].sev_snp) == 14, "two processors with seven counts of vCPUs"
    for prediction in predicted[SEEN].sev_snp[::5]:
        evidence = SnpEvidence(prediction.digest, None)
        (alone,) = explained(measured, evidence, explain.Clues()).differences
        assert alone.component is Component.UNEXPLAINED
        found = explained(measured, evidence, clues)
        assert found.compared_with == prediction.shape.name
        cause, *layers = found.differences
        assert cause.component is Component.COMMAND_LINE
        assert layers and {d.component for d in layers} == {Component.ROOT_HASH}
        assert cause.expected == repr(measured[EXPECTED]["command_line"])


def test_guest_features_of_another_host(measured: Any, predicted: Any) -> None:
    for prediction in predicted[EXPECTED].sev_snp[::5]:
        other = dataclasses.replace(prediction.launch, guest_features=0x21)
        evidence = SnpEvidence(other.digest(prediction.shape.vcpus), None)
        (cause,) = explained(measured, evidence, explain.Clues()).differences
        assert cause.component is Component.GUEST_FEATURES
        assert cause.seen == "0x21 (SNPActive, DebugVirtualization)"


def test_quotes_without_a_log(measured: Any, predicted: Any, clues: explain.Clues) -> None:
    shared = {p.shape.name for p in predicted[EXPECTED].tdx}
    compared = 0
    for prediction in predicted[SEEN].tdx:
        if prediction.shape.name not in shared:
            continue
        shape = prediction.shape
        mrtd = prediction.mrtd[shape.page_order]
        evidence = TdxEvidence(None, mrtd, prediction.rtmrs(), shape.attributes, shape.xfam)
        found = explained(measured, evidence, clues)
        assert found.compared_with == shape.name
        assert [(d.register, d.component) for d in found.differences] == [
            ("RTMR 2", Component.UNEXPLAINED)
        ]
        line = measured[SEEN]["command_line"]
        known = dataclasses.replace(clues, command_line=f"initrd=initrd {line}")
        causes = {d.component for d in explained(measured, evidence, known).differences}
        assert causes >= {Component.COMMAND_LINE, Component.ROOT_HASH}
        compared += 1
    assert compared


def test_event_logs(measured: Any, predicted: Any) -> None:
    for prediction in predicted[SEEN].vtpm:
        found = explained(measured, VtpmEvidence(log_of(prediction), None), explain.Clues())
        assert found.compared_with == prediction.shape.name
        causes = {d.component for d in found.differences if not d.follows}
        disk = {Component.PARTITION_TABLE} if prediction.shape.name == "ovmf-disk" else set()
        assert causes - {Component.OS_RELEASE} == {Component.COMMAND_LINE, *disk}


def test_diff_of_two_roles(measured: Any) -> None:
    found = explain.diff(measured[EXPECTED], measured[SEEN], EXPECTED, SEEN)
    assert {"PCR 9", "launch digest", "RTMR 2", "command line"} <= {d.register for d in found}
    assert explain.diff(measured[SEEN], measured[SEEN], SEEN, SEEN) == []
