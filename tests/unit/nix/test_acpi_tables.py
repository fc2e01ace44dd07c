"""An emulated machine is described to its firmware as the confidential one is."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import build_acpi_tables
import fw_cfg
import pytest

ROOT = Path(__file__).parents[3]
SHAPES = [
    shape
    for name in ("shapes", "shapes-gpu")
    for shape in json.loads((ROOT / f"images/{name}.json").read_text())["tdx"]
]


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: str(shape["name"]))
def test_only_accelerator_processor_and_gpus_differ(shape: dict[str, Any]) -> None:
    emulated = build_acpi_tables.arguments(shape, emulated=True)
    real = build_acpi_tables.arguments(shape, emulated=False)
    machine = str(shape["machine"])
    backend = "iommufd=iommufd0,rombar=0"
    assert f"{machine},memory-backend=memory" in emulated
    assert f"{machine},confidential-guest-support=tdx0" in real
    assert [word for word in emulated if word not in real] == [
        f"{machine},memory-backend=memory",
        "tcg",
        "max,phys-bits=46,vendor=GenuineIntel",
        f"memory-backend-ram,id=memory,reserve=off,size={shape['memory_mib']}M",
        *(f"pci-testdev,bus=gpu{n},membar=256G" for n in range(shape["gpus"])),
    ]
    assert [word for word in real if word not in emulated] == [
        f"{machine},confidential-guest-support=tdx0",
        "kvm",
        "host",
        "tdx-guest,id=tdx0",
        *(["iommufd,id=iommufd0"] if shape["gpus"] else []),
        *(f"vfio-pci,bus=gpu{n},host=GPU{n},{backend}" for n in range(shape["gpus"])),
    ]
    assert real.count("q35-pcihost.pci-hole64-size=4096G") == bool(shape["gpus"])


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: str(shape["name"]))
def test_machine_has_what_a_td_has(shape: dict[str, Any]) -> None:
    """QEMU turns these off by itself for a TD, and cannot for a machine that it emulates."""
    options = str(shape["machine"]).split(",")
    assert {"kernel-irqchip=split", "smm=off", "pic=off"} <= set(options)
    assert options[0].startswith("pc-q35-")  # a version, so that another QEMU makes the same


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: str(shape["name"]))
def test_what_the_flake_built(acpi_tables: Path, shape: dict[str, Any]) -> None:
    folder = acpi_tables / str(shape["name"])
    sizes = {path.name: path.stat().st_size for path in folder.iterdir()}
    smbios = sizes.pop("smbios")
    assert 256 < smbios < 4096
    assert sizes == {
        "table-loader": 4096,
        "rsdp": 20,
        "tables": 128 << 10,
        "bootorder": len("/rom@genroms/linuxboot_dma.bin\0"),
        "boot-menu": 2,
    }
    tables = (folder / "tables").read_bytes()
    apic = tables.index(b"APIC")
    length = int.from_bytes(tables[apic + 4 : apic + 8], "little")
    assert tables[apic + 40 : apic + 44] == bytes(4)  # flags: no PC/AT interrupt controllers
    local = tables[apic + 44 : apic + length].count(b"\0\x08")
    assert local == shape["vcpus"]
    arguments = acpi_tables.joinpath(f"{shape['name']}.arguments").read_text().splitlines()
    assert arguments == build_acpi_tables.launch(shape)


def run(argv: list[str], console: Path, seconds: float) -> None:
    with fw_cfg.run(argv, console=console, until=b"up", memory=1 << 30, seconds=seconds):
        pass


def test_a_machine_that_ends_early_shows_its_console(tmp_path: Path) -> None:
    (tmp_path / "console").write_text("no bootable device")
    with pytest.raises(fw_cfg.GuestError, match=r"before QEMU ended \(3\).*\n.*no bootable"):
        run([sys.executable, "-c", "raise SystemExit(3)"], tmp_path / "console", 30)


def test_a_machine_that_hangs_is_ended(tmp_path: Path) -> None:
    with pytest.raises(fw_cfg.GuestError, match="did not say 'up' in 0 s"):
        run([sys.executable, "-c", "import time; time.sleep(60)"], tmp_path / "console", 0.2)


def entry_point(size: int = 100, address: int = 0x1000) -> bytes:
    """An SMBIOS 2.8 entry point, 31 bytes."""
    entry = bytearray(b"_SM_\0\x1f\x02\x08").ljust(fw_cfg.ANCHOR_SIZE, b"\0")
    entry[22:28] = size.to_bytes(2, "little") + address.to_bytes(4, "little")
    entry[4] = -sum(entry) % 256
    return bytes(entry)


def test_entry_points_are_at_multiples_of_16_and_sum_to_zero() -> None:
    good = entry_point()
    wrong = bytes([*good[:-1], good[-1] ^ 1])
    memory = bytes(8) + good + bytes(25) + wrong + bytes(1) + good + bytes(1) + good[:20]
    assert memory.index(good, 40) % 16 == 0
    assert list(fw_cfg._anchors(memory)) == [good]
