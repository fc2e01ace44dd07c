"""`confide model`: what it prints, and its exit status."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from confide.commands import cli
from confide.protocol.manifest import Manifest, Platforms, RoleEntry
from confide.protocol.model import Model
from confide.protocol.policy.vtpm import REQUIRED_PCRS, DevelopmentCa, VtpmReference
from confide.protocol.roles import Role
from tests.support.model_folder import LFS_POINTER, safetensors, write_json, write_model

SERVED = (("chat",), ("worker-cpu",))


def main(argv: list[str]) -> int:
    return cli.main(["model", *argv])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A model with 8 MB of weights."""
    folder = write_model(tmp_path / "model")
    (folder / "model.safetensors").write_bytes(safetensors({"a": 2_000_000}))
    return folder


@pytest.fixture
def packed(
    folder: Path, model_tools: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> Path:
    """A packed disk, by the command."""
    disk = tmp_path / "model.disk"
    assert main(["pack", str(folder), "-o", str(disk), "--tools", str(model_tools)]) == 0
    capsys.readouterr()
    return disk


def refused(argv: list[str], capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    """The status and the error's code; as text it is one line."""
    text_status = main(argv)
    assert capsys.readouterr().err.count("\n") == 1
    status = main([*argv, "--json"])
    answer = json.loads(capsys.readouterr().out)
    assert answer["passed"] is False
    assert status == text_status
    return status, answer["error"]["code"]


def test_pack_says_all_that_a_manifest_needs(
    folder: Path,
    model_tools: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (folder / ".git").mkdir()
    monkeypatch.setenv("CONFIDE_MODEL_TOOLS", str(model_tools))
    disk = tmp_path / "llama-3.1-8b.disk"
    options = ["--name", "llama", "--task", "chat", "--role", "worker-gpu", "worker-cpu", "--json"]
    options += ["--engine", "tensor_parallel_size=2", "dtype=bfloat16"]
    assert main(["pack", str(folder), "-o", str(disk), *options]) == 0
    captured = capsys.readouterr()
    answer = json.loads(captured.out)
    assert "not packed, because hidden: .git" in captured.err
    entry_file = tmp_path / "llama-3.1-8b.json"
    assert answer["entry_file"] == str(entry_file)
    assert json.loads(entry_file.read_text()) == answer["entry"]
    assert answer["entry"]["tasks"] == ["chat"]
    assert answer["entry"]["engine"] == {"tensor_parallel_size": 2, "dtype": "bfloat16"}
    assert answer["entry"]["roles"] == ["worker-gpu", "worker-cpu"]
    assert answer["size"] == disk.stat().st_size
    assert answer["files"] == 4


@pytest.mark.parametrize(
    ("word", "code"),
    [
        ("trust_remote_code=true", "engine-option"),
        ("--trust-remote-code", "engine-option"),
        ("max_model_len", "engine-option"),
        ("dtype=int8", "bad-field"),
        ("max_model_len=0", "bad-field"),
        ("max_model_len=4k", "bad-field"),
        ("max_model_len=-1", "bad-field"),
        ("max_model_len=" + "9" * 5000, "bad-field"),
    ],
)
def test_engine_options_that_are_refused(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], word: str, code: str
) -> None:
    """Before anything is packed."""
    argv = ["pack", str(folder), "-o", str(tmp_path / "model.disk"), "--tools", "/none"]
    assert refused([*argv, f"--engine={word}"], capsys) == (2, code)


def test_an_engine_option_twice(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    argv = ["pack", str(folder), "-o", str(tmp_path / "model.disk"), "--tools", "/none"]
    twice = ["--engine", "max_num_seqs=1", "max_num_seqs=2"]
    assert refused([*argv, *twice], capsys) == (2, "engine-option")


def test_a_folder_that_the_engine_cannot_load(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Before anything is packed: there are no tools."""
    argv = ["pack", str(folder), "-o", str(tmp_path / "model.disk"), "--tools", "/none"]
    assert refused(argv, capsys) == (2, "no-model-tools")
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    assert refused(argv, capsys) == (2, "model-weights")
    (folder / "pytorch_model.bin").write_text(LFS_POINTER)
    assert refused(argv, capsys) == (2, "model-lfs-pointer")
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_what_may_stop_the_engine_is_said(
    folder: Path, model_tools: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_json(folder / "tokenizer_config.json", {})
    argv = ["pack", str(folder), "-o", str(tmp_path / "model.disk"), "--tools", str(model_tools)]
    assert main([*argv, "--json"]) == 0
    captured = capsys.readouterr()
    assert "no chat template" in captured.err
    assert json.loads(captured.out)["passed"] is True


def test_a_disk_in_the_models_folder(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    argv = ["pack", ".", "-o", "model.disk", "--tools", "/none"]
    assert refused(argv, capsys) == (2, "disk-in-model")


def test_the_entry_replaces_no_file(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "llama.json").write_text("precious")
    argv = ["pack", str(folder), "-o", str(tmp_path / "llama.disk"), "--tools", "/none"]
    assert refused(argv, capsys) == (2, "entry-exists")
    assert (tmp_path / "llama.json").read_text() == "precious"


def test_a_good_disk_by_each_reference(packed: Path, capsys: pytest.CaptureFixture[str]) -> None:
    entry = json.loads(packed.with_name("model.json").read_text())
    assert entry["name"] == "model"
    assert main(["verify", str(packed)]) == 0
    assert main(["verify", str(packed), "--root-hash", entry["root_hash"]]) == 0
    assert f"root hash    {entry['root_hash']}" in capsys.readouterr().out


def test_by_a_manifest(packed: Path, capsys: pytest.CaptureFixture[str]) -> None:
    entry = json.loads(packed.with_name("model.json").read_text())
    right = Model("a", bytes.fromhex(entry["root_hash"]), entry["hash_offset"], *SERVED)
    wrong = Model("b", bytes(32), entry["hash_offset"], *SERVED)
    reference = VtpmReference("any", {register: bytes(32) for register in REQUIRED_PCRS})
    roles = dict.fromkeys((Role.COORDINATOR, Role.WORKER_CPU), RoleEntry((reference,)))
    platforms = Platforms(vtpm=DevelopmentCa(bytes(32)))
    manifest = packed.with_name("manifest.json")
    manifest.write_bytes(Manifest("development", platforms, roles, (right, wrong), 0, 1).encode())
    argv = ["verify", str(packed), "--manifest", str(manifest)]
    assert main([*argv, "--model", "a"]) == 0
    capsys.readouterr()
    assert refused([*argv, "--model", "b"], capsys) == (1, "wrong-root-hash")
    assert refused([*argv, "--model", "c"], capsys) == (1, "unknown-model")
    assert refused(argv, capsys) == (2, "bad-options")


def test_damage(packed: Path, capsys: pytest.CaptureFixture[str]) -> None:
    content = packed.read_bytes()
    root = json.loads(packed.with_name("model.json").read_text())["root_hash"]
    packed.write_bytes(content[:-4096])
    assert refused(["verify", str(packed)], capsys) == (1, "truncated-model-disk")
    assert (
        refused(["verify", str(packed), "--root-hash", root], capsys)[1] == "truncated-model-disk"
    )
    packed.write_bytes(content[:5_000_000] + b"\xff" + content[5_000_001:])
    assert refused(["verify", str(packed)], capsys) == (1, "wrong-block")
    packed.write_bytes(content)
    assert (
        refused(["verify", str(packed), "--root-hash", "11" * 32], capsys)[1] == "wrong-root-hash"
    )
    assert refused(["verify", str(packed), "--root-hash", "11"], capsys) == (2, "bad-hex")


def test_no_reference_is_an_error(packed: Path, capsys: pytest.CaptureFixture[str]) -> None:
    packed.with_name("model.json").unlink()
    assert refused(["verify", str(packed)], capsys) == (2, "unreadable-file")


def test_files_that_are_not_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    argv = ["verify", str(tmp_path / "none"), "--root-hash", "11" * 32]
    assert refused(argv, capsys) == (1, "io-error")


def test_usage(
    folder: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("CONFIDE_MODEL_TOOLS", raising=False)
    argv = ["pack", str(folder), "-o", str(tmp_path / "model.disk")]
    assert refused(argv, capsys) == (2, "no-model-tools")
    shutil.move(folder, tmp_path / "Llama 3")
    argv[1] = str(tmp_path / "Llama 3")
    assert refused(argv, capsys) == (2, "bad-name")
    with pytest.raises(SystemExit) as caught:
        main([*argv, "--task", "embedding"])
    assert caught.value.code == 2


def test_ctrl_c_says_how_to_go_on(
    folder: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def interrupted(_folder: Path) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("confide.commands.model.scan", interrupted)
    argv = ["pack", str(folder), "-o", str(tmp_path / "model.disk"), "--tools", "/none"]
    assert main(argv) == 130
    assert "run the same command again" in capsys.readouterr().err
