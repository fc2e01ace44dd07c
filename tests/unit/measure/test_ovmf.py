"""What OVMF says about itself: the table at its end, SEV and TDX metadata."""

from __future__ import annotations

import contextlib
import struct
import uuid

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from measure import ovmf
from measure.errors import FormatError
from tests.support.measurement import ovmf_builders as build

TDX_SECTIONS = (
    (0x1000, 0x800, 0xFFFFF000, 0x1000, 0, 1),
    (0, 0, 0x809000, 0x2000, 2, 0),
)


def tdx_metadata() -> bytes:
    return build.metadata(b"TDVF", [struct.pack("<IIQQII", *s) for s in TDX_SECTIONS])


def patched(data: bytes, old: bytes, new: bytes) -> bytes:
    """The image with one part replaced by another of the same size."""
    assert data.count(old) == 1 and len(old) == len(new)
    return data.replace(old, new)


def test_everything_is_read() -> None:
    data = build.image(tdx=tdx_metadata())
    found = ovmf.parse(data, "fw")
    assert found.sev_sections is not None and found.tdx_sections is not None
    assert [(s.gpa, s.size, s.type) for s in found.sev_sections] == list(build.SECTIONS)
    first = found.sev_sections[0]
    assert data[first.offset : first.offset + 12] == struct.pack("<III", *build.SECTIONS[0])
    assert [
        (s.data_offset, s.raw_size, s.gpa, s.memory_size, s.type, s.attributes)
        for s in found.tdx_sections
    ] == list(TDX_SECTIONS)
    assert found.tdx_sections[1].offset == data.index(b"TDVF") + 16 + 32
    assert found.hash_table == ovmf.HashTable(*build.HASH_TABLE)
    assert found.reset_eip == build.RESET


def test_unknown_entries_are_kept() -> None:
    found = ovmf.parse(build.image(), "fw")
    assert found.entries[build.UNKNOWN] == b"\1\2\3\4"
    assert len(found.entries) == 4


def test_missing_parts_are_none() -> None:
    found = ovmf.parse(build.image(None, hash_table=None, reset_eip=None), "fw")
    assert found.sev_sections is None and found.tdx_sections is None
    assert found.hash_table is None and found.reset_eip is None


def test_metadata_without_sections_is_empty() -> None:
    assert ovmf.parse(build.image([]), "fw").sev_sections == ()


def test_sections_may_be_empty_or_end_at_4_gib() -> None:
    sections = ((0, 0, 4), (0x80F000, 0xFF7F1000, 1))
    found = ovmf.parse(build.image(sections), "fw").sev_sections
    assert found is not None and [(s.gpa, s.size, s.type) for s in found] == list(sections)


@pytest.mark.parametrize("size", [0, 31, 32, 49])
def test_too_small(size: int) -> None:
    with pytest.raises(FormatError, match="table is truncated"):
        ovmf.parse(build.image()[-size:] if size else b"", "fw")


def test_foreign_firmware_names_file_offset_expected_and_seen() -> None:
    with pytest.raises(FormatError) as caught:
        ovmf.parse(bytes(8192), "other.bin")
    assert caught.value.offset == 8192 - 48
    text = str(caught.value)
    assert text.startswith("other.bin at offset 0x1fd0: no table") and str(build.FOOTER) in text
    assert "seen 00000000-0000-0000-0000-000000000000" in text


def test_too_large() -> None:
    with pytest.raises(FormatError, match="too large"):
        ovmf.parse(bytes(ovmf.MAX_IMAGE + 1), "fw")
    ovmf.parse(build.image().rjust(ovmf.MAX_IMAGE, b"\0"), "fw")


def with_table(body: bytes, length: int | None = None) -> bytes:
    """An image that ends in a table whose entries are `body`."""
    total = len(body) + 18 if length is None else length
    return bytes(512) + body + struct.pack("<H", total) + build.FOOTER.bytes_le + bytes(32)


def entry(data: bytes, length: int | None = None, guid: uuid.UUID = build.UNKNOWN) -> bytes:
    return data + struct.pack("<H", len(data) + 18 if length is None else length) + guid.bytes_le


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (with_table(b"", 17), "invalid length.*expected 18 to 530, seen 17"),
        (with_table(b"", 0xFFFF), "invalid length.*expected 18 to 530, seen 65535"),
        (with_table(b"x" * 17), "table is truncated.*18 bytes for length.*seen 17"),
        (with_table(entry(b"ab", 17)), "invalid length.*expected 18 to 20, seen 17"),
        (with_table(entry(b"ab", 21)), "invalid length.*expected 18 to 20, seen 21"),
        (with_table(entry(b"a") + entry(b"b")), "an entry twice.*seen 784fa70e"),
        (with_table(entry(b"", guid=build.FOOTER)), "an entry twice"),
    ],
)
def test_damaged_table(data: bytes, message: str) -> None:
    with pytest.raises(FormatError, match=message):
        ovmf.parse(data, "fw")


@pytest.mark.parametrize(
    ("guid", "size"),
    [
        (ovmf.SEV_METADATA, 8),
        (ovmf.SEV_METADATA, 0),
        (ovmf.SEV_HASH_TABLE, 4),
        (ovmf.SEV_ES_RESET, 8),
        (ovmf.TDX_METADATA, 2),
    ],
)
def test_an_entry_of_the_wrong_size(guid: uuid.UUID, size: int) -> None:
    data = build.image(None, hash_table=None, reset_eip=None, extra=[(guid, bytes(size))])
    with pytest.raises(FormatError, match=f"entry {guid} has the wrong size.*seen {size} bytes"):
        ovmf.parse(data, "fw")


@pytest.mark.parametrize("distance", [0, 15, 8193, 0xFFFFFFFF])
def test_metadata_outside_the_image(distance: int) -> None:
    data = build.image(
        None, extra=[(ovmf.SEV_METADATA, struct.pack("<I", distance))], hash_table=None
    )
    with pytest.raises(FormatError, match=f"ASEV metadata lies outside.*seen {distance:#x}"):
        ovmf.parse(data, "fw")


def header(signature: bytes, length: int, version: int, count: int) -> bytes:
    return signature + struct.pack("<III", length, version, count)


@pytest.mark.parametrize(
    ("signature", "length", "version", "count", "message"),
    [
        (b"ASEX", 100, 1, 7, "invalid header.*expected b'ASEV'.*seen b'ASEX'"),
        (b"ASEV", 99, 1, 7, "invalid header.*length 100.*length 99"),
        (b"ASEV", 100, 2, 7, "invalid header.*version 1.*version 2"),
        (b"ASEV", 100, 1, 8, "invalid header.*length 112.*length 100"),
        (b"ASEV", 16 + 12 * 0x1000, 1, 0x1000, "too many sections; expected at most 64, seen 4096"),
        (b"ASEV", 0xFFFFFFF4, 1, 0x15555553, "too many sections.*seen 357913939"),
    ],
)
def test_bad_metadata_header(
    signature: bytes, length: int, version: int, count: int, message: str
) -> None:
    good = header(b"ASEV", 100, 1, 7)
    data = patched(build.image(), good, header(signature, length, version, count))
    with pytest.raises(FormatError, match=message):
        ovmf.parse(data, "fw")


def test_metadata_that_ends_behind_the_image() -> None:
    distance = [(ovmf.SEV_METADATA, struct.pack("<I", 32))]
    data = build.image(None, extra=distance)[:-32] + header(b"ASEV", 40, 1, 2) + bytes(16)
    with pytest.raises(FormatError, match="outside the input"):
        ovmf.parse(data, "fw")


def test_the_most_sections() -> None:
    for count in (ovmf.MAX_SECTIONS, ovmf.MAX_SECTIONS + 1):
        sev = build.image([(0, 0, 0)] * count)
        tdx = build.image(tdx=build.metadata(b"TDVF", [bytes(32)] * count))
        if count > ovmf.MAX_SECTIONS:
            for name, data in (("ASEV", sev), ("TDVF", tdx)):
                with pytest.raises(FormatError, match=f"the {name} metadata has too many sections"):
                    ovmf.parse(data, "fw")
        else:
            assert len(ovmf.parse(sev, "fw").sev_sections or ()) == count
            assert len(ovmf.parse(tdx, "fw").tdx_sections or ()) == count


def test_a_section_above_4_gib() -> None:
    with pytest.raises(FormatError, match=r"ends above 4 GiB.*seen 0xfffff000 \+ 0x2000"):
        ovmf.parse(build.image([(0xFFFFF000, 0x2000, 1)]), "fw")


def test_tdx_data_of_the_other_half_of_a_firmware_is_not_this_parsers_business() -> None:
    sections = [struct.pack("<IIQQII", 0x84000, 0x37C000, 0xFFC84000, 0x37C000, 0, 1)]
    found = ovmf.parse(build.image(tdx=build.metadata(b"TDVF", sections)), "fw").tdx_sections
    assert found is not None and found[0].data_offset == 0x84000


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=200))
def test_any_bytes_parse_or_raise_format_error(data: bytes) -> None:
    for candidate in (data, with_table(data)):
        with contextlib.suppress(FormatError):
            ovmf.parse(candidate, "fw")


@settings(max_examples=300, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 0x500), st.integers(0, 255)), min_size=1, max_size=6),
    st.integers(0, 8192),
)
def test_damage_near_the_end_parses_or_raises_format_error(
    changes: list[tuple[int, int]], cut: int
) -> None:
    """The table and the metadata are in the last 0x500 bytes."""
    data = bytearray(build.image(tdx=tdx_metadata()))
    for back, value in changes:
        data[-1 - back] = value
    for candidate in (bytes(data), bytes(data[cut:])):
        with contextlib.suppress(FormatError):
            ovmf.parse(candidate, "fw")
