"""A machine whose firmware is handed the kernel: as SEV-SNP and TDX machines boot, with a vTPM."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from confide.commands.system import Build
from confide.host.runner.vm import Machine
from confide.protocol.configdisk import ConfigDisk
from confide.protocol.evidence import Evidence, VtpmReport
from measure import eventlog
from measure.pcr import Component
from measure.tdx.shape import Boot
from tests.support import rehashed
from tests.support.attested import evidence, explained, predicted_pcrs

BOOT_SECONDS = 300


@pytest.fixture(scope="module")
def attested(
    build: Build, config: ConfigDisk, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Evidence]:
    machine = Machine(
        build.images / "coordinator",
        "coordinator",
        config=config,
        run_dir=tmp_path_factory.mktemp("direct"),
        tools=build.tools,
        direct=True,
    )
    with machine:
        machine.wait_ready(BOOT_SECONDS)
        yield evidence(machine.url)


@pytest.fixture(scope="module")
def pcrs(attested: Evidence) -> dict[int, bytes]:
    return dict(VtpmReport.parse(attested.report).pcrs)


@pytest.fixture(scope="module")
def predicted(build: Build) -> dict[str, dict[str, str]]:
    return predicted_pcrs(build.images / "coordinator")


@pytest.mark.parametrize("register", [0, 2, 3, 4, 5, 7, 8, 9, 11, 12, 13, 14])
def test_prediction_equals_the_quote(
    pcrs: dict[int, bytes], predicted: dict[str, dict[str, str]], register: int
) -> None:
    assert pcrs[register].hex() == predicted["ovmf-direct"][str(register)]


def test_no_register_that_shows_the_way_of_booting_is_that_of_a_disk_boot(
    pcrs: dict[int, bytes], predicted: dict[str, dict[str, str]]
) -> None:
    """The same image booted another way is another machine, and a manifest pins one of them."""
    for register in (4, 5, 9, 11):
        assert pcrs[register].hex() != predicted["ovmf-disk"][str(register)]


def test_explain_finds_no_difference(attested: Evidence, build: Build) -> None:
    found = explained(attested, build.images / "coordinator")
    assert (found.compared_with, found.differences, found.notes) == ("ovmf-direct", (), ())


def test_explain_names_what_another_image_differs_in(attested: Evidence, build: Build) -> None:
    found = explained(attested, build.images / "secret-service").differences
    assert [(d.register, d.component) for d in found] == [("PCR 9", Component.COMMAND_LINE)]


def test_the_parts_are_those_of_the_unified_kernel_image(build: Build) -> None:
    folder: Path = build.images / "coordinator"
    image = (folder / "uki.efi").read_bytes()
    for name in ("linux", "initrd", "cmdline"):
        assert (folder / "boot" / name).read_bytes() in image


def test_what_a_tdx_machine_would_have_measured(
    attested: Evidence, build: Build, firmware: Path, acpi_tables: Path
) -> None:
    disk = rehashed.read_disk(build.images / "coordinator")
    seen = rehashed.logged(eventlog.parse(attested.event_log), disk)
    assert seen == rehashed.predicted(disk, Boot.DIRECT, firmware, acpi_tables)
