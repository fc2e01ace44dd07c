"""Small valid inputs for every parser of `measure`, built from the format specifications."""

from __future__ import annotations

import hashlib
import lzma
import struct
import uuid
import zlib
from collections.abc import Mapping, Sequence

from measure import gpt

SECTOR = 512
STUB_MAGIC = b"#### LoaderInfo: systemd-stub 257.13-1 ####"
# What veritysetup says of layer_data(12): see test_verity.py.
ROOT_HASH = "962239655a30a49de2ad209195c805430c756273d992d0a3e9381c87a68af967"
COMMAND_LINE = f"console=ttyS0 confide.layer=base,{ROOT_HASH},12 quiet\n".encode()
VERSION = "2025.02-test"
TIMER_IN_FILE = 0x248  # where pei_core() has the variable that the PEI core sets


def pe(
    sections: Sequence[tuple[str, bytes]], *, certificate: bytes = b"", trailing: bytes = b""
) -> bytes:
    """A PE32+ image; sections in file order, each padded to 8 bytes; virtual size = content."""
    headers_size = 0x200 if len(sections) <= 4 else 0x400
    optional = struct.pack("<H58xII40xI", 0x20B, headers_size, 0x1234, 16)
    body, headers, offset = b"", b"", headers_size
    for name, content in sections:
        raw = content + bytes(-len(content) % 8)
        fields = (len(content), offset, len(raw), offset)
        headers += name.encode().ljust(8, b"\0") + struct.pack("<4I16x", *fields)
        body += raw
        offset += len(raw)
    body += trailing
    security = (headers_size + len(body), len(certificate)) if certificate else (0, 0)
    directories = bytes(32) + struct.pack("<II", *security) + bytes(88)
    coff = struct.pack("<HH12xHH", 0x8664, len(sections), len(optional + directories), 0)
    start = b"MZ" + bytes(0x3A) + struct.pack("<I", 0x40) + b"PE\0\0"
    head = start + coff + optional + directories + headers
    assert len(head) <= headers_size
    return head.ljust(headers_size, b"\0") + body + certificate


def uki_sections() -> dict[str, bytes]:
    """The sections of a UKI as ukify writes them, in its order."""
    return {
        ".text": b"\x90" * 64,
        ".sdmagic": STUB_MAGIC,
        ".sbat": b"sbat,1\n\0",
        ".osrel": b"ID=confide\n",
        ".cmdline": COMMAND_LINE,
        ".uname": b"6.12.0",
        ".initrd": b"initrd bytes",
        ".linux": pe([(".text", b"kernel code")]),
    }


def uki(changes: Mapping[str, bytes | None] | None = None) -> bytes:
    """A UKI; `changes` replaces or adds sections, None removes one."""
    sections: dict[str, bytes | None] = {**uki_sections(), **(changes or {})}
    return pe([(name, content) for name, content in sections.items() if content is not None])


def fat(files: Mapping[str, bytes], *, bits: int = 16) -> bytes:
    """A FAT12/16/32 file system with 8.3 names; paths with `/`."""
    clusters = {12: 1000, 16: 4200, 32: 65600}[bits]
    reserved, root_entries = 32, 0 if bits == 32 else 512
    fat_sectors = -(-(clusters + 2) * bits // 8 // SECTOR)
    total = reserved + fat_sectors + root_entries * 32 // SECTOR + clusters
    chains: dict[int, int] = {}
    data = bytearray(clusters * SECTOR)
    last = {12: 0xFFF, 16: 0xFFFF, 32: 0x0FFFFFFF}[bits]
    free = 2

    def store(content: bytes) -> int:
        nonlocal free
        count = max(1, -(-len(content) // SECTOR))
        first = free
        free += count
        data[(first - 2) * SECTOR : (first - 2) * SECTOR + len(content)] = content
        chains.update({c: c + 1 for c in range(first, free - 1)})
        chains[free - 1] = last
        return first

    def entry(name: str, attributes: int, cluster: int, size: int) -> bytes:
        base, _, extension = name.partition(".")
        short = base.ljust(8).encode() + extension.ljust(3).encode()
        high, low = cluster >> 16, cluster & 0xFFFF
        return short + struct.pack("<B8xH4xHI", attributes, high, low, size)

    def directory(prefix: str) -> bytes:
        names = dict.fromkeys(
            path[len(prefix) :].split("/")[0] for path in files if path.startswith(prefix)
        )
        entries = b""
        for name in names:
            content = files.get(prefix + name)
            if content is None:
                entries += entry(name, 0x10, store(directory(f"{prefix}{name}/")), 0)
            else:
                entries += entry(name, 0x20, store(content) if content else 0, len(content))
        return entries

    root = entry("LABEL", 0x08, 0, 0) + directory("")
    root_cluster = store(root) if bits == 32 else 0
    table = bytearray(fat_sectors * SECTOR)
    for cluster, following in chains.items():
        at = cluster * bits // 8
        width = 4 if bits == 32 else 2
        old = int.from_bytes(table[at : at + width], "little")
        shifted = following << 4 if bits == 12 and cluster & 1 else following
        table[at : at + width] = (old | shifted).to_bytes(width, "little")
    boot = bytearray(reserved * SECTOR)
    fields = (SECTOR, 1, reserved, 1, root_entries, 0, 0xF8, 0 if bits == 32 else fat_sectors)
    struct.pack_into("<11xHBHBHHBH8xI", boot, 0, *fields, total)
    if bits == 32:
        struct.pack_into("<I4xI", boot, 36, fat_sectors, root_cluster)
    root_area = b"" if bits == 32 else root.ljust(root_entries * 32, b"\0")
    return bytes(boot) + bytes(table) + root_area + bytes(data)


def gpt_header(entries: bytes, *, own: int, other: int, entries_sector: int, last: int) -> bytes:
    """A 92-byte header over 128 entries, with right CRCs."""
    header = b"EFI PART" + struct.pack("<4I", 0x10000, 92, 0, 0)
    header += struct.pack("<4Q16sQ", own, other, 34, last, b"D" * 16, entries_sector)
    header += struct.pack("<3I", len(entries) // 128, 128, zlib.crc32(entries))
    return header[:16] + struct.pack("<I", zlib.crc32(header)) + header[20:]


def disk(partitions: Sequence[tuple[str, uuid.UUID, bytes]]) -> bytes:
    """A GPT disk: each partition (label, type, content) behind the one before."""
    entries, body, sector = b"", b"", 34
    for number, (label, kind, content) in enumerate(partitions):
        sectors = -(-len(content) // SECTOR)
        entries += kind.bytes_le + bytes([number + 1]) * 16
        entries += struct.pack("<QQ8x", sector, sector + sectors - 1)
        entries += label.encode("utf-16-le").ljust(72, b"\0")
        body += content.ljust(sectors * SECTOR, b"\0")
        sector += sectors
    entries = entries.ljust(128 * 128, b"\0")
    end = sector + 32  # the backup header's sector
    primary = gpt_header(entries, own=1, other=end, entries_sector=2, last=sector - 1)
    backup = gpt_header(entries, own=end, other=1, entries_sector=sector, last=sector - 1)
    return (
        bytes(SECTOR) + primary.ljust(SECTOR, b"\0") + entries
        + body + entries + backup.ljust(SECTOR, b"\0")
    )  # fmt: skip


def layer_data(blocks: int) -> bytes:
    """Data of a layer, no two blocks alike."""
    return bytes(range(251)) * (blocks * 4096 // 251) + bytes(range(blocks * 4096 % 251))


def hash_tree(data: bytes) -> bytes:
    """The dm-verity tree of some data (salt of 32 zero bytes), top level first."""
    digests = [
        hashlib.sha256(bytes(32) + data[at : at + 4096]).digest()
        for at in range(0, len(data), 4096)
    ]
    if len(digests) == 1:
        return b""
    level = b"".join(digests)
    level += bytes(-len(level) % 4096)
    return hash_tree(level) + level


def bootable_disk(uki_bytes: bytes | None = None, layer: bytes | None = None) -> bytes:
    """A disk as the build makes it: an EFI system partition with one UKI, and one layer."""
    data = layer_data(12)
    esp = fat({"EFI/BOOT/BOOTX64.EFI": uki() if uki_bytes is None else uki_bytes})
    layer_type = uuid.UUID("0fc63daf-8483-4772-8e79-3d69d8477de4")
    return disk([("ESP", gpt.ESP_TYPE, esp), ("base", layer_type, layer or data + hash_tree(data))])


def ffs_section(kind: int, content: bytes) -> bytes:
    """A firmware section with a 24-bit or, if need be, a 32-bit size."""
    if len(content) + 4 < 0xFFFFFF:
        return (len(content) + 4).to_bytes(3, "little") + bytes([kind]) + content
    return b"\xff\xff\xff" + bytes([kind]) + struct.pack("<I", len(content) + 8) + content


def ffs_file(guid: uuid.UUID, kind: int, sections: Sequence[bytes]) -> bytes:
    """A firmware file; sections start on multiples of 4 bytes."""
    body = b""
    for section in sections:
        body += bytes(-len(body) % 4) + section
    header = guid.bytes_le + bytes(2) + bytes([kind, 0])
    return header + (len(body) + 24).to_bytes(3, "little") + b"\xf8" + body


def volume(files: Sequence[bytes], *, free: int = 64) -> bytes:
    """A firmware volume (FFS2) with a valid header checksum and `free` bytes of 0xff at the end."""
    body = b""
    for file in files:
        body += b"\xff" * (-len(body) % 8) + file
    body += b"\xff" * (-len(body) % 8 + free)
    filesystem = uuid.UUID("8c8ce578-8a3d-4f1c-9935-896185c32dd3").bytes_le
    length = 72 + len(body)
    header = bytes(16) + filesystem + struct.pack("<Q4sIHHHBB", length, b"_FVH", 0, 72, 0, 0, 0, 2)
    header += struct.pack("<4I", 1, length, 0, 0)
    checksum = -sum(struct.unpack("<36H", header)) & 0xFFFF
    return header[:50] + struct.pack("<H", checksum) + header[52:] + body


def pei_core(*, instructions: int = 1, initial: bytes = bytes(4)) -> bytes:
    """A program with `instructions` times `mov dword [rip+x], 0x608` to a variable in .data."""
    code = b""
    for number in range(instructions):
        after = 0x200 + len(code) + 10
        target = TIMER_IN_FILE + 8 * number
        code += b"\xc7\x05" + struct.pack("<iI", target - after, 0x608)
    return pe([(".text", code.ljust(64, b"\x90")), (".data", b"\x77" * 8 + initial + bytes(28))])


def firmware(
    *,
    core: bytes | None = None,
    strings: Sequence[str] = (VERSION,),
    dxe_files: Sequence[bytes] = (),
    pei_files: Sequence[bytes] = (),
    packed_after: bytes = b"",
) -> bytes:
    """A firmware code file with the structure of OVMF's, some KiB large."""
    text = b"".join(s.encode("utf-16-le") + b"\0\0" + b"\xcc" * 4 for s in strings)
    tcg2 = uuid.UUID("a0c98b77-cba5-4bb8-993b-4af6ce33ece4")
    program = ffs_section(0x10, pei_core() if core is None else core)
    pei = volume([
        ffs_file(uuid.UUID(int=1), 0x04, [program]),
        ffs_file(tcg2, 0x06, [ffs_section(0x10, pe([(".text", b"\xcc" * 8 + text)]))]),
        *pei_files,
    ])  # fmt: skip
    dxe_core = ffs_file(uuid.UUID(int=2), 0x05, [ffs_section(0x10, pe([(".text", b"dxe")]))])
    dxe = volume([dxe_core, *dxe_files])
    unpacked = ffs_section(0x19, bytes(0x78)) + ffs_section(0x17, pei)
    unpacked += bytes(-len(unpacked) % 4) + ffs_section(0x17, dxe)
    unpacked += bytes(-len(unpacked) % 4) + packed_after
    packed = lzma.compress(unpacked, format=lzma.FORMAT_ALONE, preset=0)
    guid = uuid.UUID("ee4e5898-3914-4259-9d6e-dc7bd79403cf").bytes_le
    guided = ffs_section(0x02, guid + struct.pack("<HH", 24, 1) + packed)
    return volume([ffs_file(uuid.UUID(int=3), 0x0B, [guided])])


def log_header(algorithms: Sequence[tuple[int, int]] = ((11, 32),)) -> bytes:
    """The Spec ID event; algorithms as (TPM_ALG_ID, digest size)."""
    spec = b"Spec ID Event03\0" + struct.pack("<IBBBBI", 0, 0, 2, 0, 2, len(algorithms))
    spec += b"".join(struct.pack("<HH", *pair) for pair in algorithms) + b"\0"
    return struct.pack("<II20xI", 0, 3, len(spec)) + spec


def log_event(pcr: int, kind: int, data: bytes, digest: bytes | None = None) -> bytes:
    """An event of a SHA-256-only log; the digest is that of the data if none is given."""
    value = hashlib.sha256(data).digest() if digest is None else digest
    return struct.pack("<IIIH", pcr, kind, 1, 11) + value + struct.pack("<I", len(data)) + data


def log(events: Sequence[tuple[int, int, bytes]] = ((0, 8, b"version"), (4, 4, bytes(4)))) -> bytes:
    """A SHA-256-only log of (register, type, data)."""
    return log_header() + b"".join(log_event(*event) for event in events)
