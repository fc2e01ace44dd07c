"""The example in the docstring runs as it stands; `__all__` is what the page lists."""

from __future__ import annotations

import doctest
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import confide.verify
from confide.encoding.canonical import json_encode
from tests.support import intel_certificates
from tests.support.production import Production, manifest_value

PAGE = Path(__file__).resolve().parents[3] / "docs" / "verifying.md"
REPORT_DATA = bytes(range(64))


def test_the_example(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a SIMULATED TDX machine, whose quote binds 64 bytes."""
    production = Production()
    production.pin(monkeypatch)
    files = {
        "manifest.json": json_encode(manifest_value()),
        "worker.collateral": production.bundle().encode(),
        "worker.evidence": production.tdx(REPORT_DATA).encode(),
    }
    names = {"read": files.__getitem__, "report_data": REPORT_DATA, "now": intel_certificates.NOW}
    documentation = confide.verify.__doc__ or ""
    examples = doctest.DocTestParser().get_doctest(documentation, names, "example", None, None)
    assert len(examples.examples) > 5
    assert doctest.DocTestRunner().run(examples).failed == 0


def test_the_page_lists_every_name() -> None:
    text = PAGE.read_text()
    documented = set(re.findall(r"`confide\.verify\.(\w+)`", text))
    functions = {name for name in confide.verify.__all__ if name.islower()}
    assert documented >= functions
    assert documented <= {*confide.verify.__all__, "roots"}
    assert "Provisional until protocol 2" in text
    assert "provisional until protocol 2" in (confide.verify.__doc__ or "")


def test_every_name_is_there_and_no_other() -> None:
    for name in confide.verify.__all__:
        assert getattr(confide.verify, name).__name__ == name
    with pytest.raises(AttributeError, match="no_such_name"):
        confide.verify.no_such_name  # noqa: B018


def test_one_module_does_not_load_all() -> None:
    """Every process has error codes; few verify XML signatures."""
    program = "import sys, confide.verify.codes; print('lxml' in sys.modules)"
    paths = os.pathsep.join(filter(None, sys.path))
    ran = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "PYTHONPATH": paths},
        capture_output=True,
        text=True,
        check=True,
    )
    assert ran.stdout == "False\n"
