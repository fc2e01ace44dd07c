"""The real images, for all machines in images/shapes.json, as anybody measures them again.

Needs what `make test` builds: images, firmware, ACPI tables.
"""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema
import pytest

import measure
from measure import __main__ as cli
from measure import report
from measure.corim import manifest, values
from measure.picture import chain, svg
from measure.report import Predictions
from measure.tdx.shape import PageOrder

CHECKOUT = Path(__file__).parents[2]
SCHEMA = Path(measure.__file__).parent / "measurements.schema.json"
README = (Path(measure.__file__).parent / "README.md").read_text()
ROLES = ("coordinator", "secret-service", "worker-cpu")


@pytest.fixture(scope="module", params=ROLES)
def measured(
    request: pytest.FixtureRequest,
    images: Path,
    firmware: Path,
    acpi_tables: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> dict[str, Any]:
    """What `measure image` writes of one role."""
    output, disk = tmp_path_factory.mktemp("measured") / "m.json", images / request.param
    status = cli.main([
        "image", "--name", request.param, "--disk", str(disk / "disk.raw"),
        "--uki", str(disk / "uki.efi"), "--shapes", str(CHECKOUT / "images" / "shapes.json"),
        "--firmware", str(firmware / "OVMF_CODE_4M.fd"),
        "--firmware-sev-snp", str(firmware / "OVMF.amdsev.fd"),
        "--firmware-tdx", str(firmware / "OVMF.tdx.fd"), "--acpi", str(acpi_tables),
        "--output", str(output),
    ])  # fmt: skip
    assert status == 0
    return report.parse(output.read_bytes(), request.param)


@pytest.fixture
def predictions(measured: dict[str, Any]) -> Predictions:
    return report.read(measured, "m")


def test_all_machines_and_a_value_of_its_own_for_each(predictions: Predictions) -> None:
    assert len(predictions.vtpm) + len(predictions.sev_snp) + len(predictions.tdx) >= 16
    assert len({p.digest for p in predictions.sev_snp}) == len(predictions.sev_snp)
    first = [p.rtmrs()[0] for p in predictions.tdx]
    assert len(set(first)) == len(first)


def test_tdx_machines_share_what_is_not_the_machines(predictions: Predictions) -> None:
    """The firmware decides MRTD, the image RTMR 1 and 2; the system extends no RTMR 3."""
    for number in (1, 2):
        assert len({p.rtmrs()[number] for p in predictions.tdx}) == 1
    assert {p.rtmrs()[3] for p in predictions.tdx} == {bytes(48)}
    for order in PageOrder:
        assert len({p.mrtd[order] for p in predictions.tdx}) == 1


def test_the_same_kernel_and_command_line_on_every_platform(measured: dict[str, Any]) -> None:
    """SHA-256 of each part stands in `files`, in PCR 11's events and in each launch."""
    files, platforms = measured["files"], measured["platforms"]
    logged = {e["description"]: e["digest"] for e in platforms["vtpm"][0]["events"]["11"]}
    for name in ("linux", "initrd", "cmdline"):
        assert logged[f"section .{name}"] == files[name]["sha256"]
    line = measured["command_line"].encode()
    for launch in platforms["sev-snp"]:
        parts = {c["component"]: c["digest"] for c in launch["components"]}
        assert parts["kernel"] == files["linux"]["sha256"]
        assert parts["initrd"] == files["initrd"]["sha256"]
        assert parts["command-line"] == hashlib.sha256(line + b"\0").hexdigest()
    for layer in measured["layers"]:
        assert f"confide.layer={layer['name']},{layer['root_hash']},".encode() in line


def test_the_schema_accepts_it(measured: dict[str, Any]) -> None:
    jsonschema.Draft202012Validator(json.loads(SCHEMA.read_text())).validate(measured)


def test_the_corim_has_every_value(measured: dict[str, Any], predictions: Predictions) -> None:
    states = list(manifest.states(predictions))
    corim = manifest.write(measured, states, manifest.Publication())
    read = values.read(corim, "c").values
    assert len({value.tag for value in read}) == len(states)
    digests = {value.value for value in read}
    assert {p.digest.hex() for p in predictions.sev_snp} <= digests
    assert {v.hex() for p in predictions.vtpm for v in p.pcrs().values()} <= digests
    assert {v.hex() for p in predictions.tdx for v in p.rtmrs().values()} <= digests


def test_each_machine_has_its_picture(measured: dict[str, Any], predictions: Predictions) -> None:
    for found in (predictions.vtpm, predictions.sev_snp, predictions.tdx):
        for prediction in found:
            name = prediction.shape.name
            assert f">{name}</text>" in svg.render(chain.build(measured, "m", [name]))


def run_by_hand(folder: Path, name: str, *arguments: object) -> str:
    """Runs the program of that name in the README, which knows nothing of `measure`."""
    (program,) = re.findall(rf"^```python {name}\n(.*?)^```", README, re.DOTALL | re.MULTILINE)
    (folder / name).write_text(program)
    command = [sys.executable, "-I", name, *map(str, arguments)]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_the_readmes_mrtd(measured: dict[str, Any], firmware: Path, tmp_path: Path) -> None:
    expected = {machine["mrtd"]["single-pass"] for machine in measured["platforms"]["tdx"]}
    assert {run_by_hand(tmp_path, "mrtd.py", firmware / "OVMF.tdx.fd")} == expected


def test_the_readmes_launch_digest(
    measured: dict[str, Any], firmware: Path, tmp_path: Path
) -> None:
    (tmp_path / "m.json").write_bytes(report.encode(measured))
    started = firmware / "OVMF.amdsev.fd"
    machines = [m for m in measured["platforms"]["sev-snp"] if m["vcpus"] == 4]
    assert len(machines) == 2, "one for each processor"
    for machine in machines:
        digest = run_by_hand(tmp_path, "launch.py", "m.json", started, machine["shape"])
        assert digest == machine["launch_digest"], machine["shape"]
