"""Programs relocated in place: what may change in the file, and what must not."""

from __future__ import annotations

import os
import struct
import subprocess
import sys
from pathlib import Path

import elf
import pytest

STRINGS, DYNAMIC, END = 0x200, 0x240, 0x300


def program(
    *, spare: int = 2, tags: tuple[int, ...] = (1,), gap: int = 0x800, interpreter: bool = True
) -> bytes:
    """An ELF64 file: one segment of END bytes at 0x400000, `gap` zeros, a second segment."""
    entries = [
        (5, 0x400000 + STRINGS),
        *((tag, 0) for tag in tags),
        *((0, 0) for _ in range(spare)),
    ]
    headers = [
        (1, 4, 0, 0x400000, END),
        (2, 4, DYNAMIC, 0x400000 + DYNAMIC, 16 * len(entries)),
        (1, 6, END + gap, 0x402000, 0x100),
    ]
    if interpreter:
        headers.append((3, 4, 0x1F0, 0x4001F0, 8))
    data = bytearray(END + gap + 0x100)
    data[:6] = b"\x7fELF\x02\x01"
    struct.pack_into("<Q", data, 32, 64)
    struct.pack_into("<HH", data, 54, 56, len(headers))
    for index, (kind, flags, offset, address, size) in enumerate(headers):
        in_memory = size + 0x10 * (flags == 6)  # what is written at run time ends in zeros
        values = (kind, flags, offset, address, address, size, in_memory, 1)
        struct.pack_into("<IIQQQQQQ", data, 64 + 56 * index, *values)
    data[0x1F0:0x1F8] = b"/lib/ld\0"
    data[STRINGS : STRINGS + 12] = b"\0libc.so.6\0\0"
    for index, entry in enumerate(entries):
        struct.pack_into("<QQ", data, DYNAMIC + 16 * index, *entry)
    data[END - 1] = 0xFF
    return bytes(data)


def library_path(data: bytes) -> str:
    """DT_RPATH as a loader reads it: in memory, relative to the string table."""
    changed = elf.Elf(data)
    memory = bytearray(0x4000)
    for segment in changed.segments:
        if segment.kind == elf.PT_LOAD:
            at = segment.address - 0x400000
            memory[at : at + segment.file_size] = data[
                segment.offset : segment.offset + segment.file_size
            ]
    value = next(value for _, tag, value in changed.dynamic() if tag == elf.DT_RPATH)
    at = (STRINGS + value) % 2**64
    return bytes(memory[at : memory.index(0, at)]).decode()


@pytest.mark.parametrize(
    "made",
    [
        program(),
        program(spare=1, tags=(1, 29)),
        program(spare=1, tags=(1, 15)),
        program(spare=1, tags=(21,)),
    ],
    ids=["spare entry", "runpath", "rpath", "debug"],
)
def test_the_library_path_is_what_a_loader_reads(made: bytes) -> None:
    changed = elf.Elf(made)
    changed.set_library_path("/new/place")
    assert library_path(bytes(changed.data)) == "/new/place"
    assert all(tag != elf.DT_RUNPATH for _, tag, _ in changed.dynamic())
    assert changed.dynamic()[-1][1] == elf.DT_NULL


def test_no_byte_that_was_mapped_moves() -> None:
    made = program()
    changed = elf.Elf(made)
    changed.set_library_path("/new/place")
    changed.set_interpreter("/new/loader")
    allowed = set(range(64, 64 + 56 * 4)) | set(range(DYNAMIC, END)) | set(range(END, END + 11))
    moved = {i for i in range(len(made)) if made[i] != changed.data[i]}
    assert moved <= allowed
    assert bytes(changed.data[len(made) :]) == b"/new/loader\0"


def test_the_interpreter_is_where_the_kernel_reads_it() -> None:
    changed = elf.Elf(program())
    changed.set_interpreter("/new/loader")
    segment = elf.Elf(bytes(changed.data)).segment(elf.PT_INTERP)
    assert segment is not None
    end = segment.offset + segment.file_size
    assert bytes(changed.data[segment.offset : end]) == b"/new/loader\0"


@pytest.mark.parametrize(
    ("made", "message"),
    [(program(gap=0), "no room"), (program(spare=1), "no spare")],
    ids=["no padding", "no entry"],
)
def test_a_file_without_room_is_refused(made: bytes, message: str) -> None:
    with pytest.raises(elf.ElfError, match=message):
        elf.Elf(made).set_library_path("/" + "x" * 3000 if message == "no room" else "/x")


def test_padding_in_use_is_not_overwritten() -> None:
    made = bytearray(program(gap=16))
    made[END + 3] = 1
    with pytest.raises(elf.ElfError, match="no room"):
        elf.Elf(bytes(made)).set_library_path("/x/y")


def test_a_library_is_not_given_an_interpreter() -> None:
    with pytest.raises(elf.ElfError, match="no interpreter"):
        elf.Elf(program(interpreter=False)).set_interpreter("/x")


@pytest.mark.parametrize("data", [b"", b"#!/bin/sh\n" * 9, b"\x7fELF\x01\x01" + bytes(99)])
def test_other_files_are_refused(data: bytes) -> None:
    with pytest.raises(elf.ElfError):
        elf.Elf(data)


@pytest.mark.skipif("/nix/store/" not in os.path.realpath(sys.executable), reason="not our Python")
def test_our_python_loads_nothing_of_this_machine() -> None:
    code = "import ssl, sqlite3, ctypes; print(open('/proc/self/maps').read())"
    environment = {"LD_LIBRARY_PATH": "/usr/lib/x86_64-linux-gnu:/lib64"}
    maps = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    ).stdout
    libraries = {line.split()[-1] for line in maps.splitlines() if ".so" in line}
    assert libraries
    assert {path for path in libraries if not path.startswith("/nix/store/")} == set()
    assert Path(os.path.realpath(sys.executable)).is_file()
