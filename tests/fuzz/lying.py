"""A virtio device whose host lies: to its driver, in the rings and in what it writes.

It is the other side of QEMU's vhost-user devices: QEMU shares the machine's memory with it (vhost
user protocol, docs/interop/vhost-user.rst of QEMU), and it answers the driver's requests itself.
Rings are those of the virtio specification 1.2, 2.7 (split).
"""

from __future__ import annotations

import contextlib
import mmap
import os
import random
import select
import socket
import struct
import threading
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

HEADER = struct.Struct("<III")  # request, flags, size of what follows
GET_FEATURES, SET_MEM_TABLE, SET_VRING_NUM, SET_VRING_ADDR, SET_VRING_BASE = 1, 5, 8, 9, 10
GET_VRING_BASE, SET_VRING_KICK, SET_VRING_CALL = 11, 12, 13
GET_PROTOCOL_FEATURES, GET_QUEUE_NUM, GET_CONFIG = 15, 17, 24
VERSION, REPLY, NO_DESCRIPTOR = 1, 4, 1 << 8
# Features: those of the transport, then those of a disk and a network card.
TRANSPORT = 1 << 32 | 1 << 30 | 1 << 28  # version 1, vhost-user's own, indirect descriptors
FEATURES = {
    "disk": TRANSPORT | 1 << 2 | 1 << 6 | 1 << 10 | 1 << 12,  # limits, block size, topology, queues
    "network": TRANSPORT | 1 << 0 | 1 << 1 | 1 << 7 | 1 << 8 | 1 << 15,  # offloads, merged buffers
}
CONFIGURATION = 1 << 9  # protocol feature: the device's own registers come from here
NEXT, WRITE, INDIRECT = 1, 2, 4  # flags of a descriptor
DESCRIPTOR = struct.Struct("<QIHH")  # address, size, flags, next
SECTORS = 2048
ODD = (0, 1, 2, 11, 12, 13, 511, 513, 0x7FFF, 0xFFFF, 0x10000, 0x7FFFFFFF, 0xFFFFFFFF)
# QEMU's arguments for each kind of device.
ARGUMENTS = {
    "disk": ("-device", "vhost-user-blk-pci,chardev=lies,num-queues=1"),
    "network": (
        *("-netdev", "vhost-user,chardev=lies,id=lies"),
        *("-device", "virtio-net-pci,netdev=lies,romfile="),
    ),
}


@dataclass
class Ring:
    """One queue: QEMU's addresses of its parts, and how far it was read."""

    size: int = 0
    descriptors: int = 0
    used: int = 0
    available: int = 0
    seen: int = 0
    kick: int = -1
    call: int = -1


@dataclass
class Liar:
    """One device for one machine.

    Attributes:
        kind: "disk" or "network".
        seed: of how it lies, which depends on when the driver asks, too; None for an honest device.
    """

    kind: str
    seed: float | None
    _regions: list[tuple[int, int, mmap.mmap]] = field(default_factory=list)
    _rings: dict[int, Ring] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.chance = None if self.seed is None else random.Random(self.seed)

    @contextlib.contextmanager
    def serve(self, path: Path, memory: int) -> Iterator[list[str]]:
        """Answers on a socket; gives QEMU's arguments for a machine of `memory` bytes."""
        with socket.socket(socket.AF_UNIX) as listening:
            path.unlink(missing_ok=True)
            listening.bind(str(path))
            listening.listen()
            threading.Thread(target=self._answer, args=(listening,), daemon=True).start()
            yield [
                *("-object", f"memory-backend-memfd,id=shared,size={memory},share=on"),
                *("-machine", "memory-backend=shared"),
                *("-chardev", f"socket,id=lies,path={path}", *ARGUMENTS[self.kind]),
            ]

    def _answer(self, listening: socket.socket) -> None:
        # QEMU may connect more than once, and goes away without a word.
        with contextlib.suppress(OSError, struct.error, IndexError):
            while True:
                connection, _ = listening.accept()
                with connection:
                    while self._turn(connection):
                        pass

    def _turn(self, connection: socket.socket) -> bool:
        kicks = {ring.kick: ring for ring in self._rings.values() if ring.kick >= 0}
        ready, _, _ = select.select([connection.fileno(), *kicks], [], [])
        for kick in ready:
            if kick in kicks:
                os.read(kick, 8)
                self._requests(kicks[kick])
        return connection.fileno() not in ready or self._message(connection)

    def _message(self, connection: socket.socket) -> bool:
        head, descriptors, _, _ = socket.recv_fds(connection, HEADER.size, 8)
        if len(head) < HEADER.size:
            return False
        request, _, size = HEADER.unpack(head)
        body = connection.recv(size, socket.MSG_WAITALL) if size else b""
        reply = self._handle(request, body, descriptors)
        if reply is not None:
            connection.sendall(HEADER.pack(request, VERSION | REPLY, len(reply)) + reply)
        return True

    def _handle(self, request: int, body: bytes, descriptors: list[int]) -> bytes | None:
        if request == GET_FEATURES:
            return struct.pack("<Q", FEATURES[self.kind])
        if request == GET_PROTOCOL_FEATURES:
            return struct.pack("<Q", CONFIGURATION if self.kind == "disk" else 0)
        if request == GET_QUEUE_NUM:
            return struct.pack("<Q", 1)
        if request == GET_CONFIG:
            offset, size, _ = struct.unpack_from("<III", body)
            return body[:12] + self._registers()[offset : offset + size].ljust(size, b"\0")
        if request == SET_MEM_TABLE:
            self._regions.clear()
            for number, descriptor in enumerate(descriptors):
                _, size, address, offset = struct.unpack_from("<4Q", body, 8 + 32 * number)
                mapped = mmap.mmap(descriptor, size + offset)
                self._regions.append((address - offset, size + offset, mapped))
        elif request in (SET_VRING_KICK, SET_VRING_CALL):
            (value,) = struct.unpack("<Q", body)
            ring = self._rings.setdefault(value & 0xFF, Ring())
            given = -1 if value & NO_DESCRIPTOR else descriptors[0]
            if request == SET_VRING_KICK:
                ring.kick = given
            else:
                ring.call = given
        elif request in (SET_VRING_NUM, SET_VRING_BASE, SET_VRING_ADDR, GET_VRING_BASE):
            number, value = struct.unpack_from("<II", body)
            ring = self._rings.setdefault(number, Ring())
            if request == SET_VRING_NUM:
                ring.size = value
            elif request == SET_VRING_BASE:
                ring.seen = value
            elif request == GET_VRING_BASE:
                return struct.pack("<II", number, ring.seen)
            else:
                ring.descriptors, ring.used, ring.available = struct.unpack_from("<3Q", body, 8)
        return None

    def _registers(self) -> bytes:
        """Struct virtio_blk_config: capacity, limits, geometry, block size, topology, queues."""
        values = [SECTORS, 0, 126, 0, 0, 512]
        if self.chance is not None and self.chance.randrange(2):
            values[self.chance.choice((0, 2, 5))] = self.chance.choice((*ODD, 1 << 12, 1 << 20))
        return struct.pack("<QIIHHI", *values) + bytes(10) + struct.pack("<H", 1) + bytes(24)

    def _view(self, address: int) -> tuple[mmap.mmap, int]:
        for start, size, mapped in self._regions:
            if start <= address < start + size:
                return mapped, address - start
        raise IndexError(address)

    def _guest(self, address: int, size: int) -> tuple[mmap.mmap, int]:
        """A guest's own address. Memory here is one piece from 0."""
        mapped = max((region[2] for region in self._regions), key=len)
        if address + size > len(mapped):
            raise IndexError(address)
        return mapped, address

    def _requests(self, ring: Ring) -> None:
        """Answers what the driver made available, and lies about it."""
        mapped, at = self._view(ring.available)
        _, index = struct.unpack_from("<HH", mapped, at)
        while ring.seen != index:
            (head,) = struct.unpack_from("<H", mapped, at + 4 + 2 * (ring.seen % ring.size))
            ring.seen = (ring.seen + 1) & 0xFFFF
            written = self._fill(ring, head)
            self._use(ring, head, written)
        if ring.call >= 0:
            os.eventfd_write(ring.call, 1)

    def _fill(self, ring: Ring, head: int) -> int:
        """Writes to the buffers of a request; returns how many bytes were."""
        mapped, at = self._view(ring.descriptors)
        buffers = []
        for _ in range(ring.size):
            address, size, flags, following = DESCRIPTOR.unpack_from(mapped, at + 16 * head)
            if flags & INDIRECT:
                table, start = self._guest(address, size)
                listed = DESCRIPTOR.iter_unpack(table[start : start + size])
                buffers += [(where, length) for where, length, kind, _ in listed if kind & WRITE]
            elif flags & WRITE:
                buffers.append((address, size))
            if not flags & NEXT:
                break
            head = following
        for number, (address, size) in enumerate(buffers):
            data = bytes(size)
            if self.chance is not None:
                data = self._content(size, last=number == len(buffers) - 1)
            memory, start = self._guest(address, size)
            memory[start : start + size] = data
        return sum(size for _, size in buffers)

    def _content(self, size: int, *, last: bool) -> bytes:
        assert self.chance is not None
        data = self.chance.randbytes(size) if self.chance.randrange(3) else bytes(size)
        if self.kind == "network":  # its header: flags, offload, sizes, number of buffers
            odd = [self.chance.choice(ODD) & 0xFFFF for _ in range(5)]
            head = struct.pack(
                "<BB5H", odd[0] & 0xFF, self.chance.choice((0, 1, 3, 4, 5, 0x81)), *odd
            )
            frame = b"\xff" * 6 + bytes(6) + self.chance.choice((b"\x08\0", b"\x81\0", b"\x86\xdd"))
            data = (head + frame + data)[:size]
        elif last:  # the status of a request to a disk
            data = data[:-1] + bytes([self.chance.choice((0, 0, 0, 1, 2, 255))])
        elif self.chance.randrange(4):
            data = (_partitions(self.chance) + data)[:size]
        return data

    def _use(self, ring: Ring, head: int, written: int) -> None:
        """Gives a request back, or another one, or more than there are, or not at all."""
        mapped, at = self._view(ring.used)
        (index,) = struct.unpack_from("<H", mapped, at + 2)
        number, size, step = head, written, 1
        if self.chance is not None:
            lie = self.chance.randrange(12)
            if lie == 0:
                number = self.chance.choice((*ODD, self.chance.randrange(ring.size)))
            elif lie in (1, 2, 3):
                size = self.chance.choice((*ODD, written + 1, max(written - 1, 0)))
            elif lie == 4:
                step = self.chance.choice((0, 2, ring.size, ring.size + 1, 0x8000))
        struct.pack_into("<II", mapped, at + 4 + 8 * (index % ring.size), number, size & 0xFFFFFFFF)
        struct.pack_into("<H", mapped, at + 2, (index + step) & 0xFFFF)


def _partitions(chance: random.Random) -> bytes:
    """The first 4 KiB of a disk with a partition table (UEFI 2.10, 5), most checksums right."""
    count = chance.choice((0, 1, 24, 24, 24, *ODD))
    entries = b"".join(
        chance.randbytes(32)
        + struct.pack("<QQ", chance.randrange(50), chance.choice((*ODD, 60)))
        + bytes(80)
        for _ in range(24)
    )
    size, entry = chance.choice((92, 92, 92, 512, *ODD)), chance.choice((128, 128, 128, *ODD))
    places = [1, SECTORS - 1, 34, SECTORS - 34]  # of the header, its copy, and what is between
    places[chance.randrange(4)] += chance.choice((0, 0, 0, *ODD))
    listed = struct.pack("<16xQ3I", 2, count, entry, zlib.crc32(entries[: 128 * min(count, 24)]))
    checksum = 0
    for _ in range(2):  # the second time with its own checksum
        header = b"EFI PART\0\0\1\0" + struct.pack("<3I4Q", size, checksum, 0, *places) + listed
        checksum = zlib.crc32(header.ljust(512, b"\0")[:size])
    record = bytes(446) + b"\0\0\2\0\xee\xff\xff\xff" + struct.pack("<II", 1, SECTORS - 1)
    return record.ljust(510, b"\0") + b"\x55\xaa" + header.ljust(512, b"\0") + entries
