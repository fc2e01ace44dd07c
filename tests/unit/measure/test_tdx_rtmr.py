"""TDX registers: which events, in which order, for which shape."""

from __future__ import annotations

import dataclasses
import hashlib
from typing import Any

import pytest

from measure import image, pe
from measure.errors import InputError, UnsupportedError
from measure.tdx import hob, machine, mrtd, rtmr, tdvf
from measure.tdx.shape import PageOrder
from tests.support import qemu_acpi
from tests.support.measurement import builders
from tests.support.measurement import tdx_builders as build
from tests.support.measurement.tdx_shapes import DIRECT, DISK, OLD, OLDER


def sha384(data: bytes) -> bytes:
    return hashlib.sha384(data).digest()


@pytest.fixture(scope="module")
def firmware() -> tdvf.Tdvf:
    return tdvf.parse(build.firmware(), "fw")


@pytest.fixture(scope="module")
def described() -> machine.Machine:
    return machine.parse(build.machine_files(), "m")


@pytest.fixture(scope="module")
def disk() -> image.DiskImage:
    return image.parse(builders.bootable_disk(), "disk")


@pytest.fixture(scope="module")
def kernel(disk: image.DiskImage) -> rtmr.DirectBoot:
    return rtmr.direct_boot(disk.uki)


def described_by(version: bytes) -> machine.Machine:
    """A machine whose firmware says that it is of this version."""
    files = {**build.machine_files(), "smbios": build.smbios(version=version)}
    return machine.parse(files, "m")


def names(prediction: rtmr.Prediction, register: int) -> list[str]:
    return [event.description for event in prediction.of(register)]


SECURE_BOOT = [
    "variable SecureBoot (empty)", "variable PK (empty)", "variable KEK (empty)",
    "variable db (empty)", "variable dbx (empty)", "separator",
]  # fmt: skip
ACPI = ["fw_cfg etc/table-loader", "fw_cfg etc/acpi/rsdp", "fw_cfg etc/acpi/tables"]
MEMORY = ["TD HOB: 2147483648 bytes of memory", "configuration volume (no variables)"]
EXIT = ["Exit Boot Services Invocation", "Exit Boot Services Returned with Success"]
CALLING = "Calling EFI Application from Boot Option"


def test_direct_boot(
    firmware: tdvf.Tdvf, described: machine.Machine, kernel: rtmr.DirectBoot
) -> None:
    found = rtmr.predict(DIRECT, firmware, described, kernel)
    assert names(found, 0) == [
        *MEMORY, "fw_cfg BootMenu", "fw_cfg bootorder", *SECURE_BOOT, *ACPI,
        "SMBIOS table, filtered", "variable BootOrder", "variable Boot0000",
    ]  # fmt: skip
    assert names(found, 1) == ["PE image of the kernel", CALLING, "separator", *EXIT]
    assert [event.digest for event in found.of(2)] == [
        sha384(f"initrd=initrd {kernel.command_line}\0".encode("utf-16-le")),
        sha384(kernel.initrd),
    ]
    assert found.of(1)[0].digest == pe.parse(kernel.kernel, "k").authenticode("sha384")
    assert names(found, 3) == []
    assert found.rtmrs()[3] == bytes(48)
    assert found.mrtd == {order: mrtd.measure(firmware, order) for order in PageOrder}


def test_what_the_events_of_rtmr_0_are_digests_of(
    firmware: tdvf.Tdvf, described: machine.Machine, kernel: rtmr.DirectBoot
) -> None:
    digests = [e.digest for e in rtmr.predict(DIRECT, firmware, described, kernel).of(0)]
    files = build.machine_files()
    assert digests[:4] == [
        sha384(hob.build(firmware, DIRECT.memory)),
        sha384(build.variable_store()),
        sha384(files["boot-menu"]),
        sha384(files["bootorder"]),
    ]
    assert digests[10:14] == [
        *(sha384(files[name]) for name in ("table-loader", "rsdp", "tables")),
        sha384(described.smbios),
    ]
    assert digests[14:] == [sha384(data) for _, data in DIRECT.measured_boot_variables()]


def test_a_machine_without_boot_order(
    firmware: tdvf.Tdvf, described: machine.Machine, kernel: rtmr.DirectBoot
) -> None:
    """Firmware measures no empty item of fw_cfg, except the boot menu's."""
    without = dataclasses.replace(described, bootorder=b"")
    assert "fw_cfg bootorder" not in names(rtmr.predict(DIRECT, firmware, without, kernel), 0)


def test_old_firmware(firmware: tdvf.Tdvf, kernel: rtmr.DirectBoot) -> None:
    found = rtmr.predict(OLD, firmware, described_by(b"2025.02-8"), kernel)
    boot_variables = ["variable BootOrder", "variable Boot0000"]
    assert names(found, 0) == [*MEMORY, *SECURE_BOOT, *ACPI, *boot_variables]
    assert names(found, 1) == ["PE image of the kernel", CALLING, "separator", *EXIT]
    command_line = f"{kernel.command_line} initrd=initrd\0".encode("utf-16-le")
    assert found.of(2)[0].digest == sha384(command_line)
    assert "UiApp".encode("utf-16-le") in OLD.measured_boot_variables()[1][1]

    older = rtmr.predict(OLDER, firmware, described_by(b"unknown"), kernel)
    assert names(older, 0) == [*MEMORY, *SECURE_BOOT, *ACPI, *boot_variables, "separator"]
    assert names(older, 1) == ["PE image of the kernel", CALLING, *EXIT]
    assert older.rtmrs()[2] == found.rtmrs()[2]


def test_boot_from_disk(
    firmware: tdvf.Tdvf, described: machine.Machine, disk: image.DiskImage
) -> None:
    found = rtmr.predict(DISK, firmware, described, disk)
    assert names(found, 0)[-3:] == ["variable BootOrder", "variable Boot0002", "variable Boot0001"]
    assert names(found, 1) == [
        CALLING, "separator", "partitions ESP, base", "PE image of the UKI",
        "PE image of the kernel", *EXIT,
    ]  # fmt: skip
    sections = [".linux", ".osrel", ".cmdline", ".initrd", ".uname", ".sbat"]
    assert names(found, 2) == [
        *(text for s in sections for text in (f"name of section {s}", f"section {s}")),
        "command line given to the kernel", "initrd given to the kernel",
    ]  # fmt: skip
    digests = [event.digest for event in found.of(1)]
    assert digests[2:4] == [sha384(disk.table.event_data), disk.uki.image.authenticode("sha384")]
    assert found.of(2)[-1].digest == sha384(disk.uki.initrd)
    assert found.of(2)[-2].digest == sha384((disk.uki.command_line + "\0").encode("utf-16-le"))


def test_a_direct_boot_of_a_disks_kernel(
    firmware: tdvf.Tdvf,
    described: machine.Machine,
    disk: image.DiskImage,
    kernel: rtmr.DirectBoot,
) -> None:
    of_disk = rtmr.predict(DIRECT, firmware, described, disk)
    assert of_disk == rtmr.predict(DIRECT, firmware, described, kernel)


def test_the_description_of_another_machine(
    firmware: tdvf.Tdvf, described: machine.Machine, kernel: rtmr.DirectBoot
) -> None:
    larger = dataclasses.replace(DIRECT, memory=3 << 30)
    with pytest.raises(InputError, match="machine with another memory size"):
        rtmr.predict(larger, firmware, described, kernel)
    with pytest.raises(InputError, match=r"expected 2025.02, seen 2026.08\+ds-2"):
        rtmr.predict(OLD, firmware, described, kernel)


def test_boot_from_disk_without_a_disk(
    firmware: tdvf.Tdvf, described: machine.Machine, kernel: rtmr.DirectBoot
) -> None:
    with pytest.raises(InputError, match="needs a disk image"):
        rtmr.predict(DISK, firmware, described, kernel)


def test_a_stub_that_adds_something_random(firmware: tdvf.Tdvf, described: machine.Machine) -> None:
    magic = b"#### LoaderInfo: systemd-stub 262.1-1 ####"
    disk = image.parse(builders.bootable_disk(builders.uki({".sdmagic": magic})), "disk")
    with pytest.raises(UnsupportedError, match="random secret"):
        rtmr.predict(DISK, firmware, described, disk)
    rtmr.predict(DIRECT, firmware, described, disk)


def test_firmware_with_enrolled_keys(described: machine.Machine, kernel: rtmr.DirectBoot) -> None:
    enrolled = tdvf.parse(build.firmware(store=build.variable_store(b"\xaa\x55")), "fw")
    with pytest.raises(UnsupportedError, match="Secure Boot may be on"):
        rtmr.predict(DIRECT, enrolled, described, kernel)


CHANGES: dict[str, tuple[dict[str, Any], dict[str, Any], dict[str, Any], set[int]]] = {
    "memory": ({"memory": 3 << 30}, {"smbios": build.smbios(3 << 30)}, {}, {0}),
    "ACPI": ({}, {"tables": build.acpi_tables([b"FACS", b"DSDT", b"FACP", b"RSDT"])}, {}, {0}),
    "SMBIOS": ({}, {"smbios": build.structure(127, b"")}, {}, {0}),
    "boot menu": ({}, {"boot-menu": b"\1\0"}, {}, {0}),
    "boot order": ({}, {"bootorder": b"/x\0"}, {}, {0}),
    "kernel": ({}, {}, {"kernel": builders.pe([(".text", b"another")])}, {1}),
    "initrd": ({}, {}, {"initrd": b"another"}, {2}),
    "command line": ({}, {}, {"command_line": "another"}, {2}),
    "attributes": ({"attributes": 1}, {}, {}, set()),
}


@pytest.mark.parametrize("what", CHANGES)
def test_which_registers_show_a_change(
    firmware: tdvf.Tdvf, kernel: rtmr.DirectBoot, what: str
) -> None:
    in_shape, in_files, in_kernel, expected = CHANGES[what]
    files = {**build.machine_files(), **in_files}
    if "tables" in in_files:
        rebuilt = qemu_acpi.rebuild(in_files["tables"])
        files |= {"table-loader": rebuilt.loader, "rsdp": rebuilt.rsdp}
    before = rtmr.predict(DIRECT, firmware, machine.parse(build.machine_files(), "m"), kernel)
    after = rtmr.predict(
        dataclasses.replace(DIRECT, **in_shape),
        firmware,
        machine.parse(files, "m"),
        dataclasses.replace(kernel, **in_kernel),
    )
    seen = {n for n in range(4) if before.rtmrs()[n] != after.rtmrs()[n]}
    assert seen == expected


def test_registers_are_folds_of_their_events(
    firmware: tdvf.Tdvf, described: machine.Machine, disk: image.DiskImage
) -> None:
    found = rtmr.predict(DISK, firmware, described, disk)
    for number, value in found.rtmrs().items():
        expected = bytes(48)
        for event in found.events:
            if event.rtmr == number:
                expected = sha384(expected + event.digest)
        assert value == expected


def test_mapping_of_tpm_registers() -> None:
    assert rtmr.RTMR_OF_PCR == {
        1: 0, 7: 0, 2: 1, 3: 1, 4: 1, 5: 1, 6: 1,
        8: 2, 9: 2, 10: 2, 11: 2, 12: 2, 13: 2, 14: 2, 15: 2,
    }  # fmt: skip
