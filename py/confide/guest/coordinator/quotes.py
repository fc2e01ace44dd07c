"""One quote for many: all nonces that wait when a quote begins are answered by it.

A quote takes one slow device a long time, and anybody may ask. So a question waits at most for the
quote that is being made and for the next one, which is its own. A flood costs hashes, and a place
in a short list for as long as that.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Generic, TypeVar

from confide.errors import UnavailableError
from confide.protocol.nonce_tree import NonceTree

MAX_WAITING = 128
"""Most nonces of one quote. Others wait for the quote that is being made, so twice as many wait.

Each of them holds a thread, and its answer takes up to 2 MiB until it is sent.
"""

T = TypeVar("T")


class _Batch(Generic[T]):
    """The nonces of one quote, and what comes of it."""

    def __init__(self) -> None:
        self.nonces: list[bytes] = []
        self.made: Future[tuple[T, NonceTree]] = Future()


class Quotes(Generic[T]):
    """Asks `quote` for one quote at a time, over the root of a tree of nonces. Thread-safe."""

    def __init__(self, quote: Callable[[bytes], T]) -> None:
        self._quote = quote
        self._open: _Batch[T] = _Batch()
        self._lock = threading.Lock()
        # One quote at a time: a TPM is one slow device, and requests better wait here than there.
        self._quoting = threading.Lock()

    def answer(self, nonce: bytes) -> tuple[T, int, tuple[bytes, ...]]:
        """A quote that was begun after this call, and the index and the path of `nonce` in it.

        Raises UnavailableError `too-many-attestations` if too many wait, and what `quote` raises.
        """
        with self._lock:
            batch = self._open
            index = len(batch.nonces)
            if index == MAX_WAITING:
                raise UnavailableError(
                    "too-many-attestations",
                    "too many others wait for this coordinator's evidence",
                    expected=f"at most {MAX_WAITING} at once",
                    next="try again in a moment",
                )
            batch.nonces.append(nonce)
        # The first of a batch makes its quote. So two threads at most want the lock: the one that
        # has it, and the first of the open batch.
        if index == 0:
            with self._quoting:
                self._make(batch)
        made, tree = batch.made.result()
        return made, index, tree.path(index)

    def _make(self, batch: _Batch[T]) -> None:
        with self._lock:
            self._open = _Batch()
        try:
            tree = NonceTree(batch.nonces)
            batch.made.set_result((self._quote(tree.root), tree))
        except BaseException as error:
            # Whatever it is: the others of the batch wait for it.
            batch.made.set_exception(error)
