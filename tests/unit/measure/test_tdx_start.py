"""A machine's tables are only measured for the shape whose machine they are of."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import build_acpi_tables
import pytest

from measure.__main__ import main
from measure.errors import FormatError
from measure.tdx import acpi
from measure.tdx.start import Start, summary_of
from tests.support import qemu_acpi
from tests.support.measurement import builders
from tests.support.measurement import tdx_builders as build

SHAPE = {
    "name": "qemu-11.1-4", "vcpus": 4, "disks": 2, "gpus": 0, "machine": "pc-q35-11.1,hpet=off",
    "memory_mib": 2048, "edk2": "2026.08", "page_order": "single-pass",
    "attributes": "0x10000000", "xfam": "0x3", "boot": "direct",
}  # fmt: skip
Measure = Callable[[], tuple[int, str]]


@pytest.fixture
def measure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Measure:
    """Measures an image for SHAPE, whose machine is described in the folder `acpi`."""
    monkeypatch.chdir(tmp_path)
    folder = Path("acpi", str(SHAPE["name"]))
    folder.mkdir(parents=True)
    write_tables(folder, processors=4)
    Path("disk").write_bytes(builders.bootable_disk())
    Path("fw").write_bytes(build.firmware())
    shapes = {"format": "confide-shapes/1", "vtpm": [], "sev-snp": [], "tdx": [SHAPE]}
    Path("shapes").write_text(json.dumps(shapes))
    start_with(SHAPE)

    def call() -> tuple[int, str]:
        arguments = "image --disk disk --shapes shapes --firmware-tdx fw --acpi acpi -o out"
        return main(arguments.split()), capsys.readouterr().err

    return call


def write_tables(folder: Path, processors: int) -> None:
    """A machine whose tables list this many processors, of both kinds, and one I/O APIC."""
    kinds = [(0, 8), (9, 16)] * processors
    listed = [(1, 12), *kinds[:processors]]
    madt = bytes(8) + b"".join(bytes([kind, size]).ljust(size, b"\0") for kind, size in listed)
    rebuilt = qemu_acpi.rebuild(build.acpi_tables(madt=madt))
    files = {"table-loader": rebuilt.loader, "rsdp": rebuilt.rsdp, "tables": rebuilt.tables}
    for name, data in (build.machine_files() | files).items():
        (folder / name).write_bytes(data)


def start_with(shape: dict[str, Any]) -> None:
    """Writes the arguments of a machine beside the folder of SHAPE."""
    text = "\n".join(build_acpi_tables.launch(shape))
    Path("acpi", f"{SHAPE['name']}.arguments").write_text(text + "\n")


def test_the_machine_of_the_shape(measure: Measure) -> None:
    assert measure() == (0, "")


@pytest.mark.parametrize(
    ("change", "seen"),
    [
        ({"vcpus": 8}, "-smp 8"),
        ({"disks": 1}, ", 1 disks, 0 PCIe ports, 0 GPUs"),
        ({"gpus": 2}, ", 2 disks, 2 PCIe ports, 2 GPUs"),
        ({"gpus": 1}, "-global q35-pcihost.pci-hole64-size=4096G"),
        ({"memory_mib": 4096}, "-m 4096"),
        ({"machine": "pc-q35-11.1"}, "-machine pc-q35-11.1,confidential"),
        ({"machine": "\x1b[2J"}, r"-machine \x1b[2J,confidential"),
    ],
)
def test_another_machine(measure: Measure, change: dict[str, Any], seen: str) -> None:
    start_with(SHAPE | change)
    status, said = measure()
    assert status == 2
    assert "shape qemu-11.1-4: the arguments beside its folder start a different machine" in said
    expected, _, other = said.partition(" seen ")
    assert "-m 2048 -machine pc-q35-11.1,hpet=off,confidential" in expected
    assert "-smp 4, 2 disks" in expected
    assert seen in other


def test_the_tables_of_another_machine(measure: Measure) -> None:
    write_tables(Path("acpi", str(SHAPE["name"])), processors=5)
    status, said = measure()
    assert status == 2
    assert (
        "the ACPI tables belong to a machine with another number of vCPUs; expected 4, seen 5"
        in said
    )


@pytest.mark.parametrize("entry", [b"\0", b"\0\0", b"\0\1", b"\0\x08\0"])
def test_a_malformed_list_of_processors(entry: bytes) -> None:
    tables = build.acpi_table(b"APIC", bytes(8) + entry).ljust(acpi.TABLES_UNIT, b"\0")
    with pytest.raises(FormatError):
        acpi.processors(acpi.Tables(b"", b"", tables), "m")


def test_a_folder_without_arguments(measure: Measure) -> None:
    Path("acpi", f"{SHAPE['name']}.arguments").unlink()
    status, said = measure()
    assert status == 2
    assert "seen no qemu-11.1-4.arguments" in said


def test_options_that_are_there_twice_or_not_at_all() -> None:
    arguments = build_acpi_tables.launch(SHAPE)
    expected = Start(4, 2, 0, "pc-q35-11.1,hpet=off").summary(2048)
    assert summary_of(arguments) == expected
    assert summary_of([*arguments, "-smp", "8"]) != expected
    at = arguments.index("-smp")
    assert summary_of(arguments[:at] + arguments[at + 2 :]) != expected


def test_gpus_behind_ports_of_their_own() -> None:
    """Less window, port or GPU, or one GPU more behind a port, is another machine."""
    arguments = build_acpi_tables.launch(SHAPE | {"gpus": 2})
    expected = Start(4, 2, 2, "pc-q35-11.1,hpet=off").summary(2048)
    assert summary_of(arguments) == expected
    for option in ("-global", "-device"):
        for at in [at for at, word in enumerate(arguments) if word == option]:
            if not arguments[at + 1].startswith("virtio-net"):
                assert summary_of(arguments[:at] + arguments[at + 2 :]) != expected
    assert summary_of([*arguments, "-device", "vfio-pci,bus=gpu1"]) != expected
