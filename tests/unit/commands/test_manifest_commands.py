"""`confide manifest`: deterministic building, and what bad inputs get."""

from __future__ import annotations

import json
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from confide.commands.cli import main
from confide.commands.status import ExitStatus
from confide.host.development_ca import development_ca_spki_sha256
from confide.protocol.manifest import Manifest
from confide.protocol.policy.vtpm import REQUIRED_PCRS, DevelopmentCa
from measure import eventlog, report
from measure.pcr import Component
from measure.shapes import OVMF_DISK

PASSED, FAILED, USAGE, _ = ExitStatus
RELEASED = "1800000000"
CPU_ROLES = ("coordinator", "secret-service", "worker-cpu")
MODEL = {
    "name": "tiny",
    "root_hash": "ab" * 32,
    "hash_offset": 8192,
    "tasks": ["chat", "completion"],
    "roles": ["worker-cpu"],
    "engine": {},
}


FILES = {
    name: {"sha256": "00" * 32, "size": 0}
    for name in ("disk", "uki", "linux", "initrd", "cmdline", "firmware")
}


def measurements(image: str) -> dict[str, Any]:
    """A measurements.json as `measure image` writes it, of an image that does not exist."""
    digests = {pcr: sha256(f"{image} {pcr}".encode()).digest() for pcr in REQUIRED_PCRS}
    event = {"component": Component.FIRMWARE.value, "description": "an event"}
    platform = {
        "shape": OVMF_DISK.name,
        "pcrs": {str(pcr): eventlog.extend([d], pcr).hex() for pcr, d in digests.items()},
        "events": {str(pcr): [event | {"digest": d.hex()}] for pcr, d in digests.items()},
        "left_out": {str(pcr): why for pcr, why in OVMF_DISK.left_out.items()},
    }
    return {
        "format": report.FORMAT,
        "image": image,
        "files": FILES,
        "command_line": "",
        "firmware": {},
        "layers": [],
        "platforms": {"vtpm": [platform]},
    }


@pytest.fixture
def images(tmp_path: Path) -> list[Path]:
    folders = []
    for role in CPU_ROLES:
        folder = tmp_path / f"image-of-{role}"
        folder.mkdir()
        (folder / "measurements.json").write_bytes(report.encode(measurements(role)))
        folders.append(folder)
    return folders


@pytest.fixture
def model(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "model.json").write_text(json.dumps(MODEL))
    return folder


def build(output: Path, images: list[Path], models: list[Path]) -> int:
    arguments = ["--measurements", *map(str, images)]
    if models:
        arguments += ["--model", *map(str, models)]
    return main(["manifest", "build", *arguments, "--released", RELEASED, "-o", str(output)])


def test_build(images: list[Path], model: Path, tmp_path: Path) -> None:
    output = tmp_path / "manifest.json"
    assert build(output, images, [model]) == PASSED
    manifest = Manifest.parse(output.read_bytes())
    assert manifest.mode == "development"
    assert manifest.platforms.vtpm == DevelopmentCa(development_ca_spki_sha256())
    assert list(manifest.roles) == sorted(CPU_ROLES)
    for role, entry in manifest.roles.items():
        (reference,) = entry.vtpm
        expected = measurements(role)["platforms"]["vtpm"][0]
        assert reference.shape == expected["shape"]
        assert {str(n): v.hex() for n, v in reference.pcrs.items()} == expected["pcrs"]
    (tiny,) = manifest.models
    assert (tiny.name, tiny.root_hash.hex(), tiny.hash_offset) == ("tiny", "ab" * 32, 8192)


def test_order_of_inputs_does_not_matter(images: list[Path], model: Path, tmp_path: Path) -> None:
    second = tmp_path / "second.json"
    second.write_text(json.dumps(MODEL | {"name": "second"}))
    outputs = [tmp_path / "a", tmp_path / "b"]
    build(outputs[0], images, [model, second])
    build(outputs[1], images[::-1], [second, model / "model.json"])
    assert outputs[0].read_bytes() == outputs[1].read_bytes()


def test_role_file_wins_over_the_images_name(images: list[Path], tmp_path: Path) -> None:
    folder = images[0]
    folder.joinpath("measurements.json").write_bytes(report.encode(measurements("disk.raw")))
    output = tmp_path / "manifest.json"
    assert build(output, images, []) == USAGE
    folder.joinpath("role").write_text(f"{CPU_ROLES[0]}\n")
    assert build(output, images, []) == PASSED


def without_pcr(value: dict[str, Any]) -> None:
    platform = value["platforms"]["vtpm"][0]
    del platform["pcrs"]["11"]
    del platform["events"]["11"]


def wrong_register(value: dict[str, Any]) -> None:
    value["platforms"]["vtpm"][0]["pcrs"]["11"] = "00" * 32


def no_platform(value: dict[str, Any]) -> None:
    value["platforms"]["vtpm"] = []


@pytest.mark.parametrize("damage", [without_pcr, wrong_register, no_platform])
def test_incomplete_measurements(
    images: list[Path],
    tmp_path: Path,
    damage: Callable[[dict[str, Any]], None],
    capsys: pytest.CaptureFixture[str],
) -> None:
    value = measurements(CPU_ROLES[0])
    damage(value)
    images[0].joinpath("measurements.json").write_bytes(report.encode(value))
    output = tmp_path / "manifest.json"
    assert build(output, images, []) != PASSED
    assert not output.exists()
    assert capsys.readouterr().err.startswith("confide: ")


@pytest.mark.parametrize(
    "change",
    [
        {"root_hash": "ab" * 31},
        {"hash_offset": 100},
        {"hash_offset": True},
        {"tasks": ["sing"]},
        {"roles": ["coordinator"]},
        {"name": "../etc"},
        {"engine": {"trust_remote_code": True}},
        {"extra": 1},
    ],
)
def test_bad_model(images: list[Path], model: Path, tmp_path: Path, change: dict[str, Any]) -> None:
    model.joinpath("model.json").write_text(json.dumps(MODEL | change))
    assert build(tmp_path / "manifest.json", images, [model]) == FAILED


def test_missing_inputs(images: list[Path], tmp_path: Path) -> None:
    output = tmp_path / "manifest.json"
    assert build(output, [tmp_path / "nothing"], []) == USAGE
    assert build(output, images, [tmp_path / "nothing"]) == USAGE
    assert build(output, [*images, images[0]], []) == USAGE
    assert build(output, images[1:], []) in (FAILED, USAGE)
    assert build(tmp_path / "no" / "folder", images, []) == USAGE


def test_show_and_check(
    images: list[Path], model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output, other = tmp_path / "a.json", tmp_path / "b.json"
    build(output, images, [model])
    assert main(["manifest", "show", str(output)]) == PASSED
    shown = capsys.readouterr().out
    assert Manifest.parse(output.read_bytes()).sha256.hex() in shown
    assert "protects nothing" in shown
    assert main(["manifest", "check", str(output)]) == PASSED
    other.write_bytes(output.read_bytes())
    assert main(["manifest", "check", str(output), "--against", str(other)]) == PASSED
    value = measurements("worker-cpu")
    value["platforms"]["vtpm"][0] |= {
        "pcrs": measurements("other")["platforms"]["vtpm"][0]["pcrs"],
        "events": measurements("other")["platforms"]["vtpm"][0]["events"],
    }
    images[2].joinpath("measurements.json").write_bytes(report.encode(value))
    build(other, images, [model])
    capsys.readouterr()
    assert main(["manifest", "check", str(other), "--against", str(output)]) == FAILED
    differing = capsys.readouterr().out
    assert "roles.worker-cpu.vtpm[0].pcrs.11" in differing
    assert "coordinator" not in differing
    assert main(["manifest", "check", str(other), "--against", str(output), "--json"]) == FAILED
    result = json.loads(capsys.readouterr().out)
    assert (result["passed"], result["mode"]) == (False, "development")
    assert result["sha256"] == sha256(other.read_bytes()).hexdigest()
    assert "roles.worker-cpu.vtpm[0].pcrs.11" in " ".join(result["differences"])
    assert main(["manifest", "show", str(other), "--json"]) == PASSED
    result = json.loads(capsys.readouterr().out)
    assert result["sha256"] == sha256(other.read_bytes()).hexdigest()
    assert result["manifest"] == json.loads(other.read_bytes())
    output.write_bytes(output.read_bytes()[:-1])
    assert main(["manifest", "check", str(output)]) == FAILED


def test_references_give_the_same_manifest(
    images: list[Path], model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """No image is needed for a manifest, and none of it is lost on the way."""
    references, direct, made = (tmp_path / name for name in ("references", "direct", "made"))
    measured = ["--measurements", *map(str, images), "--released", RELEASED]
    assert main(["manifest", "references", *measured, "-o", str(references)]) == PASSED
    build(direct, images, [model])
    command = ["manifest", "build", "--references", str(references), "--model", str(model)]
    assert main([*command, "-o", str(made)]) == PASSED
    assert made.read_bytes() == direct.read_bytes()
    assert main([*command, "--days", "10", "-o", str(made)]) == PASSED
    manifest = Manifest.parse(made.read_bytes())
    assert manifest.expires - manifest.released == 10 * 86400
    capsys.readouterr()
    for wrong in (["--released", RELEASED], ["--site", "x"], ["--insecure-any-chip"]):
        assert main([*command, *wrong, "-o", str(tmp_path / "never")]) == USAGE
        assert "bad-options" in capsys.readouterr().err
    assert main([*command, "--days", "367", "-o", str(tmp_path / "never")]) == FAILED
    assert "manifest-times" in capsys.readouterr().err
    assert not (tmp_path / "never").exists()


def test_a_production_manifest_needs_machines(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    release, output = Path(__file__).parents[3] / "release", tmp_path / "manifest.json"
    command = ["manifest", "build", "--references", str(release / "references.json")]
    command += ["--policy", str(release / "policy.json"), "-o", str(output)]
    assert main(command) == USAGE
    assert "no-machines" in capsys.readouterr().err
    site = tmp_path / "site.json"
    machine = {"format": "confide-site/1", "platform_instances": ["cc" * 16]}
    site.write_text(json.dumps(machine))
    assert main([*command, "--site", str(site)]) == PASSED
    assert main(["manifest", "show", str(output)]) == PASSED
    shown = capsys.readouterr().out
    assert f"coordinator, TDX platform instance {'cc' * 16}" in shown and "opt-out" not in shown
    assert main([*command, "--insecure-any-platform"]) == PASSED
    assert main(["manifest", "show", str(output)]) == PASSED
    assert "opt-out  insecure_any_platform" in capsys.readouterr().out
