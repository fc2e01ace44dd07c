"""Firmware as an SEV-SNP launch sees it: its pages, and the memory it wants prepared."""

from __future__ import annotations

import enum
from dataclasses import dataclass

from measure import ovmf
from measure.errors import FormatError, UnsupportedError
from measure.snp import digest
from measure.snp.kernel import TABLE_SIZE

# OVMF prepares some 200 KiB; each page is one step of the digest.
MAX_PREPARED = 64 << 20
_PAGE = digest.PAGE_SIZE


class SectionType(enum.IntEnum):
    """Type of a section of the SEV metadata (edk2, OvmfPkg/ResetVector/X64/OvmfSevMetadata.asm)."""

    SEC_MEMORY = 1
    SECRETS = 2
    CPUID = 3
    SVSM_CALLING_AREA = 4
    KERNEL_HASHES = 0x10


_ONE_PAGE = frozenset({SectionType.SECRETS, SectionType.CPUID, SectionType.KERNEL_HASHES})


@dataclass(frozen=True)
class Section:
    """Memory that the VMM prepares: page-aligned, not empty."""

    type: SectionType
    gpa: int
    size: int


@dataclass(frozen=True)
class Firmware:
    """What a launch needs to know of a firmware image; enough without the image itself.

    Attributes:
        file: its name, for error messages.
        ovmf_hash: the launch digest (48 bytes) after the image's pages.
        sections: in the order in which they are measured.
        hash_table: offset of the table of kernel hashes in its page; None if there is none.
        reset_eip: where the second and further vCPUs start; None if the image does not say.
    """

    file: str
    ovmf_hash: bytes
    sections: tuple[Section, ...]
    hash_table: int | None
    reset_eip: int | None


def from_image(image: bytes | memoryview, file: str) -> Firmware:
    """Hashes an image and reads what it says about itself.

    Raises:
        FormatError: no OVMF, or metadata that contradicts itself.
        UnsupportedError: no SEV-SNP metadata, or a section of an unknown type.
    """
    described = ovmf.parse(image, file)
    if len(image) % _PAGE:
        raise FormatError(
            "the firmware is not a whole number of pages",
            file=file,
            expected=f"a multiple of {_PAGE} bytes",
            seen=f"{len(image)} bytes",
        )
    if described.sev_sections is None:
        raise UnsupportedError(
            "the firmware has no SEV-SNP metadata, so it cannot start an SEV-SNP guest; "
            "use a build like OVMF.amdsev.fd",
            file=file,
            expected=f"table entry {ovmf.SEV_METADATA}",
        )
    base = ovmf.TOP - len(image)
    sections = _sections(described.sev_sections, base, file)
    return Firmware(
        file=file,
        ovmf_hash=digest.extend_data(digest.ZEROS, base, image),
        sections=sections,
        hash_table=_hash_table(described.hash_table, sections, file),
        reset_eip=described.reset_eip,
    )


def from_metadata(
    ovmf_hash: bytes,
    sections: tuple[ovmf.SevSection, ...],
    hash_table: ovmf.HashTable | None,
    reset_eip: int | None,
    file: str,
) -> Firmware:
    """The same from recorded values, for when the image itself is not at hand.

    Raises:
        FormatError: the values contradict themselves.
        UnsupportedError: a section of an unknown type.
    """
    if len(ovmf_hash) != digest.DIGEST_SIZE:
        raise FormatError(
            "the firmware's hash has the wrong size",
            file=file,
            expected=f"{digest.DIGEST_SIZE} bytes",
            seen=f"{len(ovmf_hash)} bytes",
        )
    if len(sections) > ovmf.MAX_SECTIONS:
        raise FormatError(
            "too many SEV sections",
            file=file,
            expected=f"at most {ovmf.MAX_SECTIONS}",
            seen=str(len(sections)),
        )
    # In an image these are 32 bits each.
    for value in (reset_eip or 0, *(value for s in sections for value in (s.gpa, s.size))):
        if not 0 <= value < ovmf.TOP:
            raise FormatError(
                "an address or size in the firmware's description is not 32 bits",
                file=file,
                seen=f"{value:#x}"[:40],
            )
    checked = _sections(sections, ovmf.TOP, file)
    table = _hash_table(hash_table, checked, file)
    return Firmware(file, ovmf_hash, checked, table, reset_eip)


def _sections(raw: tuple[ovmf.SevSection, ...], top: int, file: str) -> tuple[Section, ...]:
    """The sections that are not empty, checked: known, aligned, bounded, disjoint, below `top`."""
    sections: list[Section] = []
    prepared = 0
    for item in raw:
        try:
            kind = SectionType(item.type)
        except ValueError:
            raise UnsupportedError(
                "an SEV section has an unknown type",
                file=file,
                offset=item.offset,
                expected=", ".join(str(int(t)) for t in SectionType),
                seen=str(item.type),
            ) from None
        if item.size == 0:
            continue  # builds without a feature keep its section, empty
        prepared += item.size
        clash = next((s for s in sections if _overlap(s, item)), None)
        if item.gpa % _PAGE or item.size % _PAGE:
            problem = "is not a whole number of pages"
        elif kind in _ONE_PAGE and item.size != _PAGE:
            problem = "is not one page"
        elif kind is SectionType.KERNEL_HASHES and any(s.type is kind for s in sections):
            problem = "is the second of its type"
        elif item.gpa + item.size > top:
            problem = "overlaps the firmware"
        elif clash is not None:
            problem = f"overlaps the section at {clash.gpa:#x}"
        elif prepared > MAX_PREPARED:
            problem = f"brings the prepared memory to more than {MAX_PREPARED} bytes"
        else:
            sections.append(Section(kind, item.gpa, item.size))
            continue
        raise FormatError(
            f"the SEV section {kind.name} {problem}",
            file=file,
            offset=item.offset,
            seen=f"{item.size:#x} bytes at {item.gpa:#x}",
        )
    return tuple(sections)


def _overlap(section: Section, item: ovmf.SevSection) -> bool:
    return section.gpa < item.gpa + item.size and item.gpa < section.gpa + section.size


def _hash_table(
    table: ovmf.HashTable | None, sections: tuple[Section, ...], file: str
) -> int | None:
    """Offset of the table in its page; None if either the page or the table's address is missing.

    The firmware reads the table at its own address, the VMM writes it into the measured page: if
    they differed, the firmware would check the kernel against hashes that nothing measures.
    """
    pages = [s for s in sections if s.type is SectionType.KERNEL_HASHES]
    if not pages or table is None or table.base == 0:
        return None
    offset = table.base - pages[0].gpa
    if table.size < TABLE_SIZE or not 0 <= offset <= _PAGE - TABLE_SIZE:
        raise FormatError(
            "the table of kernel hashes does not lie in the page that is measured for it",
            file=file,
            expected=f"{TABLE_SIZE} bytes or more in {pages[0].gpa:#x}..{pages[0].gpa + _PAGE:#x}",
            seen=f"{table.size} bytes at {table.base:#x}",
        )
    return offset
