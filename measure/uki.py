"""Unified kernel images: their sections, and what systemd-stub does with them.

Source: systemd 252, 257 and 262, src/fundamental/uki.h (section order) and src/boot/stub.c. What
the versions do differently is in `STUBS`; each row was checked against recorded boots. Other
versions are refused.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum

from measure import cpio, pe
from measure.errors import FormatError, UnsupportedError

# The repetitions give nothing back (`++`, `*+`): a long section takes linear time.
_STUB_MAGIC = re.compile(rb"#### LoaderInfo: systemd-stub (\d++)[^ ]*+ ####\0?")


class Section(Enum):
    """Sections that systemd-stub knows. The order is the order of measurement into PCR 11."""

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
    EFIFW = ".efifw"

    @property
    def measured(self) -> bool:
        """Whether PCR 11 covers it: all but the signature of the expected PCR 11 value."""
        return self is not Section.PCRSIG


@dataclass(frozen=True)
class Stub:
    """What one version of systemd-stub does.

    Attributes:
        version: the major version.
        unmeasured: sections that this version leaves out of PCR 11 though later ones measure them.
        unknown: sections that this version does not know at all.
        packs_os_release: .osrel (and .profile) also go to the kernel, as an archive in its initrd.
        loads_kernel: the firmware loads the inner kernel as an image, so PCR 4 shows it.
        adds_secret: booted from a disk, it adds a random secret of the machine to the initrd.
    """

    version: int
    unmeasured: frozenset[Section]
    unknown: frozenset[Section]
    packs_os_release: bool
    loads_kernel: bool
    adds_secret: bool


_SINCE_257 = frozenset({Section.UCODE, Section.PROFILE, Section.DTBAUTO, Section.HWIDS})
STUBS = {
    stub.version: stub
    for stub in (
        Stub(
            252,
            unmeasured=frozenset({Section.UNAME, Section.SBAT}),
            unknown=_SINCE_257 | {Section.EFIFW},
            packs_os_release=False,
            loads_kernel=True,
            adds_secret=False,
        ),
        Stub(
            257,
            unmeasured=frozenset(),
            unknown=frozenset({Section.EFIFW}),
            packs_os_release=True,
            loads_kernel=True,
            adds_secret=False,
        ),
        Stub(
            262,
            unmeasured=frozenset(),
            unknown=frozenset(),
            packs_os_release=True,
            loads_kernel=False,
            adds_secret=True,
        ),
    )
}

# What an image must have to boot.
REQUIRED = frozenset({Section.LINUX, Section.OSREL, Section.CMDLINE, Section.INITRD})
# Which of these takes effect is the hardware's choice, so no register can be predicted.
_CHOSEN_BY_HARDWARE = frozenset({Section.DTBAUTO, Section.HWIDS, Section.EFIFW})
# The initrd of the kernel, in order: a section as it is (None), or packed as a file in `.extra`.
_INITRD_PARTS: tuple[tuple[Section, str | None], ...] = (
    (Section.UCODE, None),
    (Section.INITRD, None),
    (Section.PCRSIG, "tpm2-pcr-signature.json"),
    (Section.PCRPKEY, "tpm2-pcr-public-key.pem"),
    (Section.OSREL, "os-release"),
    (Section.PROFILE, "profile"),
)

# Sections of the stub itself: its code, covered by the PE digest in PCR 4, and its version.
_STUB_CODE = frozenset({".text", ".rodata", ".data", ".reloc", ".dynamic", ".dynsym", ".rela"})
_STUB_VERSION_SECTION = ".sdmagic"


@dataclass(frozen=True)
class Uki:
    """A parsed UKI: PE image, stub, and the contents (VirtualSize bytes) of the known sections."""

    image: pe.PeImage
    stub: Stub
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
        """The initrd that the kernel gets, without what the stub adds on disk boot (`adds_secret`).

        A single archive is passed as it is; several are joined, each padded to 4 bytes.
        """
        parts = list(self._initrd_parts())
        return parts[0] if len(parts) == 1 else b"".join(cpio.pad4(part) for part in parts)

    def _initrd_parts(self) -> Iterator[bytes]:
        for section, name in _INITRD_PARTS:
            content = self.sections.get(section)
            if not content or (section is Section.OSREL and not self.stub.packs_os_release):
                continue
            yield content if name is None else cpio.literal(name, content)

    def measured_sections(self) -> Iterator[tuple[Section, bytes]]:
        """The non-empty sections that go to PCR 11, in order."""
        for section in Section:
            content = self.sections.get(section)
            if content and section.measured and section not in self.stub.unmeasured:
                yield section, content


def parse(data: bytes, file: str) -> Uki:
    """Parses a UKI and refuses what cannot be predicted.

    Raises:
        FormatError: not a PE image, a section that is missing, or sections that overlap in memory.
        UnsupportedError: another version of the stub, a section that is repeated, or one whose
            effect depends on more than the image.
    """
    image = pe.parse(data, file)
    image.check_memory()
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
                "the UKI has a section that systemd-stub does not know",
                file=file,
                offset=header.raw_offset,
                expected=", ".join(s.value for s in Section),
                seen=header.name,
            ) from None
        if section in sections:
            raise UnsupportedError(
                "the UKI has a section twice (several profiles?)",
                file=file,
                offset=header.raw_offset,
                expected="each section once",
                seen=header.name,
            )
        sections[section] = image.content(header)
    stub = _stub(stub_magic, file)
    _check_sections(sections, stub, file)
    return Uki(image, stub, sections)


def _stub(magic: bytes, file: str) -> Stub:
    match = _STUB_MAGIC.fullmatch(magic)
    stub = STUBS.get(int(match[1])) if match and len(match[1]) < 6 else None
    if stub is None:
        raise UnsupportedError(
            "the UKI's stub is not one whose measurements are known",
            file=file,
            expected="systemd-stub " + ", ".join(str(version) for version in STUBS),
            seen=repr(magic[:80])[1:],
        )
    return stub


def _check_sections(sections: dict[Section, bytes], stub: Stub, file: str) -> None:
    """Raises unless these sections make an image whose measurements can be predicted."""
    missing = sorted(s.value for s in REQUIRED if not sections.get(s))
    if missing:
        raise FormatError("the UKI has no section " + ", ".join(missing), file=file)
    chosen = sorted(s.value for s in sections if s in _CHOSEN_BY_HARDWARE)
    if chosen:
        raise UnsupportedError(
            "the UKI has sections of which the hardware chooses one, so PCR 11 cannot be predicted",
            file=file,
            expected="no " + ", ".join(sorted(s.value for s in _CHOSEN_BY_HARDWARE)),
            seen=", ".join(chosen),
        )
    unknown = sorted(s.value for s in sections if s in stub.unknown)
    if unknown:
        raise UnsupportedError(
            f"the UKI has sections that systemd-stub {stub.version} does not know",
            file=file,
            seen=", ".join(unknown),
        )
    # The stub stops at a NUL and decodes UTF-8; plain ASCII leaves no room for either.
    command_line = sections[Section.CMDLINE]
    if not command_line.isascii() or b"\0" in command_line:
        raise UnsupportedError("the command line is not plain ASCII", file=file)
    if len(sections[Section.LINUX]) < 0x40:
        raise FormatError("the .linux section is not a kernel", file=file)


def digest(data: bytes, bank: str = "sha256") -> bytes:
    """The digest that a register of this bank (hashlib's name) is extended with."""
    return hashlib.new(bank, data).digest()
