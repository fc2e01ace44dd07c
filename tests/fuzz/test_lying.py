"""The device that lies, with this test as its QEMU and its driver."""

from __future__ import annotations

import mmap
import os
import random
import select
import socket
import struct
import zlib
from pathlib import Path

import pytest

from tests.fuzz import lying

BASE = 0x7F0000000000  # where a QEMU would have the memory
SIZE = 1 << 20
DESCRIPTORS, AVAILABLE, USED, BUFFER = 0x1000, 0x2000, 0x3000, 0x8000


def request(liar: lying.Liar, folder: Path) -> tuple[tuple[int, int, int], bytes]:
    """One request with a buffer of 4,096 bytes: the used index, id and length, and the buffer."""
    memory = os.memfd_create("guest")
    os.ftruncate(memory, SIZE)
    guest = mmap.mmap(memory, SIZE)
    guest[BUFFER : BUFFER + 4096] = b"?" * 4096
    struct.pack_into("<QIHH", guest, DESCRIPTORS + 16 * 3, BUFFER, 4096, lying.WRITE, 0)
    struct.pack_into("<HHH", guest, AVAILABLE, 0, 1, 3)  # descriptor 3 is available
    kick, call = os.eventfd(0), os.eventfd(0)
    with liar.serve(folder / "socket", SIZE), socket.socket(socket.AF_UNIX) as qemu:
        qemu.connect(str(folder / "socket"))

        def send(kind: int, body: bytes, *descriptors: int) -> None:
            head = lying.HEADER.pack(kind, lying.VERSION, len(body))
            socket.send_fds(qemu, [head + body], descriptors)

        send(lying.SET_MEM_TABLE, struct.pack("<II4Q", 1, 0, 0, SIZE, BASE, 0), memory)
        send(lying.SET_VRING_NUM, struct.pack("<II", 0, 8))
        send(lying.SET_VRING_BASE, struct.pack("<II", 0, 0))
        places = (BASE + DESCRIPTORS, BASE + USED, BASE + AVAILABLE, 0)
        send(lying.SET_VRING_ADDR, struct.pack("<II4Q", 0, 0, *places))
        send(lying.SET_VRING_CALL, struct.pack("<Q", 0), call)
        send(lying.SET_VRING_KICK, struct.pack("<Q", 0), kick)
        os.eventfd_write(kick, 1)
        assert select.select([call], [], [], 10)[0], "no answer"
    _, index, number, length = struct.unpack_from("<HHII", guest, USED)
    return (index, number, length), guest[BUFFER : BUFFER + 4096]


@pytest.mark.parametrize("kind", lying.FEATURES)
def test_an_honest_device_answers_what_was_asked(tmp_path: Path, kind: str) -> None:
    assert request(lying.Liar(kind, None), tmp_path) == ((1, 3, 4096), bytes(4096))


def test_a_liar_lies_in_each_way(tmp_path: Path) -> None:
    """In the number, the length, how many there are, and the content; the same for each seed."""
    answers = [request(lying.Liar("network", seed), tmp_path) for seed in range(40)]
    again = request(lying.Liar("network", 7), tmp_path)
    assert again == answers[7]
    indexes, numbers, lengths = zip(*(used for used, _ in answers), strict=True)
    assert set(indexes) > {1}
    assert set(numbers) > {3}
    assert set(lengths) > {4096}
    assert len({content for _, content in answers}) > 10


def test_some_partition_tables_are_right() -> None:
    """So that a parser goes on to the entries, and does not stop at a checksum."""
    right = 0
    for seed in range(50):
        page = lying._partitions(random.Random(seed))
        assert len(page) == 4096
        assert page[510:520] == b"\x55\xaaEFI PART"
        (size, checksum) = struct.unpack_from("<II", page, 512 + 12)
        header = page[512:1024]
        without = header[:16] + bytes(4) + header[20:]
        assert zlib.crc32(without[:size]) == checksum
        right += struct.unpack_from("<I", header, 88)[0] == zlib.crc32(page[1024:])
    assert right > 5
