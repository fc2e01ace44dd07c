"""Direct boot: the command line that OVMF makes, and the kernel that old QEMU versions rewrite."""

from __future__ import annotations

import hashlib

import pytest

from measure import direct, pcr, shapes, uki
from measure.errors import FormatError, UnsupportedError
from measure.pcr import Component
from measure.shapes import OVMF_DIRECT
from tests.support.measurement import builders
from tests.support.measurement.samples import changed_uki, predict

STUB_262 = b"#### LoaderInfo: systemd-stub 262-1 ####"


def sha256(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


def kernel(size: int = 0x300) -> bytes:
    """A setup header with nothing around it: protocol 2.15, initrd up to 2 GiB."""
    data = bytearray(size)
    data[0x202:0x206] = b"HdrS"
    data[0x211] = 0x01
    data[0x22C:0x230] = (0x7FFFFFFF).to_bytes(4, "little")
    return bytes(data)


@pytest.mark.parametrize(
    ("release", "expected"),
    [
        ((2025, 2), "quiet initrd=initrd"),
        ((2025, 5), "quiet initrd=initrd"),
        ((2025, 8), "initrd=initrd quiet"),
        ((2026, 8), "initrd=initrd quiet"),
    ],
)
def test_where_the_firmware_puts_its_word(release: tuple[int, int], expected: str) -> None:
    assert direct.load_options("quiet", release) == expected


def test_release_of_the_firmware() -> None:
    assert direct.edk2_release("2025.02-8+deb13u1", "f") == (2025, 2)
    for version in ("", "edk2-stable202502", "2025.021", "v2025.02"):
        with pytest.raises(UnsupportedError, match="the firmware's release is unknown"):
            direct.edk2_release(version, "f")


def test_rewritten_kernel_changes_only_the_setup_header() -> None:
    before = kernel()
    after = direct.rewritten_kernel(before, 0x1000, 1 << 30, "k")
    changed = {at for at in range(len(before)) if before[at] != after[at]}
    assert changed <= {0x210, 0x211, *range(0x218, 0x220), 0x224, 0x225, *range(0x228, 0x22C)}
    assert len(after) == len(before)


def test_the_initrds_address_is_bounded_by_memory_or_by_the_kernel() -> None:
    def address(memory: int, size: int = 0x1000) -> int:
        return int.from_bytes(direct.rewritten_kernel(kernel(), size, memory, "k")[0x218:0x21C],
                              "little")  # fmt: skip

    assert address(1 << 30) == ((1 << 30) - 0x28000 - 1 - 0x1000) & ~0xFFF
    assert address(3 << 30) == address(2 << 30 | 1 << 29) == (0x7FFFFFFF - 0x1000) & ~0xFFF
    assert address(1 << 30, 0x2000) == address(1 << 30) - 0x1000


@pytest.mark.parametrize(
    ("data", "size", "message"),
    [
        (b"", 1, "not a bzImage"),
        (kernel(0x22F + 1)[:-1], 1, "not a bzImage"),
        (kernel().replace(b"HdrS", b"HdrX"), 1, "not a bzImage"),
        (kernel(), 1 << 31, "the initrd does not fit"),
    ],
)
def test_not_a_kernel_to_rewrite(data: bytes, size: int, message: str) -> None:
    with pytest.raises(FormatError, match=message):
        direct.rewritten_kernel(data, size, 1 << 30, "k")


def events(prediction: pcr.Prediction, register: int) -> list[Component]:
    return [event.component for event in prediction.of(register)]


def test_direct_boot_starts_the_kernel_first_and_no_uki() -> None:
    prediction = predict(shape=OVMF_DIRECT)
    assert events(prediction, 4) == [Component.KERNEL, Component.BOOT_PATH, Component.BOOT_PATH]
    assert events(prediction, 5) == [Component.BOOT_PATH] * 3
    assert prediction.pcrs()[11] == prediction.pcrs()[12] == bytes(32)
    line = builders.COMMAND_LINE.decode().strip() + " initrd=initrd\0"
    options, initrd = (event.digest for event in prediction.of(9))
    assert options == sha256(line.encode("utf-16-le"))
    assert initrd == sha256(b"initrd bytes")


def test_direct_boot_with_newer_firmware() -> None:
    flash = builders.firmware(strings=["2026.08-1"])
    (options, _) = predict(flash=flash, shape=OVMF_DIRECT).of(9)
    line = "initrd=initrd " + builders.COMMAND_LINE.decode().strip() + "\0"
    assert options.digest == sha256(line.encode("utf-16-le"))


def test_direct_boot_differs_from_disk_boot_only_where_it_must() -> None:
    disk, started = predict().pcrs(), predict(shape=OVMF_DIRECT).pcrs()
    assert {n for n in disk if disk[n] != started[n]} == {4, 5, 9, 11}


def test_direct_boot_does_not_run_the_stub() -> None:
    changed = changed_uki(sdmagic=STUB_262, uname=b"x", osrel=b"ID=other\n")
    assert predict(changed, shape=OVMF_DIRECT).pcrs() == predict(shape=OVMF_DIRECT).pcrs()


def test_disk_boot_of_a_stub_that_adds_a_secret_is_refused() -> None:
    with pytest.raises(UnsupportedError, match=r"PCR 9 cannot be predicted.*257, seen 262"):
        predict(changed_uki(sdmagic=STUB_262))


def test_disk_boot_of_an_older_stub() -> None:
    old = predict(changed_uki(sdmagic=b"#### LoaderInfo: systemd-stub 252.39 ####"))
    (_, initrd) = old.of(9)
    assert initrd.digest == sha256(b"initrd bytes")
    names = [event.description for event in old.of(11) if event.description.startswith("name")]
    assert names == [f"name of section .{n}" for n in ("linux", "osrel", "cmdline", "initrd")]


def test_a_stub_of_262_does_not_load_the_kernel_as_an_image() -> None:
    """What a host sees that passes the whole UKI with -kernel: the stub itself is predicted."""
    parsed = uki.parse(changed_uki(sdmagic=STUB_262), "f")
    assert [event.pcr for event in pcr.uki_events(parsed)] == [11] * 12 + [9, 9]


def test_every_shape_says_what_each_register_is() -> None:
    for shape in shapes.VTPM_SHAPES.values():
        assert sorted([*shape.covers, *shape.left_out]) == list(range(24)), shape.name
