"""UKI sections: order of measurement, what the stub makes of them, what is refused."""

from __future__ import annotations

import re
import struct
import time
from collections.abc import Mapping

import pytest

from measure import cpio, pcr, pe, uki
from measure.errors import FormatError, UnsupportedError
from measure.uki import Section
from tests.support.measurement import builders

# systemd 262, src/fundamental/uki.c, unified_sections[], written down a second time.
ORDER = [
    ".linux",
    ".osrel",
    ".cmdline",
    ".initrd",
    ".ucode",
    ".splash",
    ".dtb",
    ".uname",
    ".sbat",
    ".pcrsig",
    ".pcrpkey",
    ".profile",
    ".dtbauto",
    ".hwids",
    ".efifw",
]
# Of which the hardware chooses one.
REFUSED = {Section.DTBAUTO, Section.HWIDS, Section.EFIFW}


def test_the_enum_is_the_order_of_measurement() -> None:
    assert [section.value for section in Section] == ORDER
    assert [section for section in Section if not section.measured] == [Section.PCRSIG]


def test_every_section_is_either_supported_or_refused() -> None:
    for section in Section:
        data = builders.uki({section.value: builders.uki_sections().get(section.value, b"x")})
        if section not in REFUSED:
            assert section in uki.parse(data, "f").sections
        else:
            with pytest.raises(UnsupportedError, match=re.escape(section.value)):
                uki.parse(data, "f")


def stub_of(version: str) -> bytes:
    return f"#### LoaderInfo: systemd-stub {version} ####".encode()


@pytest.mark.parametrize("section", [".ucode", ".profile"])
def test_sections_that_an_older_stub_does_not_know_are_refused(section: str) -> None:
    old = stub_of("252.39-1~deb12u2") + b"\0"
    with pytest.raises(UnsupportedError, match=rf"252 does not know.*{re.escape(section)}"):
        uki.parse(builders.uki({".sdmagic": old, section: b"x"}), "f")


@pytest.mark.parametrize(
    ("version", "measured", "packed"),
    [
        ("252.39-1~deb12u2", [".linux", ".osrel", ".cmdline", ".initrd"], False),
        ("257.13-1", [".linux", ".osrel", ".cmdline", ".initrd", ".uname", ".sbat"], True),
        ("262-1", [".linux", ".osrel", ".cmdline", ".initrd", ".uname", ".sbat"], True),
    ],
)
def test_what_each_stub_measures_and_packs(version: str, measured: list[str], packed: bool) -> None:
    parsed = uki.parse(builders.uki({".sdmagic": stub_of(version)}), "f")
    assert [section.value for section, _ in parsed.measured_sections()] == measured
    padded = b"initrd bytes" + cpio.literal("os-release", b"ID=confide\n")
    assert parsed.initrd == (padded if packed else b"initrd bytes")


def test_a_single_initrd_is_not_padded() -> None:
    old = {".sdmagic": stub_of("252.39"), ".initrd": b"12345"}
    assert uki.parse(builders.uki(old), "f").initrd == b"12345"
    both = uki.parse(builders.uki({**old, ".pcrpkey": b"KEY"}), "f")
    assert both.initrd == b"12345\0\0\0" + cpio.literal("tpm2-pcr-public-key.pem", b"KEY")


def test_measured_order_is_not_the_order_in_the_file() -> None:
    parsed = uki.parse(builders.uki({".splash": b"picture"}), "f")
    names = [section.value for section, _ in parsed.measured_sections()]
    assert names == [".linux", ".osrel", ".cmdline", ".initrd", ".splash", ".uname", ".sbat"]


def test_empty_sections_are_not_measured() -> None:
    parsed = uki.parse(builders.uki({".splash": b""}), "f")
    assert Section.SPLASH not in dict(parsed.measured_sections())


@pytest.mark.parametrize(
    ("section", "expected"),
    [
        (b"quiet", "quiet"),
        (b"quiet\n", "quiet"),
        (b"quiet \n \t", "quiet"),
        (b"a\nb\tc ", "a b c"),
        (b"  a", "  a"),
        (b" ", ""),
    ],
)
def test_command_line_as_the_kernel_gets_it(section: bytes, expected: str) -> None:
    assert uki.parse(builders.uki({".cmdline": section}), "f").command_line == expected


def test_initrd_gets_the_os_release_archive() -> None:
    parsed = uki.parse(builders.uki({".initrd": b"12345"}), "f")
    assert parsed.initrd == b"12345\0\0\0" + cpio.literal("os-release", b"ID=confide\n")


def test_initrd_of_all_sections_is_joined_in_the_order_of_the_stub() -> None:
    extra = {".ucode": b"U", ".pcrsig": b"S", ".pcrpkey": b"K", ".profile": b"P"}
    parsed = uki.parse(builders.uki(extra), "f")
    assert parsed.initrd == (
        b"U\0\0\0" + b"initrd bytes"
        + cpio.literal("tpm2-pcr-signature.json", b"S")
        + cpio.literal("tpm2-pcr-public-key.pem", b"K")
        + cpio.literal("os-release", b"ID=confide\n")
        + cpio.literal("profile", b"P")
    )  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({".linux": None}, r"no section \.linux"),
        ({".cmdline": b""}, r"no section \.cmdline"),
        ({".osrel": None, ".initrd": None}, r"no section \.initrd, \.osrel"),
        ({".linux": b"MZ"}, "not a kernel"),
    ],
)
def test_incomplete(changes: Mapping[str, bytes | None], message: str) -> None:
    with pytest.raises(FormatError, match=message):
        uki.parse(builders.uki(changes), "f")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({".sdmagic": None}, "stub is not one"),
        ({".sdmagic": b"#### LoaderInfo: systemd-stub 258.1-1 ####"}, "seen .*258"),
        ({".sdmagic": b"#### LoaderInfo: systemd-stub " + b"9" * 5000 + b" ####"}, "seen "),
        ({".sdmagic": b"#### LoaderInfo: systemd-stub 2570 ####"}, "seen .*2570"),
        ({".sdmagic": b"#### LoaderInfo: systemd-boot 257 ####"}, "seen .*boot"),
        ({".cmdline": "quiét".encode()}, "not plain ASCII"),
        ({".cmdline": b"quiet\0init=/evil"}, "not plain ASCII"),
        ({".efifw": b"x"}, "the hardware chooses"),
        ({".pcrkey": b"x"}, "does not know"),
    ],
)
def test_unpredictable(changes: Mapping[str, bytes | None], message: str) -> None:
    with pytest.raises(UnsupportedError, match=message):
        uki.parse(builders.uki(changes), "f")


def test_a_long_stub_version_takes_linear_time() -> None:
    magic = b"#### LoaderInfo: systemd-stub " + b"9" * 4_000_000
    started = time.process_time()
    with pytest.raises(UnsupportedError, match="stub is not one"):
        uki.parse(builders.uki({".sdmagic": magic}), "f")
    assert time.process_time() - started < 2


def placed(name: str, address: int, size: int | None = None) -> bytes:
    """A UKI whose headers put a section elsewhere in memory; the file's own layout stays."""
    data = bytearray(builders.uki())
    at = data.index(name.encode().ljust(8, b"\0"))
    if size is not None:
        struct.pack_into("<I", data, at + 8, size)
    struct.pack_into("<I", data, at + 12, address)
    return bytes(data)


def test_sections_that_overlap_in_memory_are_refused() -> None:
    where = {s.name: s for s in pe.parse(builders.uki(), "f").sections}
    line = where[".cmdline"]
    end = line.virtual_address + line.virtual_size
    for name, address, size in (
        (".linux", line.virtual_address, None),
        (".linux", end - 1, None),
        (".text", line.virtual_address - 1, None),
        (".text", line.virtual_address, 0),  # a loader takes the size in the file
        (".text", 0x3FF, None),  # the last byte of the headers
        (".text", 0, 1 << 20),
    ):
        data = placed(name, address, size)
        assert pe.parse(data, "f").sections  # the file alone is well formed
        with pytest.raises(FormatError, match=r"offset 0x.*overlaps .* in memory; expected .*seen"):
            uki.parse(data, "f")


def test_sections_lie_in_memory_in_any_order() -> None:
    for address in (0x3F00, 0xFFFF_F000):
        moved = uki.parse(placed(".cmdline", address), "f")
        assert moved.sections == uki.parse(builders.uki(), "f").sections


def test_a_repeated_section_is_refused() -> None:
    sections = [*builders.uki_sections().items(), (".osrel", b"ID=other\n")]
    with pytest.raises(UnsupportedError, match="twice"):
        uki.parse(builders.pe(sections), "f")


def test_events_name_the_component_of_every_section() -> None:
    parsed = uki.parse(builders.uki({".splash": b"picture"}), "f")
    components = {
        event.description: event.component for event in pcr.uki_events(parsed) if event.pcr == 11
    }
    assert components["section .linux"] is pcr.Component.KERNEL
    assert components["section .cmdline"] is pcr.Component.COMMAND_LINE
    assert components["section .initrd"] is pcr.Component.INITRD
    assert components["section .osrel"] is pcr.Component.OS_RELEASE
    assert components["section .splash"] is pcr.Component.UKI_OTHER
    assert components["name of section .linux"] is pcr.Component.KERNEL
