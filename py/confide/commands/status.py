"""Exit statuses: the same numbers with the same meaning in every command."""

from __future__ import annotations

from enum import IntEnum


class ExitStatus(IntEnum):
    """What a command tells the shell. `python -m measure` has its own in `measure.status`."""

    PASSED = 0
    """All is well, or a program that serves was stopped."""

    FAILED = 1
    """A check failed, something is missing, or a peer is unreachable or refused."""

    USAGE = 2
    """Wrong usage or wrong configuration: nothing was done."""

    INTERRUPTED = 130
    """Ctrl-C before the command was done: 128 and the number of SIGINT."""


EXPLANATION = """\
exit status:
  0    all is well
  1    a check failed, something is missing, or a peer is unreachable or refused
  2    wrong usage or wrong configuration
  130  interrupted"""
"""The end of every --help."""
