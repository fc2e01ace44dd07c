"""What a booted image proves about itself, and no longer can once a byte has changed."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

import pytest

from confide.client.collateral.finder import offline
from confide.client.service import set_manifest
from confide.commands.system import ROLES, Build, System
from confide.errors import ConfideError, UnavailableError
from confide.host.manifest_builder import stamp
from confide.host.runner.vm import Machine
from confide.protocol.configdisk import ConfigDisk
from confide.protocol.manifest import Manifest
from measure import eventlog, gpt, image, uki
from measure.tdx.shape import Boot
from tests.support import rehashed
from tests.support.attested import evidence, explained, predicted_pcrs, quoted_pcrs

BOOT_SECONDS = 300


@pytest.fixture(scope="module")
def pcrs(system: System) -> dict[int, bytes]:
    return quoted_pcrs(system.machine("coordinator").url)


@pytest.fixture(scope="module")
def predicted(build: Build) -> dict[str, str]:
    return predicted_pcrs(build.images / "coordinator")["ovmf-disk"]


@pytest.mark.parametrize("register", [0, 2, 3, 4, 5, 7, 8, 9, 11, 12, 13, 14])
def test_prediction_equals_the_quote(
    pcrs: dict[int, bytes], predicted: dict[str, str], register: int
) -> None:
    assert pcrs[register].hex() == predicted[str(register)]


def test_explain_finds_no_difference(system: System, build: Build) -> None:
    sent = evidence(system.machine("coordinator").url)
    found = explained(sent, build.images / "coordinator")
    assert (found.compared_with, found.differences, found.notes) == ("ovmf-disk", (), ())


def test_what_a_tdx_machine_would_have_measured(
    system: System, build: Build, firmware: Path, acpi_tables: Path
) -> None:
    disk = rehashed.read_disk(build.images / "coordinator")
    log = eventlog.parse(evidence(system.machine("coordinator").url).event_log)
    expected = rehashed.predicted(disk, Boot.DISK, firmware, acpi_tables)
    assert rehashed.logged(log, disk) == expected


def test_manifest_pins_what_was_predicted_for_every_role(build: Build) -> None:
    manifest = Manifest.parse(build.manifest.read_bytes())
    assert set(manifest.roles) == set(ROLES)
    for role in ROLES:
        [reference] = manifest.role(role).vtpm
        pinned = {str(n): v.hex() for n, v in reference.pcrs.items()}
        assert pinned == predicted_pcrs(build.images / role)["ovmf-disk"]


def test_measurements_name_their_image(build: Build) -> None:
    for role in ROLES:
        report = json.loads((build.images / role / "measurements.json").read_text())
        assert report["image"] == role


def test_all_roles_differ(build: Build) -> None:
    """Equal layers, yet no role can pass for another."""
    manifest = Manifest.parse(build.manifest.read_bytes())
    assert len({manifest.role(role).vtpm[0].pcrs[11] for role in ROLES}) == len(ROLES)


# --- a changed byte ---------------------------------------------------------------------------


class Altered:
    """A copy of the coordinator's disk in which a test changes bytes."""

    def __init__(self, build: Build, folder: Path) -> None:
        shutil.copy(build.images / "coordinator" / "disk.raw", folder / "disk.raw")
        (folder / "disk.raw").chmod(0o644)
        self.folder, self.path = folder, folder / "disk.raw"
        data = self.path.read_bytes()
        self.table = gpt.parse(data, str(self.path))
        self.uki = image.parse(data, str(self.path)).uki

    def flip(self, offset: int) -> None:
        with self.path.open("r+b") as file:
            file.seek(offset)
            byte = file.read(1)[0]
            file.seek(offset)
            file.write(bytes([byte ^ 1]))

    def flip_in_section(self, section: uki.Section, at: bytes) -> None:
        """Flip the last byte of `at`, looked for in a section of the UKI on the ESP."""
        content = self.uki.sections[section]
        start = self.path.read_bytes().index(content)
        self.flip(start + content.index(at) + len(at) - 1)


@pytest.fixture
def altered(build: Build, tmp_path: Path) -> Iterator[Altered]:
    folder = tmp_path / "image"
    folder.mkdir()
    yield Altered(build, folder)


def refusal(build: Build, folder: Path, run_dir: Path, extra: tuple[str, ...] = ()) -> str:
    """Boot a coordinator from a folder; the error that setting the manifest on it raises."""
    manifest = stamp(build.manifest.read_bytes(), now=int(time.time()))
    config = ConfigDisk(sha256(manifest).digest())
    machine = Machine(
        folder, "coordinator", config=config, run_dir=run_dir, tools=build.tools, extra=extra
    )
    with machine:
        machine.wait_ready(BOOT_SECONDS)
        with pytest.raises(ConfideError) as caught:
            set_manifest(machine.url, manifest, offline())
    return str(caught.value)


def test_changed_byte_in_the_unified_kernel_image(
    build: Build, altered: Altered, tmp_path: Path
) -> None:
    altered.flip_in_section(uki.Section.OSREL, b"NAME=")
    said = refusal(build, altered.folder, tmp_path / "run")
    assert "PCR 4" in said
    assert "unified kernel image" in said


def test_changed_byte_in_the_command_line(build: Build, altered: Altered, tmp_path: Path) -> None:
    altered.flip_in_section(uki.Section.CMDLINE, b"slab_nomerge")
    said = refusal(build, altered.folder, tmp_path / "run")
    assert "PCR 4" in said
    assert "command line" in said


def test_command_line_added_by_the_host(build: Build, tmp_path: Path) -> None:
    """The stub takes SMBIOS strings as extra command line; PCR 12 is pinned to none."""
    extra = ("-smbios", "type=11,value=io.systemd.stub.kernel-cmdline-extra=systemd.debug_shell=1")
    said = refusal(build, build.images / "coordinator", tmp_path / "run", extra)
    assert "PCR 9" in said or "PCR 12" in said
    assert "command line" in said


def test_changed_byte_in_the_root_file_system(
    build: Build, config: ConfigDisk, altered: Altered, tmp_path: Path
) -> None:
    """The machine never gets as far as attesting: the block does not match the root hash."""
    base = next(p for p in altered.table.partitions if p.label == "base")
    altered.flip(base.start + 1024)  # the erofs superblock: read by every mount
    machine = Machine(
        altered.folder, "coordinator", config=config, run_dir=tmp_path / "run", tools=build.tools
    )
    with machine, pytest.raises(UnavailableError) as caught:
        machine.wait_ready(BOOT_SECONDS)
    assert "verity" in machine.console.read_text(errors="replace")
    assert "coordinator" in str(caught.value)


def test_debug_image(build: Build, debug_image: Path, tmp_path: Path) -> None:
    said = refusal(build, debug_image, tmp_path / "run")
    assert "PCR 11" in said or "PCR 4" in said
