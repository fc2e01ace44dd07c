"""The console of a debug image, where a person is root: what is typed, and what is printed."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from confide.host.runner.vm import Machine

LINE_SECONDS = 0.05  # an emulated machine loses what is typed faster


@contextmanager
def keyboard(folder: Path) -> Iterator[tuple[Callable[[str], None], Sequence[str]]]:
    """A function that types lines, and the QEMU arguments that connect it with a console."""
    typed = folder / "typed"
    os.mkfifo(typed)
    descriptor = os.open(typed, os.O_RDWR)

    def type_lines(text: str) -> None:
        for line in text.splitlines(keepends=True):
            os.write(descriptor, line.encode())
            time.sleep(LINE_SECONDS)

    try:
        yield type_lines, ("-set", f"chardev.console.input-path={typed}")
    finally:
        os.close(descriptor)


def wait_for(machine: Machine, words: str, seconds: float) -> list[str]:
    """The console's lines, once one has these words. Raises UnavailableError if none comes."""
    deadline = time.monotonic() + seconds
    while machine.running and time.monotonic() < deadline:
        said = machine.console.read_text(errors="replace") if machine.console.exists() else ""
        if any(words in line for line in said.splitlines()):
            return said.splitlines()
        time.sleep(0.5)
    raise machine.failure(f"never said {words!r}", "nothing")
