"""The sections of a TDX firmware (TDVF): what the VMM puts into a machine before it runs.

Source: Intel TDX Virtual Firmware Design Guide, section 11.2; the checks are those of QEMU
(hw/i386/tdvf.c), which loads nothing else, and of the TDX module, which adds no page twice.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

from measure import ovmf
from measure.errors import FormatError, UnsupportedError
from measure.ovmf import TdxSection

PAGE = 4096
MAX_LAUNCH_MEMORY = 128 << 20  # bytes of all sections that are there when the machine starts


class Kind(IntEnum):
    """Section types that have an effect on a register."""

    BFV = 0
    """Boot firmware volume: code, measured into MRTD."""
    CFV = 1
    """Configuration firmware volume: variables, measured into RTMR 0."""
    TD_HOB = 2
    """Where the VMM describes the machine's memory, measured into RTMR 0."""
    TEMPORARY = 3
    """Memory for the firmware's start."""
    PERMANENT = 4
    """Memory that the machine adds itself."""


EXTEND_MRTD = 0x1
ADDED_LATER = 0x2
_ATTRIBUTES = EXTEND_MRTD | ADDED_LATER
_WITH_DATA = frozenset({Kind.BFV, Kind.CFV})


@dataclass(frozen=True)
class Tdvf:
    """A firmware image (named `file`) and its checked sections, in file order."""

    image: bytes
    file: str
    sections: tuple[TdxSection, ...]

    def data(self, section: TdxSection) -> bytes:
        """A section's bytes in the image, `raw_size` of them."""
        return self.image[section.data_offset : section.data_offset + section.raw_size]

    def only(self, kind: Kind) -> TdxSection:
        """The one section of a kind.

        Raises:
            UnsupportedError: none or several.
        """
        found = [section for section in self.sections if section.type == kind]
        if len(found) != 1:
            raise UnsupportedError(
                "the firmware is not built as expected",
                file=self.file,
                expected=f"exactly one {kind.name} section",
                seen=str(len(found)),
            )
        return found[0]


def parse(image: bytes, file: str) -> Tdvf:
    """Reads and checks the sections of a whole firmware image.

    Raises:
        FormatError: not OVMF, or sections that no VMM would load.
        UnsupportedError: firmware that is not made for TDX, or a section of another type or with
            less data than memory.
    """
    sections = ovmf.parse(image, file).tdx_sections
    if sections is None:
        raise UnsupportedError(
            "the firmware is not made for TDX", file=file, expected="an entry for TDX metadata"
        )
    if not sections:
        raise FormatError(
            "invalid number of TDX sections",
            file=file,
            expected=f"1 to {ovmf.MAX_SECTIONS}",
            seen="0",
        )
    for section in sections:
        if section.data_offset + section.raw_size > len(image):
            raise FormatError(
                "a TDX section's data lies outside the image (is it only the code of a firmware "
                "in two files?)",
                file=file,
                offset=section.offset,
                expected=f"at most {len(image):#x}",
                seen=f"{section.data_offset:#x} + {section.raw_size:#x}",
            )
        _check(section, file)
    _check_layout(sections, file)
    return Tdvf(image, file, sections)


def _check(section: TdxSection, file: str) -> None:
    if section.type not in {*Kind}:
        raise UnsupportedError(
            "a TDX section has an unknown type",
            file=file,
            offset=section.offset,
            expected=", ".join(f"{kind.value} ({kind.name})" for kind in Kind),
            seen=str(section.type),
        )
    kind = Kind(section.type)
    later = bool(section.attributes & ADDED_LATER)
    measured = bool(section.attributes & EXTEND_MRTD)
    with_data = kind in _WITH_DATA
    unknown = section.attributes & ~_ATTRIBUTES
    if unknown or later != (kind is Kind.PERMANENT) or (measured and not with_data):
        raise FormatError(
            f"a TDX section of type {kind.name} has invalid attributes",
            file=file,
            offset=section.offset,
            expected="0 or 1 for sections with data, 2 for permanent memory, 0 for other memory",
            seen=f"{section.attributes:#x}",
        )
    if section.gpa % PAGE or section.memory_size % PAGE:
        raise FormatError(
            "a TDX section is not made of whole pages",
            file=file,
            offset=section.offset,
            expected=f"multiples of {PAGE}",
            seen=f"address {section.gpa:#x}, size {section.memory_size:#x}",
        )
    if (section.raw_size > 0) != with_data or section.raw_size > section.memory_size:
        raise FormatError(
            f"a TDX section of type {kind.name} has an invalid data size",
            file=file,
            offset=section.offset,
            expected=f"{section.memory_size:#x}" if with_data else "0",
            seen=f"{section.raw_size:#x}",
        )
    if with_data and section.raw_size != section.memory_size:
        raise UnsupportedError(
            f"a TDX section of type {kind.name} is larger than its data, and VMMs differ in what "
            "they put behind a section's data",
            file=file,
            offset=section.offset,
            expected=f"{section.memory_size:#x} bytes of data",
            seen=f"{section.raw_size:#x}",
        )


def _check_layout(sections: tuple[TdxSection, ...], file: str) -> None:
    """Raises unless the sections lie below 4 GiB, apart from each other, in bounded memory."""
    end = 0
    total = 0
    for section in sorted(sections, key=lambda s: s.gpa):
        if section.gpa < end or section.gpa + section.memory_size > ovmf.TOP:
            raise FormatError(
                "a TDX section overlaps another one, or ends above 4 GiB",
                file=file,
                offset=section.offset,
                expected=f"{end:#x} to {ovmf.TOP:#x}",
                seen=f"{section.gpa:#x} to {section.gpa + section.memory_size:#x}",
            )
        end = section.gpa + section.memory_size
        if not section.attributes & ADDED_LATER:
            total += section.memory_size
    if total > MAX_LAUNCH_MEMORY:
        raise FormatError(
            "the TDX sections are too large",
            file=file,
            expected=f"at most {MAX_LAUNCH_MEMORY} bytes",
            seen=str(total),
        )
