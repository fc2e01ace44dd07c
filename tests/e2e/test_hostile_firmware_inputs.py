"""A hostile host gives the firmware other things to start than what is measured.

For the SEV-SNP firmware each attack is tried on Debian's own binary, where some succeed, and on
the edited one of the flake, where none does (decision 105). The kernel is an image's own.

What emulation shows, and what not. The SEV-SNP firmware runs as it does in a confidential machine,
except that its probe for one says no: so Debian's own protection against option ROMs is off, and
the test shows that the edit does not need it. The TDX firmware has no registers here: the tests
show that it starts the host's program, and that the predicted RTMR is then another one. Only the
vTPM has registers that were read.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import pytest

from confide.commands.system import Build
from confide.host.runner.qemu import Tools
from measure import pe
from measure.pcr import CALLING_APPLICATION, action_event, separator_event
from measure.tdx.shape import Boot
from tests.support import rehashed
from tests.support.attested import predicted_pcrs
from tests.support.firmware_machine import Launch, Said, one_file, run, software_tpm, two_files
from tests.support.host_programs import BOOT_DRIVER, ROM_HEADER, option_rom, program

HOSTILE = "the program of the host runs"
GENUINE = r"EFI stub: Loaded initrd"  # the measured kernel has started, and asked for its initrd
FAILED = r"efi_stub_entry\(\) failed"  # the measured kernel returned to the firmware
STARTED = "Linux version"
BOOT_SECONDS = 120
SETTLE = 2  # a machine that says nothing is given this many times the time of a good boot
LITTLE_MIB = 96  # memory for the firmware, and too little for the kernel
NETWORK_CARD = (0x1AF4, 0x1000)  # PCI vendor and device

Way = Callable[[Path, Launch], list[str]]


@pytest.fixture(scope="module")
def launch(build: Build, tmp_path_factory: pytest.TempPathFactory) -> Launch:
    """A kernel with an initrd and a command line with which it soon says that it runs."""
    folder = tmp_path_factory.mktemp("launch")
    (folder / "initrd").write_bytes(b"no initrd: the test ends before it is opened\n")
    kernel = build.images / "coordinator/boot/linux"
    return Launch(kernel, folder / "initrd", "console=ttyS0 panic=-1")


@pytest.fixture(params=["debian", "ours"])
def amd(request: pytest.FixtureRequest, firmware: Path, debian_firmware: Path) -> tuple[str, Path]:
    """Debian's SEV-SNP firmware, and the flake's."""
    unedited = debian_firmware / "usr/share/ovmf/OVMF.amdsev.fd"
    name = str(request.param)
    return name, {"debian": unedited, "ours": firmware / "OVMF.amdsev.fd"}[name]


@pytest.fixture(scope="module")
def patience(
    tools: Tools, firmware: Path, launch: Launch, tmp_path_factory: pytest.TempPathFactory
) -> float:
    """Seconds after which a machine has done what it will do: measured on a good boot."""
    folder = tmp_path_factory.mktemp("good")
    edited = firmware / "OVMF.amdsev.fd"
    given = [*one_file(edited), *launch.hashes(edited.read_bytes(), folder / "page")]
    said = run(tools, folder, [*given, *launch.arguments()], GENUINE, BOOT_SECONDS)
    assert "Loaded initrd" in said.text
    return SETTLE * said.seconds


# --- ways in ------------------------------------------------------------------------------------


def hostile_file(folder: Path) -> Path:
    path = folder / "hostile.efi"
    path.write_bytes(program(HOSTILE))
    return path


def disk(folder: Path) -> list[str]:
    """A disk with a loader of the host's where firmware looks for one, named in the boot order."""
    loader = folder / "esp/EFI/BOOT/BOOTX64.EFI"
    loader.parent.mkdir(parents=True)
    loader.write_bytes(program(HOSTILE))
    drive = f"if=none,id=d,format=raw,readonly=on,file=fat:{folder / 'esp'}"
    return ["-drive", drive, "-device", "virtio-blk-pci,drive=d,bootindex=1"]


def card(folder: Path) -> list[str]:
    """A network card with an option ROM of the host's."""
    path = folder / "option.rom"
    path.write_bytes(option_rom(program(HOSTILE, BOOT_DRIVER), *NETWORK_CARD))
    return [
        *("-netdev", "user,id=n,restrict=on"),
        *("-device", f"virtio-net-pci,netdev=n,romfile={path}"),
    ]


def named(name: str, path: Path) -> list[str]:
    return ["-fw_cfg", f"name={name},file={path}"]


def shim(folder: Path, launch: Launch) -> list[str]:
    return [*launch.arguments(), "-shim", str(hostile_file(folder))]


def named_shim(folder: Path, launch: Launch) -> list[str]:
    return [*launch.arguments(), *named("etc/boot/shim", hostile_file(folder))]


def rom(folder: Path, launch: Launch) -> list[str]:
    return [*launch.arguments(), *card(folder)]


def rom_without_a_window(folder: Path, launch: Launch) -> list[str]:
    """With no 64-bit window, the driver that skips option ROMs for Debian's firmware gives up."""
    return [*rom(folder, launch), "-fw_cfg", "name=opt/ovmf/X-PciMmio64Mb,string=0"]


def other_names(folder: Path, launch: Launch) -> list[str]:
    path = hostile_file(folder)
    names = ("etc/boot/grub", "etc/boot/bootx64.efi", "opt/org.tianocore/shim")
    return [*launch.arguments(), *(word for name in names for word in named(name, path))]


def boot_order(folder: Path, launch: Launch) -> list[str]:
    return [*launch.arguments(), *disk(folder), "-boot", "menu=on,splash-time=0"]


def changed(path: Path, folder: Path) -> Path:
    """A copy with another last byte."""
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    copy = folder / f"changed-{path.name}"
    copy.write_bytes(data)
    return copy


def changed_kernel(folder: Path, launch: Launch) -> list[str]:
    kernel = changed(launch.kernel, folder)
    return Launch(kernel, launch.initrd, launch.command_line).arguments()


def changed_initrd(folder: Path, launch: Launch) -> list[str]:
    initrd = changed(launch.initrd, folder)
    return Launch(launch.kernel, initrd, launch.command_line).arguments()


def changed_command_line(folder: Path, launch: Launch) -> list[str]:
    return Launch(launch.kernel, launch.initrd, launch.command_line + " quiet").arguments()


def named_kernel(folder: Path, launch: Launch) -> list[str]:
    return named("etc/boot/kernel", hostile_file(folder))


def no_kernel(folder: Path, launch: Launch) -> list[str]:
    return disk(folder)


# --- SEV-SNP ------------------------------------------------------------------------------------


def snp(tools: Tools, image: Path, launch: Launch, folder: Path, way: Way, until: str) -> Said:
    given = [*one_file(image), *launch.hashes(image.read_bytes(), folder / "page")]
    return run(tools, folder, [*given, *way(folder, launch)], until, BOOT_SECONDS)


@pytest.mark.parametrize("way", [shim, named_shim, rom, rom_without_a_window])
def test_debian_s_binary_starts_the_host_s_program_and_ours_the_kernel(
    tools: Tools, amd: tuple[str, Path], launch: Launch, tmp_path: Path, way: Way
) -> None:
    name, image = amd
    said = snp(tools, image, launch, tmp_path, way, f"{HOSTILE}|{GENUINE}")
    assert (HOSTILE in said.text) == (name == "debian")
    assert ("Loaded initrd" in said.text) == (name == "ours")


def test_a_kernel_that_fails_for_lack_of_memory_leads_to_no_disk(
    tools: Tools, amd: tuple[str, Path], launch: Launch, tmp_path: Path, patience: float
) -> None:
    """A launch does not measure how much memory there is."""
    name, image = amd
    given = [*one_file(image), *launch.hashes(image.read_bytes(), tmp_path / "page")]
    given += [*launch.arguments(), *disk(tmp_path)]
    until = HOSTILE if name == "debian" else FAILED
    said = run(tools, tmp_path, given, until, BOOT_SECONDS, LITTLE_MIB, then=patience / SETTLE)
    assert "efi_stub_entry() failed" in said.text
    assert (HOSTILE in said.text) == (name == "debian")


@pytest.mark.parametrize("way", [other_names, boot_order])
def test_what_does_not_reach_the_kernel_changes_nothing(
    tools: Tools, firmware: Path, launch: Launch, tmp_path: Path, way: Way
) -> None:
    image = firmware / "OVMF.amdsev.fd"
    said = snp(tools, image, launch, tmp_path, way, f"{HOSTILE}|{GENUINE}")
    assert "Loaded initrd" in said.text


@pytest.mark.parametrize(
    "way", [changed_kernel, changed_initrd, changed_command_line, named_kernel, no_kernel]
)
def test_nothing_starts_in_place_of_what_is_measured(
    tools: Tools, firmware: Path, launch: Launch, tmp_path: Path, patience: float, way: Way
) -> None:
    image = firmware / "OVMF.amdsev.fd"
    given = [*one_file(image), *launch.hashes(image.read_bytes(), tmp_path / "page")]
    said = run(tools, tmp_path, [*given, *way(tmp_path, launch)], "EFI stub|" + HOSTILE, patience)
    assert said.text.strip() == ""


def test_the_image_boots(build: Build, tools: Tools, firmware: Path, tmp_path: Path) -> None:
    """The whole image, with its own initrd and command line, until its root is open."""
    folder = build.images / "coordinator"
    line = (folder / "boot/cmdline").read_text()
    genuine = Launch(folder / "boot/linux", folder / "boot/initrd", line)
    image = firmware / "OVMF.amdsev.fd"
    given = [*one_file(image), *genuine.hashes(image.read_bytes(), tmp_path / "page")]
    given += [*genuine.arguments(), "-device", "virtio-blk-pci,drive=d"]
    given += ["-drive", f"if=none,id=d,format=raw,readonly=on,file={folder / 'disk.raw'}"]
    opened = "layers opened"
    assert opened in run(tools, tmp_path, given, opened, 2 * BOOT_SECONDS, 1024).text


# --- TDX and vTPM: the host's program runs, and another register says so ------------------------


def test_tdx_firmware_starts_a_shim_and_the_predicted_rtmr_is_another(
    build: Build, tools: Tools, firmware: Path, acpi_tables: Path, launch: Launch, tmp_path: Path
) -> None:
    """Emulation has no RTMR: that the firmware measures what it starts is not shown here."""
    given = [*one_file(firmware / "OVMF.tdx.fd"), *shim(tmp_path, launch)]
    assert HOSTILE in run(tools, tmp_path, given, HOSTILE, BOOT_SECONDS).text

    disk_image = rehashed.read_disk(build.images / "coordinator")
    predicted = rehashed.predicted(disk_image, Boot.DIRECT, firmware, acpi_tables)[1]
    kernel = digest(launch.kernel.read_bytes(), "sha384")
    assert predicted.count(kernel) == 1
    hostile = digest(program(HOSTILE), "sha384")
    shown = [hostile if event == kernel else event for event in predicted]
    assert extended(shown, "sha384") != extended(predicted, "sha384")


@pytest.fixture
def unmeasured(launch: Launch, tmp_path: Path) -> Launch:
    """A kernel that is no EFI program any more: the firmware has a loader for such, too."""
    data = bytearray(launch.kernel.read_bytes())
    header = int.from_bytes(data[0x3C:0x40], "little")
    assert data[header : header + 4] == b"PE\0\0"
    data[header] ^= 1
    (tmp_path / "kernel").write_bytes(data)
    return Launch(tmp_path / "kernel", launch.initrd, "console=ttyS0 earlyprintk=ttyS0 panic=-1")


def test_a_kernel_that_nothing_measures_has_not_the_registers_of_a_direct_boot(
    build: Build,
    tools: Tools,
    firmware: Path,
    acpi_tables: Path,
    launch: Launch,
    unmeasured: Launch,
    tmp_path: Path,
) -> None:
    """It could extend what is missing, but only behind what the firmware has extended before.

    In a direct boot the kernel's digest comes first. In a boot from disk it comes last, so such
    registers prove nothing (advisory 002). Read from a vTPM; the TDX firmware starts it, too.
    """
    with software_tpm(tools, tmp_path) as tpm:
        given = [*two_files(tools, tmp_path), *tpm.arguments, *unmeasured.arguments()]
        assert STARTED in run(tools, tmp_path, given, STARTED, BOOT_SECONDS).text
        seen = tpm.registers([4])
    assert seen[4] == extended(ready_to_boot(), "sha256")

    given = [*one_file(firmware / "OVMF.tdx.fd"), *unmeasured.arguments()]
    assert STARTED in run(tools, tmp_path, given, STARTED, BOOT_SECONDS).text
    disk_image = rehashed.read_disk(build.images / "coordinator")
    predicted = rehashed.predicted(disk_image, Boot.DIRECT, firmware, acpi_tables)[1]
    assert predicted[0] == digest(launch.kernel.read_bytes(), "sha384")


def digest(image: bytes, bank: str) -> bytes:
    """What firmware measures of a program."""
    return pe.parse(image, "program").authenticode(bank)


def extended(digests: list[bytes], bank: str) -> bytes:
    """A register after these events."""
    register = bytes(hashlib.new(bank).digest_size)
    for event in digests:
        register = hashlib.new(bank, register + event).digest()
    return register


def registers(tools: Tools, folder: Path, launch: Launch, way: Way) -> dict[int, bytes]:
    """The vTPM's PCR 2 and 4 while the host's program runs."""
    with software_tpm(tools, folder) as tpm:
        given = [*two_files(tools, folder), *tpm.arguments, *way(folder, launch)]
        assert HOSTILE in run(tools, folder, given, HOSTILE, BOOT_SECONDS).text
        return tpm.registers([2, 4])


@pytest.mark.parametrize("way", [shim, named_shim])
def test_pcr_4_shows_a_shim(
    build: Build, tools: Tools, launch: Launch, tmp_path: Path, way: Way
) -> None:
    seen = registers(tools, tmp_path, launch, way)
    started = digest(program(HOSTILE), "sha256")
    assert seen[4] == extended([started, *ready_to_boot()], "sha256")
    predicted = predicted_pcrs(build.images / "coordinator")["ovmf-direct"]
    kernel = digest(launch.kernel.read_bytes(), "sha256")
    assert extended([kernel, *ready_to_boot()], "sha256").hex() == predicted["4"]


def ready_to_boot() -> list[bytes]:
    """What firmware measures into PCR 4 before it starts a program."""
    return [action_event(4, CALLING_APPLICATION).digest, separator_event(4).digest]


def test_pcr_2_shows_an_option_rom(tools: Tools, launch: Launch, tmp_path: Path) -> None:
    seen = registers(tools, tmp_path, launch, rom)
    image = option_rom(program(HOSTILE, BOOT_DRIVER), *NETWORK_CARD)[ROM_HEADER:]
    assert seen[2] == extended([digest(image, "sha256")], "sha256")
