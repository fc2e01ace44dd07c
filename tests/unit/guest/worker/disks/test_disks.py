"""Which disk a model is on, and every way in which it is not there."""

from __future__ import annotations

import socket
from contextlib import ExitStack
from hashlib import sha256
from pathlib import Path

import pytest

from confide.errors import (
    ConfideError,
    ConfigError,
    FormatError,
    PolicyError,
    VerificationError,
)
from confide.guest.worker.disks import mounter as disks
from confide.guest.worker.disks import verity
from confide.guest.worker.disks.handover import take_over
from confide.guest.worker.engine.models_file import ServedModel, encode_models, parse_models
from confide.protocol.configdisk import ConfigDisk
from confide.protocol.launch import UNBOUND
from confide.protocol.manifest import Manifest, Platforms, RoleEntry
from confide.protocol.model import Model
from confide.protocol.policy.vtpm import REQUIRED_PCRS, DevelopmentCa, VtpmReference
from confide.protocol.roles import Role
from tests.support.simulated_disks import BLOCK, SimulatedSystem, model_disk

TINY, TINY_DISK = model_disk("tiny")
OTHER, OTHER_DISK = model_disk("other", blocks=200)


def manifest(*models: Model) -> Manifest:
    reference = VtpmReference("any", {register: bytes(32) for register in REQUIRED_PCRS})
    roles = dict.fromkeys((Role.COORDINATOR, Role.WORKER_CPU), RoleEntry((reference,)))
    return Manifest("development", Platforms(vtpm=DevelopmentCa(bytes(32))), roles, models, 0, 1)


def flip(data: bytes, offset: int) -> bytes:
    return data[:offset] + bytes([data[offset] ^ 1]) + data[offset + 1 :]


# find_disk


def test_disk_is_found_by_its_root_hash_wherever_it_is() -> None:
    for devices in ({"vdb": OTHER_DISK, "vdc": TINY_DISK}, {"vdb": TINY_DISK, "vdc": OTHER_DISK}):
        system = SimulatedSystem(devices)
        assert devices[disks.find_disk(TINY, system).name] == TINY_DISK
        assert devices[disks.find_disk(OTHER, system).name] == OTHER_DISK


def test_disk_padded_by_its_host_is_accepted() -> None:
    disks.find_disk(TINY, SimulatedSystem({"vdb": TINY_DISK + bytes(BLOCK)}))


def test_wrong_disk_error_names_model_expected_and_seen() -> None:
    fake, fake_disk = model_disk("fake")
    with pytest.raises(VerificationError) as caught:
        disks.find_disk(TINY, SimulatedSystem({"vdb": fake_disk}))
    assert caught.value.code == "wrong-model-disk"
    assert "tiny" in caught.value.message
    assert TINY.root_hash.hex() in caught.value.expected
    assert fake.root_hash.hex() in caught.value.seen


@pytest.mark.parametrize(
    "disk",
    [
        TINY_DISK[:-1],
        TINY_DISK[:-BLOCK],
        b"",
        flip(TINY_DISK, TINY.hash_offset),
        flip(TINY_DISK, len(TINY_DISK) - 1),
        bytes(len(TINY_DISK)),
    ],
    ids=["byte-short", "tree-missing", "empty", "tree-flip-first", "tree-flip-last", "zeros"],
)
def test_disk_with_a_wrong_tree_is_refused(disk: bytes) -> None:
    with pytest.raises(VerificationError, match="tiny"):
        disks.find_disk(TINY, SimulatedSystem({"vdb": disk}))


def test_truncated_disk_says_so() -> None:
    with pytest.raises(VerificationError, match=r"vdb: 12288 bytes, truncated"):
        disks.find_disk(TINY, SimulatedSystem({"vdb": TINY_DISK[:-BLOCK]}))


def test_no_disk_at_all() -> None:
    with pytest.raises(VerificationError, match=r"no disk with a serial number confide-model-N"):
        disks.find_disk(TINY, SimulatedSystem({}))


# open_model


def test_open_model_and_undo(tmp_path: Path) -> None:
    system = SimulatedSystem({"vdb": TINY_DISK})
    with ExitStack() as cleanup:
        opened = disks.open_model(TINY, system, cleanup, tmp_path / "1")
        assert opened.path == tmp_path / "1"
        assert system.tables == {"model-tiny": verity.table(TINY, "/dev/vdb")}
        assert system.mounts == {opened.path: Path("/dev/mapper/model-tiny")}
    assert not system.tables
    assert not system.mounts


def test_disk_that_cannot_be_mounted_is_closed_again(tmp_path: Path) -> None:
    system = SimulatedSystem({"vdb": TINY_DISK}, unmountable={"model-tiny"})
    with pytest.raises(VerificationError) as caught, ExitStack() as cleanup:
        disks.open_model(TINY, system, cleanup, tmp_path / "1")
    assert caught.value.code == "corrupt-model-disk"
    assert "tiny" in caught.value.message
    assert TINY.root_hash.hex() in caught.value.expected
    assert not system.tables


def test_corruption_is_an_error_that_names_the_model(tmp_path: Path) -> None:
    system = SimulatedSystem({"vdb": TINY_DISK, "vdc": OTHER_DISK})
    with ExitStack() as cleanup:
        opened = [disks.open_model(m, system, cleanup, tmp_path / m.name) for m in (TINY, OTHER)]
        disks.require_intact(opened, system)
        system.status["model-other"] = ["0 1600 verity C\n"]
        with pytest.raises(VerificationError, match="model other") as caught:
            disks.require_intact(opened, system)
    assert caught.value.code == "corrupt-model-disk"


def test_each_engine_has_a_small_file_system_of_its_own(tmp_path: Path) -> None:
    """What one fills is not full for another, nor for the service manager."""
    system = SimulatedSystem({})
    with ExitStack() as cleanup:
        for number in ("1", "2"):
            disks.make_folder(tmp_path / number, system, cleanup)
        assert set(system.mounts) == {tmp_path / "1", tmp_path / "2"}
    assert not system.mounts


# choose_models


def test_models_come_in_the_order_asked_for() -> None:
    assert disks.choose_models(manifest(TINY, OTHER), ["other", "tiny"], Role.WORKER_CPU) == [
        OTHER,
        TINY,
    ]


def test_model_of_another_role_is_refused() -> None:
    model = Model("big", bytes(32), BLOCK, ("chat",), ("worker-cpu",))
    with pytest.raises(PolicyError, match="big"):
        disks.choose_models(manifest(model), ["big"], Role.WORKER_GPU)
    assert disks.choose_models(manifest(model), ["big"], Role.WORKER_CPU) == [model]


def test_unknown_model_is_refused() -> None:
    with pytest.raises(PolicyError, match="no such model"):
        disks.choose_models(manifest(TINY), ["tiny", "other"], Role.WORKER_CPU)


def test_no_model_is_an_error() -> None:
    with pytest.raises(ConfigError):
        disks.choose_models(manifest(TINY), [], Role.WORKER_CPU)


# Linux


def test_disks_are_found_by_serial_number(tmp_path: Path) -> None:
    for name, serial in {
        "vda": "confide-system",
        "vdb": "confide-config",
        "vdc": "confide-model-1",
        "vdd": "confide-model-0\n",
        "vde": "confide-model-",
        "vdf": "confide-model-0x",
        "vdg": "not-confide-model-0",
    }.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "serial").write_text(serial)
    (tmp_path / "loop0").mkdir()
    (tmp_path / "vdh").mkdir()
    (tmp_path / "vdh" / "serial").write_bytes(b"\xff\xfe")
    found = disks.Linux(block=tmp_path).model_disks()
    assert found == [Path("/dev/vdc"), Path("/dev/vdd")]


def test_real_reads(tmp_path: Path) -> None:
    device = tmp_path / "vdb"
    device.write_bytes(TINY_DISK)
    linux = disks.Linux()
    assert linux.size(device) == len(TINY_DISK)
    assert linux.read(device, TINY.hash_offset, BLOCK) == TINY_DISK[TINY.hash_offset :][:BLOCK]
    assert linux.read(device, len(TINY_DISK), BLOCK) == b""


def test_mount_error_is_an_os_error(tmp_path: Path) -> None:
    with pytest.raises(OSError, match=r"Operation not permitted|No such device|No such file"):
        disks.Linux().mount(tmp_path / "none", tmp_path / "nowhere")


# the program


class Worker:
    """A machine around `disks.run`: its config, its binding, its files and systemd.

    It is bound to `bound`, and its role program hands `handed` over at the second look.
    """

    def __init__(
        self, folder: Path, patch: pytest.MonkeyPatch, bound: bytes, *names: str, handed: bytes
    ) -> None:
        self.models_file = folder / "models.json"
        self.listener = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.listener.bind(str(folder / "notify"))
        self.listener.setblocking(False)
        handed_over = folder / "manifest.json"

        def sleep(_seconds: float) -> None:
            handed_over.write_bytes(handed)

        patch.setenv("NOTIFY_SOCKET", str(folder / "notify"))
        patch.setattr(disks, "read_role", lambda: Role.WORKER_CPU)
        config = ConfigDisk(sha256(bound).digest(), "http://coordinator", (), names)
        patch.setattr(disks, "read_config", lambda: config)
        patch.setattr(disks, "read_binding", sha256(bound).digest)
        patch.setattr(disks, "take_over", lambda binding: take_over(binding, handed_over))
        patch.setattr(disks, "MODELS_FILE", self.models_file)
        patch.setattr(disks, "MOUNTS", folder / "models")
        patch.setattr(disks, "FOLDERS", folder / "engines")
        patch.setattr("time.sleep", sleep)

    def said_ready(self) -> bool:
        try:
            return self.listener.recv(100) == b"READY=1"
        except BlockingIOError:
            return False


def test_program_serves_until_a_block_is_wrong(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = manifest(TINY, OTHER).encode()
    worker = Worker(tmp_path, monkeypatch, data, "tiny", handed=data)
    good, bad = "0 24 verity V\n", "0 24 verity C\n"
    system = SimulatedSystem({"vdb": TINY_DISK}, status={"model-tiny": [good, good, good, bad]})
    with pytest.raises(VerificationError) as caught:
        disks.run(system)
    assert caught.value.code == "corrupt-model-disk"
    assert worker.said_ready()
    assert parse_models(worker.models_file.read_bytes()) == (
        ServedModel("tiny", tmp_path / "models" / "1", TINY.root_hash, TINY.tasks),
    )
    assert not system.mounts
    assert not system.tables


@pytest.mark.parametrize(
    ("data", "names", "device", "status"),
    [
        (manifest(TINY).encode(), ["tiny"], OTHER_DISK, "V"),
        (manifest(TINY).encode(), ["tiny", "other"], TINY_DISK, "V"),
        (manifest(TINY, OTHER).encode(), ["tiny", "other"], TINY_DISK, "V"),
        (manifest(TINY).encode()[:-1], ["tiny"], TINY_DISK, "V"),
        (manifest(TINY).encode(), ["tiny"], TINY_DISK, "C"),
    ],
    ids=["wrong-disk", "unknown-model", "second-disk-missing", "bad-manifest", "corrupt"],
)
def test_program_is_never_ready_after_an_error(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    data: bytes,
    names: list[str],
    device: bytes,
    status: str,
) -> None:
    worker = Worker(tmp_path, monkeypatch, data, *names, handed=data)
    system = SimulatedSystem({"vdb": device}, status={"model-tiny": [f"0 24 verity {status}"]})
    with pytest.raises(ConfideError):
        disks.run(system)
    assert not worker.said_ready()
    assert not worker.models_file.exists()
    assert not system.mounts
    assert not system.tables


def test_manifest_of_a_stranger_mounts_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who answers first on the network, or has the role program, names a crafted file system."""
    genuine = manifest(TINY).encode()
    crafted, disk = model_disk("tiny", blocks=5)
    worker = Worker(tmp_path, monkeypatch, genuine, "tiny", handed=manifest(crafted).encode())
    system = SimulatedSystem({"vdb": disk})
    with pytest.raises(VerificationError) as caught:
        disks.run(system)
    assert caught.value.code == "other-manifest"
    assert sha256(genuine).hexdigest() in caught.value.expected
    assert not system.touched
    assert not worker.said_ready()


def test_a_machine_in_inventory_waits_and_asks_for_no_config_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may have none. If the program ended, its unit would power the machine off."""
    looks: list[float] = []

    class StoppedError(Exception):
        pass

    def sleep(seconds: float) -> None:
        looks.append(seconds)
        if len(looks) == 3:
            raise StoppedError

    worker = Worker(tmp_path, monkeypatch, b"", handed=b"")
    monkeypatch.setattr("time.sleep", sleep)
    monkeypatch.setattr(disks, "read_binding", lambda: UNBOUND)
    monkeypatch.setattr(disks, "read_config", lambda: pytest.fail("the config disk was read"))
    system = SimulatedSystem({"vdb": TINY_DISK})
    with pytest.raises(StoppedError):
        disks.run(system)
    assert not system.touched
    assert not worker.said_ready()


def test_main_prints_the_error_and_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    data = manifest(TINY).encode()
    Worker(tmp_path, monkeypatch, data, "tiny", handed=data)
    monkeypatch.setattr(disks, "Linux", lambda: SimulatedSystem({"vdb": OTHER_DISK}))
    assert disks.main() == 1
    said = capsys.readouterr().err
    assert f"root hash {TINY.root_hash.hex()}" in said
    assert said.endswith("the machine powers off\n")


def test_a_disk_that_cannot_be_read_ends_with_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Broken(SimulatedSystem):
        def size(self, device: Path) -> int:
            raise OSError(5, "Input/output error", str(device))

    data = manifest(TINY).encode()
    Worker(tmp_path, monkeypatch, data, "tiny", handed=data)
    monkeypatch.setattr(disks, "Linux", lambda: Broken({"vdb": TINY_DISK}))
    assert disks.main() == 1
    first, second = capsys.readouterr().err.splitlines()
    assert "/dev/vdb" in first
    assert second == "confide-disks: the machine powers off"


def test_notify_takes_an_abstract_address(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    name = f"confide-test-{tmp_path.name}-{id(tmp_path)}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind("\0" + name)
        listener.setblocking(False)
        monkeypatch.setenv("NOTIFY_SOCKET", "@" + name)
        disks.notify("READY=1")
        assert listener.recv(100) == b"READY=1"


# models file


def test_models_file_round_trip_is_strict() -> None:
    model = ServedModel("tiny", Path("/run/confide/models/1"), bytes(range(32)), ("chat",))
    data = encode_models([model])
    assert parse_models(data) == (model,)
    for bad in (data[:-1], data.replace(b'"name"', b'"nome"'), data.replace(b"tiny", b"../x", 1)):
        with pytest.raises(FormatError):
            parse_models(bad)
