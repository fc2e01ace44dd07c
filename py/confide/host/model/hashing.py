"""Hashing a disk in segments, with one process for each processor."""

from __future__ import annotations

import ctypes
import errno
import multiprocessing
import os
import signal
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from itertools import islice
from typing import TypeVar

from confide.protocol.hash_tree import BLOCK, HASH, HASHES_PER_BLOCK, SALT, Level

SEGMENT_BLOCKS = 16 * HASHES_PER_BLOCK
"""Blocks in a segment: 8 MiB. Their hashes fill whole blocks, so no two segments share one."""

MAX_PROCESSES = 16
"""Each holds a segment in memory. More would wait for the disk."""

_SALTED = sha256(SALT)
_buffer = bytearray()
_PR_SET_PDEATHSIG = 1

Task = TypeVar("Task")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Segment:
    """A part of a disk.

    Attributes:
        offset: Where it begins, in bytes.
        blocks: Its size in blocks of 4096 bytes.
        hashes: Where the hashes of its blocks begin, in bytes.
    """

    offset: int
    blocks: int
    hashes: int

    @property
    def size(self) -> int:
        """Bytes of the segment."""
        return self.blocks * BLOCK


def segments(level: Level, hashes: Level) -> Iterator[Segment]:
    """The segments of a level in order; `hashes` is the level with its hashes."""
    for first in range(0, level.blocks, SEGMENT_BLOCKS):
        blocks = min(SEGMENT_BLOCKS, level.blocks - first)
        yield Segment(level.offset + first * BLOCK, blocks, hashes.offset + first * HASH)


def read(descriptor: int, offset: int, size: int) -> memoryview:
    """Read `size` bytes of a file from byte `offset` on.

    Returns:
        The bytes, in memory that the next call overwrites: new memory costs more than hashing.

    Raises:
        OSError: The file cannot be read, or ends before.
    """
    global _buffer
    if len(_buffer) < size:
        _buffer = bytearray(size)
    view = memoryview(_buffer)[:size]
    done = 0
    while done < size:
        count = os.preadv(descriptor, [view[done:]], offset + done)
        if not count:
            raise OSError(errno.EIO, "the file became shorter")
        done += count
    return view


def hash_blocks(data: memoryview) -> bytes:
    """The salted hash of each block of `data` (whole blocks), one after the other."""
    hashes = []
    for at in range(0, len(data), BLOCK):
        state = _SALTED.copy()
        state.update(data[at : at + BLOCK])
        hashes.append(state.digest())
    return b"".join(hashes)


def process_count() -> int:
    """The number of processes that hash."""
    return min(len(os.sched_getaffinity(0)), MAX_PROCESSES)


@contextmanager
def processes() -> Iterator[ProcessPoolExecutor]:
    """Processes that work on segments. Leaving the context cancels tasks that have not begun."""
    # Forked: a spawned process would first import the main program, which is the user's command.
    context = multiprocessing.get_context("fork")
    pool = ProcessPoolExecutor(process_count(), mp_context=context, initializer=_begin)
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)


def in_order(
    pool: ProcessPoolExecutor, work: Callable[[Task], Result], tasks: Iterable[Task]
) -> Iterator[Result]:
    """The results of `work` in the order of `tasks`. Work begins at once and stays a bit ahead."""
    rest = iter(tasks)
    begun: deque[Future[Result]] = deque()

    def begin(count: int) -> None:
        begun.extend(pool.submit(work, task) for task in islice(rest, count))

    def results() -> Iterator[Result]:
        while begun:
            result = begun.popleft().result()
            begin(1)
            yield result

    begin(2 * process_count())
    return results()


def _begin() -> None:
    """Prepare a process of the pool: it ignores Ctrl-C, and ends when its parent ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
