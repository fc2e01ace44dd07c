"""Finds the folder of recorded vectors, and says why a file is not in it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.vectors import sources

ROOT = Path(__file__).resolve().parents[2]
BESIDE = ROOT.parent / "shared" / "vectors"  # a copy beside the checkout


class NoVectorsError(Exception):
    """There is no folder of recorded vectors; says which command makes one."""


def folder() -> Path:
    """$CONFIDE_VECTORS, else what `make vectors` filled, else ../shared/vectors.

    Raises:
        NoVectorsError: None of them is there, or the first is set and is not a folder.
    """
    if named := os.environ.get("CONFIDE_VECTORS"):
        if not Path(named).is_dir():
            raise NoVectorsError(f"CONFIDE_VECTORS is {named}, which is not a folder")
        return Path(named)
    if sources.read().is_complete(sources.cache()):
        return sources.cache()
    if BESIDE.is_dir():
        return BESIDE
    raise NoVectorsError(
        f"no recorded vectors, or not all, in {sources.cache()}: run `make vectors`"
    )


@contextmanager
def skipped_if_unpublished() -> Iterator[None]:
    """Skips the running test if it reads a file that is absent and that nobody can fetch or make.

    A file that the list promises, and that is absent, is an error as any other.
    """
    try:
        yield
    except FileNotFoundError as error:
        if reason := _why_absent(error.filename):
            pytest.skip(reason)
        raise


def _why_absent(path: object) -> str | None:
    """Why a file is absent from the folder of vectors; None if the list does not say that it is."""
    try:
        name = Path(str(path)).relative_to(folder()).as_posix()
    except (ValueError, NoVectorsError):
        return None
    for entry in sources.read().unpublished:
        if entry.path == name:
            return f"{name} is not published: {entry.reason}"
    return None
