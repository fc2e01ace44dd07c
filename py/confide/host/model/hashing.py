"""Hashing a disk in segments, by as many processes as there are processors."""

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
"""Blocks that are worked on at once: 8 MiB. Whole blocks of hashes, so that no two share one."""

MAX_PROCESSES = 16
"""Each holds a segment in memory; no disk keeps more of them busy."""

_SALTED = sha256(SALT)
_buffer = bytearray()
_PR_SET_PDEATHSIG = 1

Task = TypeVar("Task")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Segment:
    """`blocks` blocks of a disk from byte `offset` on, and where their hashes are."""

    offset: int
    blocks: int
    hashes: int

    @property
    def size(self) -> int:
        """Bytes of the segment."""
        return self.blocks * BLOCK


def segments(level: Level, hashes: Level) -> Iterator[Segment]:
    """The segments of a level, and of the level with its hashes, in order."""
    for first in range(0, level.blocks, SEGMENT_BLOCKS):
        blocks = min(SEGMENT_BLOCKS, level.blocks - first)
        yield Segment(level.offset + first * BLOCK, blocks, hashes.offset + first * HASH)


def read(descriptor: int, offset: int, size: int) -> memoryview:
    """Bytes of a file, in memory that the next call uses again: new memory costs more than hashing.

    Raises OSError, also if the file ends before.
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
    """How many processes hash."""
    return min(len(os.sched_getaffinity(0)), MAX_PROCESSES)


@contextmanager
def processes() -> Iterator[ProcessPoolExecutor]:
    """Processes to work on segments. What they have not begun when this is left, is not done."""
    # Forked, as the program that a spawned one would import first is the user's command itself.
    context = multiprocessing.get_context("fork")
    pool = ProcessPoolExecutor(process_count(), mp_context=context, initializer=_begin)
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)


def in_order(
    pool: ProcessPoolExecutor, work: Callable[[Task], Result], tasks: Iterable[Task]
) -> Iterator[Result]:
    """The results of `work` in the order of `tasks`. It begins at once, and stays a bit ahead."""
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
    """A process of the pool: it leaves Ctrl-C to its parent, and ends when that one dies."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
