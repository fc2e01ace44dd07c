"""The lists that a debug image prints: what each user inside reaches, and how its program is ended.

See images/debug/app/reach.py. All of it is typed at the console, where a person is root.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from confide.host.runner.vm import Machine
from tests.support.console import lines, said

LIST_SECONDS = 600
_COMMITTED = Path(__file__).parents[1] / "e2e/reach"
_UNITS = "/usr/bin/python3.13 -s -S -P /opt/confide/reach.py units"


def print_lists(
    machine: Machine, type_lines: Callable[[str], None], names: Sequence[str]
) -> list[str]:
    """Have the machine print these lists. Returns all lines of its console."""
    type_lines(f": >/dev/reach\n{_UNITS}\n")
    for name in names:
        said(machine, f"reach {name}: end", LIST_SECONDS)
    return lines(machine)


def listed(console: Sequence[str], name: str) -> list[str]:
    """What a list says, without its end."""
    prefix = f"reach {name}: "
    # The shell's prompt may stand before it on the same line.
    found = [line.partition(prefix)[2] for line in console if prefix in line]
    return [line for line in found if line != "end"]


def committed(name: str) -> list[str]:
    """The lines of tests/e2e/reach/NAME.txt."""
    return (_COMMITTED / f"{name}.txt").read_text().splitlines()


def signal_program(module: str, signal: str, *, first: bool = True) -> str:
    """The line that sends a signal to a program of ours, `python -m module`.

    `first` is the process that the service manager started; otherwise its children, which serve.
    """
    name = module[:-1] + f"[{module[-1]}]"  # not the command line of grep itself
    parent = "=" if first else "!="
    return (
        f"for f in $(grep -l 'm.{name}' /proc/[0-9]*/cmdline); do d=${{f%/cmdline}}; "
        f"[ $(sed -n 's/^PPid:[^0-9]*//p' $d/status) {parent} 1 ] && kill -{signal} ${{d#/proc/}}; "
        "done\n"
    )
