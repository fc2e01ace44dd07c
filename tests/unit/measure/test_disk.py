"""Partition table, FAT file system, and the disk image made of them."""

from __future__ import annotations

import struct
import tracemalloc
import uuid
import zlib
from collections.abc import Callable

import pytest

from measure import fat, gpt, image
from measure.errors import FormatError, UnsupportedError
from tests.support.measurement import builders

OTHER = uuid.UUID("0fc63daf-8483-4772-8e79-3d69d8477de4")


@pytest.fixture(scope="module")
def disk() -> bytes:
    return builders.bootable_disk()


def small_disk() -> bytes:
    return builders.disk([("one", gpt.ESP_TYPE, b"1"), ("zwei", OTHER, b"2" * 600)])


def patch(data: bytes, offset: int, value: bytes, *, fix_crc: int | None = None) -> bytes:
    """`data` with bytes replaced; `fix_crc` is the header's offset to recompute its CRC."""
    changed = bytearray(data)
    changed[offset : offset + len(value)] = value
    if fix_crc is not None:
        changed[fix_crc + 16 : fix_crc + 20] = bytes(4)
        header = bytes(changed[fix_crc : fix_crc + 92])
        struct.pack_into("<I", changed, fix_crc + 16, zlib.crc32(header))
    return bytes(changed)


def test_partitions_and_event_data() -> None:
    data = small_disk()
    table = gpt.parse(data, "d")
    assert [(p.label, p.first, p.last) for p in table.partitions] == [("one", 34, 34),
                                                                      ("zwei", 35, 36)]  # fmt: skip
    assert data[table.partitions[1].start : table.partitions[1].start + 3] == b"222"
    header, entries = data[512:604], data[1024 : 1024 + 256]
    assert table.event_data == header + (2).to_bytes(8, "little") + entries


def test_gaps_between_entries_are_left_out_of_the_event() -> None:
    data = builders.disk([("one", gpt.ESP_TYPE, b"1"), ("gap", uuid.UUID(int=0), b"2"),
                          ("two", OTHER, b"3")])  # fmt: skip
    table = gpt.parse(data, "d")
    assert [p.label for p in table.partitions] == ["one", "two"]
    assert table.event_data[92:100] == (2).to_bytes(8, "little")


@pytest.mark.parametrize(
    ("offset", "value", "fix", "message"),
    [
        (512, b"EFI PARX", False, "no partition table header"),
        (512 + 8, b"\0\0\2\0", True, "no partition table header"),
        (512 + 12, b"\x5d\0\0\0", True, "no partition table header"),
        (512 + 56, b"E", False, "header's CRC is wrong"),
        (512 + 24, b"\2", True, "invalid partition table header"),
        (512 + 32, b"\x20", True, "truncated|no partition table|not at the end"),
        (512 + 80, b"\0\0\0\0", True, "invalid partition table header"),
        (512 + 80, b"\1\4\0\0", True, "invalid partition table header"),
        (512 + 84, b"\0\1\0\0", True, "invalid partition table header"),
        (512 + 72, b"\xff" * 8, True, "truncated"),
        (512 + 88, b"\0\0\0\0", True, "copies of the partition table differ"),
        (1024 + 56, b"O", False, "partition entries' CRC is wrong"),
        (-512 + 56, b"E", False, "header's CRC is wrong"),
        (-512 - 128 * 128, b"E", False, "partition entries' CRC is wrong"),
    ],
)
def test_damaged_table(offset: int, value: bytes, fix: bool, message: str) -> None:
    data = small_disk()
    offset %= len(data)
    with pytest.raises(FormatError, match=message):
        gpt.parse(patch(data, offset, value, fix_crc=512 if fix else None), "d")


def test_backup_must_be_at_the_end() -> None:
    with pytest.raises(FormatError, match="not at the end"):
        gpt.parse(small_disk() + bytes(512), "d")


def test_backup_must_name_the_primary() -> None:
    data = small_disk()
    backup = len(data) - 512
    changed = patch(data, backup + 32, b"\2", fix_crc=backup)
    with pytest.raises(FormatError, match="not at the end"):
        gpt.parse(changed, "d")


def test_partition_outside_the_usable_sectors() -> None:
    data = small_disk()
    entries = bytearray(data[1024 : 1024 + 128 * 128])
    struct.pack_into("<Q", entries, 40, 1 << 40)
    end = len(data) // 512 - 1
    where = {"last": end - 33}
    primary = builders.gpt_header(bytes(entries), own=1, other=end, entries_sector=2, **where)
    backup = builders.gpt_header(bytes(entries), own=end, other=1, entries_sector=end - 32, **where)
    changed = patch(patch(data, 512, primary), 1024, bytes(entries))
    changed = patch(patch(changed, end * 512, backup), (end - 32) * 512, bytes(entries))
    with pytest.raises(FormatError, match="outside the usable sectors"):
        gpt.parse(changed, "d")


@pytest.mark.parametrize("bits", [12, 16, 32])
def test_fat_files(bits: int) -> None:
    files = {"EFI/BOOT/BOOTX64.EFI": bytes(range(256)) * 11, "EMPTY": b"", "EFI/NOTE.TXT": b"hi"}
    data = b"\xee" * 512 + builders.fat(files, bits=bits) + b"\xee" * 512
    volume = fat.Volume(data, "f", 512, len(data) - 512)
    assert volume.bits == bits
    assert {file.path: volume.read(file) for file in volume.files()} == files


def test_fat_long_name() -> None:
    name = "A long name.efi"
    data = bytearray(builders.fat({"SHORT.EFI": b"x"}, bits=12))
    root = data.index(b"SHORT   EFI")
    text = (name + "\0").encode("utf-16-le").ljust(52, b"\xff")
    records = b""
    for number in (2, 1):
        part = text[26 * (number - 1) : 26 * number]
        first = number | (0x40 if number == 2 else 0)
        records += bytes([first]) + part[:10] + b"\x0f\0\0" + part[10:22] + b"\0\0" + part[22:]
    data[root : root + 96] = records + data[root : root + 32]
    volume = fat.Volume(bytes(data), "f", 0, len(data))
    assert [file.path for file in volume.files()] == [name]


@pytest.mark.parametrize(
    ("offset", "value", "message"),
    [
        (11, b"\0\0", "not a FAT"),
        (13, b"\3", "not a FAT"),
        (14, b"\0\0", "not a FAT"),
        (16, b"\0", "not a FAT"),
        (22, b"\0\0", "not a FAT|larger"),
        (32, b"\xff\xff\xff\x7f", "larger than its partition"),
        (17, b"\0\0", "root entries"),
    ],
)
def test_fat_damaged_boot_sector(offset: int, value: bytes, message: str) -> None:
    data = builders.fat({"A": b"x"}, bits=12)
    with pytest.raises(FormatError, match=message):
        fat.Volume(data[:offset] + value + data[offset + len(value) :], "f", 0, len(data))


@pytest.mark.parametrize("bits", [12, 16, 32])
def test_fat_cluster_loops_and_directory_loops_end(bits: int) -> None:
    data = builders.fat({"D/A": b"x" * 2000}, bits=bits)
    volume = fat.Volume(bytes(data), "f", 0, len(data))
    (file,) = volume.files()
    start = volume._fat_start + file.cluster * bits // 8
    with pytest.raises(FormatError, match="cluster chain"):
        looped = bytearray(data)
        looped[start : start + bits // 8 + 1] = bytes(bits // 8 + 1)
        fat.Volume(bytes(looped), "f", 0, len(data)).read(file)
    entry = data.index(b"A          ")
    directory = data.index(b"D          ")
    into_itself = bytearray(data)
    into_itself[entry : entry + 32] = b"A          " + data[directory + 11 : directory + 32]
    with pytest.raises(FormatError, match="in a loop"):
        fat.Volume(bytes(into_itself), "f", 0, len(data)).files()


def test_fat_cluster_that_is_its_own_successor() -> None:
    data = bytearray(builders.fat({"A": b"x" * 2000}, bits=16))
    volume = fat.Volume(bytes(data), "f", 0, len(data))
    (file,) = volume.files()
    struct.pack_into("<H", data, 32 * 512 + 2 * file.cluster, file.cluster)
    with pytest.raises(FormatError, match="each once, seen cluster"):
        fat.Volume(bytes(data), "f", 0, len(data)).read(file)


def test_fat_cluster_outside_the_file_system() -> None:
    data = bytearray(builders.fat({"A": b"x" * 600}, bits=16))
    volume = fat.Volume(bytes(data), "f", 0, len(data))
    (file,) = volume.files()
    struct.pack_into("<H", data, 32 * 512 + 2 * file.cluster, 4202)
    with pytest.raises(FormatError, match=r"clusters 2 to 4201, .*seen cluster 4202"):
        fat.Volume(bytes(data) + bytes(4096), "f", 0, len(data) + 4096).read(file)


def test_fat_without_room_for_clusters() -> None:
    data = bytearray(builders.fat({"A": b"x"}, bits=12))
    struct.pack_into("<H", data, 19, 0)
    struct.pack_into("<I", data, 32, 60)  # sectors in all; tables and root folder take 67
    with pytest.raises(FormatError, match="larger than its partition"):
        fat.Volume(bytes(data), "f", 0, len(data))


def test_fat_file_larger_than_its_chain() -> None:
    data = bytearray(builders.fat({"A": b"x" * 10}, bits=12))
    entry = data.index(b"A          ")
    struct.pack_into("<I", data, entry + 28, 100_000)
    volume = fat.Volume(bytes(data), "f", 0, len(data))
    with pytest.raises(FormatError, match=r"A is truncated.*expected 196 clusters, seen 1"):
        volume.read(volume.files()[0])


def test_fat_chain_longer_than_its_file() -> None:
    data = bytearray(builders.fat({"A": b"x" * 2048}, bits=12))
    entry = data.index(b"A          ")
    struct.pack_into("<I", data, entry + 28, 1536)
    volume = fat.Volume(bytes(data), "f", 0, len(data))
    with pytest.raises(FormatError, match="chain too long; expected 3 clusters, seen 4 or more"):
        volume.read(volume.files()[0])


def peak(work: Callable[[], object], message: str) -> int:
    """Bytes that a refusal takes at most."""
    tracemalloc.start()
    try:
        with pytest.raises(FormatError, match=message):
            work()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_fat_a_large_file_in_a_loop_is_refused_at_once() -> None:
    data = bytearray(builders.fat({"A": b"x"}, bits=32))
    size = 65600 * 512
    (file,) = fat.Volume(bytes(data), "f", 0, len(data)).files()
    struct.pack_into("<I", data, 32 * 512 + 4 * file.cluster, file.cluster)
    volume = fat.Volume(bytes(data), "f", 0, len(data))
    looped, absurd = (fat.File("A", file.cluster, claimed) for claimed in (size, size + 1))
    assert peak(lambda: volume.read(looped), "each once") < 1 << 20
    assert peak(lambda: volume.read(absurd), "larger than its file system") < 1 << 20


def test_fat_many_names_of_one_large_directory() -> None:
    """Deleted entries count too, and no directory is read before its turn."""
    deleted = (b"\xe5" + bytes(31)) * 4000
    names = {f"D/{number:03}": b"x" for number in range(800)}
    data = bytearray(builders.fat({"BIG": deleted, **names}, bits=16))
    big = data.index(b"BIG        ")
    for number in range(800):
        entry = data.index(f"{number:03}        ".encode())
        data[entry + 11 : entry + 32] = b"\x10" + data[big + 12 : big + 28] + bytes(4)
    volume = fat.Volume(bytes(data), "f", 0, len(data))
    assert peak(volume.files, "too many files, or directories in a loop") < 4 << 20


def test_disk_image(disk: bytes) -> None:
    parsed = image.parse(disk, "d")
    assert parsed.uki_bytes == builders.uki()
    assert parsed.layers == (image.Layer("base", builders.ROOT_HASH, 12),)


def test_disk_without_or_with_two_system_partitions() -> None:
    for kinds in ((OTHER, OTHER), (gpt.ESP_TYPE, gpt.ESP_TYPE)):
        with pytest.raises(UnsupportedError, match="EFI system partition"):
            image.parse(builders.disk([("a", kinds[0], b"1"), ("b", kinds[1], b"2")]), "d")


@pytest.mark.parametrize(
    "extra", ["LOADER/CRED.CRE", "EFI/BOOT/BOOTX64.EXT/A.CRE", "EFI/BOOT/OTHER.EFI"]
)
def test_anything_beside_the_uki_is_refused(extra: str) -> None:
    esp = builders.fat({"EFI/BOOT/BOOTX64.EFI": builders.uki(), extra: b"x"})
    with pytest.raises(UnsupportedError, match="must hold one file"):
        image.parse(builders.disk([("ESP", gpt.ESP_TYPE, esp)]), "d")


@pytest.mark.parametrize(
    "item",
    [
        "confide.layer=base",
        "confide.layer=base,abcd,12",
        f"confide.layer=base,{'AB' * 32},12",
        f"confide.layer=base,{'ab' * 32},0",
        f"confide.layer=base,{'ab' * 32},12,13",
        f"confide.layer=,{'ab' * 32},12",
        f"confide.layer=app,{'ab' * 32},1 confide.layer=app,{'cd' * 32},1",
    ],
)
def test_malformed_layers(item: str) -> None:
    with pytest.raises(FormatError, match="layer"):
        image.parse_layers(f"quiet {item}", "f")


def test_no_more_layers_than_can_be_compared() -> None:
    """Each name is compared with each."""
    items = [f"confide.layer=l{n},{'ab' * 32},1" for n in range(20_000)]
    assert len(image.parse_layers(" ".join(items[: image.MAX_LAYERS]), "f")) == image.MAX_LAYERS
    with pytest.raises(FormatError, match="too many layers on the command line; expected at most"):
        image.parse_layers(" ".join(items), "f")
