"""What the pages name exists: files, folders, Python names, commands, options, make targets."""

from __future__ import annotations

import functools
import os
import pkgutil
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")])
DECISIONS = sorted((ROOT / "docs/decisions").glob("*.md"))

# The first folder of a path, and where it lies.
IN_CHECKOUT = ("py", "measure", "nix", "images", "tests", "release", "docs", ".ci")
IN_PACKAGE = (
    "encoding", "vendors", "protocol", "verify", "net", "guest", "client", "host", "commands",
)  # fmt: skip
A_PATH = re.compile(r"`((?:[\w.-]+/)+[\w.*-]*)`")
A_NAME = re.compile(r"\bconfide(?:\.[A-Za-z_]\w*)+\b")

# `confide`, its words, and what follows them up to the end of the line.
A_COMMAND = re.compile(r"^    confide ((?:[a-z]+ )+)(.*)$", re.M)
GROUPS = ("collateral", "manifest", "model", "site", "corim", "receipt")


def relative(path: Path) -> str:
    return str(path.relative_to(ROOT))


# What a page tells its reader to make.
NOT_COMMITTED = ("nix/lock/driver.json",)


def exists(name: str) -> bool:
    if name in NOT_COMMITTED:
        return True
    first = name.split("/")[0]
    base = ROOT if first in IN_CHECKOUT else ROOT / "py/confide"
    return any(base.glob(name.rstrip("/")))


@pytest.mark.parametrize("page", [*PAGES, *DECISIONS], ids=relative)
def test_paths(page: Path) -> None:
    folders = IN_CHECKOUT if page in DECISIONS else (*IN_CHECKOUT, *IN_PACKAGE)
    named = [name for name in A_PATH.findall(page.read_text()) if name.split("/")[0] in folders]
    assert [name for name in named if not exists(name)] == []


@pytest.mark.parametrize("page", [*PAGES, *DECISIONS], ids=relative)
def test_python_names(page: Path) -> None:
    missing = []
    for name in set(A_NAME.findall(page.read_text())):
        # A word on the kernel's command line; the domain in names of certificates.
        if name.startswith("confide.layer") or name == "confide.internal":
            continue
        try:
            pkgutil.resolve_name(name)
        except (ImportError, AttributeError):
            missing.append(name)
    assert missing == []


@functools.cache
def help_of(words: tuple[str, ...]) -> str:
    """What `confide WORDS --help` prints."""
    result = subprocess.run(
        [sys.executable, "-m", "confide", *words, "--help"],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "COLUMNS": "200"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, f"confide {' '.join(words)} --help: {result.stderr}"
    return result.stdout


@pytest.mark.parametrize("page", PAGES, ids=relative)
def test_commands(page: Path) -> None:
    text = page.read_text().replace(" \\\n", " ")
    missing = []
    for words, rest in A_COMMAND.findall(text):
        if "…" in rest:
            continue
        command = words.split()[: 2 if words.split()[0] in GROUPS else 1]
        options = [word for word in shlex.split(rest, comments=True) if word.startswith("-")]
        text_of_help = help_of(tuple(command))
        missing += [(command, word) for word in options if word not in text_of_help]
    assert missing == []


def test_make_targets() -> None:
    targets = set(re.findall(r"^([a-z -]+):(?!=)", (ROOT / "Makefile").read_text(), re.M))
    known = {name for line in targets for name in line.split()}
    named = {
        (relative(page), name)
        for page in PAGES
        for name in re.findall(r"(?:`|^    )make ([a-z-]+)", page.read_text(), re.M)
    }
    assert {(page, name) for page, name in named if name not in known} == set()


def test_flake_outputs() -> None:
    nix = "\n".join(path.read_text() for path in (ROOT / "nix").glob("*.nix"))
    named = {
        (relative(page), name)
        for page in PAGES
        for name in re.findall(r"\.#([a-z][a-z-]*)", page.read_text())
    }
    assert {(page, name) for page, name in named if not re.search(rf"\b{name}\b", nix)} == set()
