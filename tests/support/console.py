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


def lines(machine: Machine) -> list[str]:
    """What the console shows now."""
    if not machine.console.exists():
        return []
    return machine.console.read_text(errors="replace").splitlines()


def said(machine: Machine, words: str, seconds: float) -> str:
    """The first line with these words, once it is there. Raises UnavailableError if none comes."""
    deadline = time.monotonic() + seconds
    while True:
        over = not machine.running or time.monotonic() > deadline
        found = next((line for line in lines(machine) if words in line), None)
        if found is not None:
            return found
        if over:
            raise machine.failure(f"never said {words!r}", "nothing")
        time.sleep(0.5)
