"""Fixtures of several test modules."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from measure import __main__ as cli
from tests.support.measurement import builders, ovmf_builders, platforms

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs a command in a folder with small inputs: exit status, output, errors."""
    monkeypatch.chdir(tmp_path)
    shapes = {
        "format": "confide-shapes/1",
        "vtpm": ["ovmf-disk", "ovmf-direct"],
        "sev-snp": [
            {"vmm": "qemu", "vcpu_type": "EPYC-Milan", "vcpus": [1, 4], "guest_features": 1}
        ],
        "tdx": [],
    }
    for name, data in {
        "disk": builders.bootable_disk(),
        "uki": builders.uki(),
        "other-uki": builders.uki({".uname": b"6.12.1"}),
        "fw": builders.firmware(),
        "fw-snp": ovmf_builders.image(),
        "shapes": json.dumps(shapes).encode(),
        "m.json": platforms.encoded(),
    }.items():
        Path(name).write_bytes(data)

    def call(*arguments: str) -> tuple[int, str, str]:
        status = cli.main(list(arguments))
        printed = capsys.readouterr()
        return status, printed.out, printed.err

    return call
