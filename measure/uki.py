"""Unified kernel images: their sections, and what systemd-stub 257 does with them.

Source: systemd 257, src/fundamental/uki.h (section order) and src/boot/stub.c. Other versions of
the stub measure other things, so `parse` refuses them: 252 measures no .uname and .sbat and adds
nothing to the initrd; 262 adds a random initrd, and does not load the kernel as an EFI image.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum

from measure import cpio, pe
from measure.errors import FormatError, UnsupportedError

STUB_VERSION = 257
_STUB_MAGIC = re.compile(rb"#### LoaderInfo: systemd-stub (\d+)[^ ]* ####\0?")


class Section(Enum):
    """Sections that systemd-stub 257 knows. The order is the order of measurement into PCR 11."""

    LINUX = ".linux"
    OSREL = ".osrel"
    CMDLINE = ".cmdline"
    INITRD = ".initrd"
    UCODE = ".ucode"
    SPLASH = ".splash"
    DTB = ".dtb"
    UNAME = ".uname"
    SBAT = ".sbat"
    PCRSIG = ".pcrsig"
    PCRPKEY = ".pcrpkey"
    PROFILE = ".profile"
    DTBAUTO = ".dtbauto"
    HWIDS = ".hwids"

    @property
    def measured(self) -> bool:
        """Whether PCR 11 covers it: all but the signature of the expected PCR 11 value."""
        return self is not Section.PCRSIG


# What an image must have to boot, and what else is known to change only the registers below.
# The rest is refused, because it changes the initrd or is chosen by the hardware.
REQUIRED = frozenset({Section.LINUX, Section.OSREL, Section.CMDLINE, Section.INITRD})
SUPPORTED = REQUIRED | {Section.UNAME, Section.SBAT, Section.SPLASH}

# Sections of the stub itself: its code, covered by the PE digest in PCR 4, and its version.
_STUB_CODE = frozenset({".text", ".rodata", ".data", ".reloc"})
_STUB_VERSION_SECTION = ".sdmagic"


@dataclass(frozen=True)
class Uki:
    """A parsed UKI: its PE image and the contents (VirtualSize bytes) of the known sections."""

    image: pe.PeImage
    sections: dict[Section, bytes]

    @property
    def command_line(self) -> str:
        """The command line that the kernel gets: controls become spaces, trailing spaces go.

        That is mangle_stub_cmdline() of the stub; PCR 11 covers the section as it is.
        """
        text = self.sections[Section.CMDLINE].decode("ascii")
        return re.sub(r"[\x00-\x1f]", " ", text).rstrip(" ")

    @property
    def initrd(self) -> bytes:
        """The initrd that the kernel gets: the section, and the os-release file as an archive."""
        return cpio.pad4(self.sections[Section.INITRD]) + cpio.literal(
            "os-release", self.sections[Section.OSREL]
        )

    def measured_sections(self) -> Iterator[tuple[Section, bytes]]:
        """The non-empty sections that go to PCR 11, in order."""
        for section in Section:
            content = self.sections.get(section)
            if content and section.measured:
                yield section, content


def parse(data: bytes, file: str) -> Uki:
    """Parses a UKI and refuses what cannot be predicted.

    Raises:
        FormatError: not a PE image, or a section that is missing, repeated or not ASCII.
        UnsupportedError: another version of the stub, or a section whose effect depends on more
            than the image.
    """
    image = pe.parse(data, file)
    sections: dict[Section, bytes] = {}
    stub_magic = b""
    for header in image.sections:
        if header.name in _STUB_CODE:
            continue
        if header.name == _STUB_VERSION_SECTION:
            stub_magic += image.content(header)
            continue
        try:
            section = Section(header.name)
        except ValueError:
            raise UnsupportedError(
                f"the UKI has a section that systemd-stub {STUB_VERSION} does not know",
                file=file,
                seen=header.name,
            ) from None
        if section in sections:
            raise UnsupportedError(
                "the UKI has a section twice (several profiles?)", file=file, seen=header.name
            )
        sections[section] = image.content(header)
    _check_stub(stub_magic, file)
    _check_sections(sections, file)
    return Uki(image, sections)


def _check_stub(magic: bytes, file: str) -> None:
    match = _STUB_MAGIC.fullmatch(magic)
    if match is None or int(match[1]) != STUB_VERSION:
        raise UnsupportedError(
            "the UKI's stub is not one whose measurements are known",
            file=file,
            expected=f"systemd-stub {STUB_VERSION}",
            seen=repr(magic[:80])[1:],
        )


def _check_sections(sections: dict[Section, bytes], file: str) -> None:
    """Raises unless these sections make an image whose measurements can be predicted."""
    missing = sorted(s.value for s in REQUIRED if not sections.get(s))
    if missing:
        raise FormatError("the UKI has no section " + ", ".join(missing), file=file)
    unsupported = sorted(s.value for s in sections if s not in SUPPORTED)
    if unsupported:
        raise UnsupportedError(
            "the UKI has sections whose effect on PCR 9 or 12 cannot be predicted",
            file=file,
            expected="only " + ", ".join(sorted(s.value for s in SUPPORTED)),
            seen=", ".join(unsupported),
        )
    # The stub stops at a NUL and decodes UTF-8; plain ASCII leaves no room for either.
    command_line = sections[Section.CMDLINE]
    if not command_line.isascii() or b"\0" in command_line:
        raise UnsupportedError("the command line is not plain ASCII", file=file)
    if len(sections[Section.LINUX]) < 0x40:
        raise FormatError("the .linux section is not a kernel", file=file)


def digest(data: bytes) -> bytes:
    """SHA-256: every register here is of that bank."""
    return hashlib.sha256(data).digest()
