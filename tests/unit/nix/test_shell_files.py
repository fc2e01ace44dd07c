"""Every shell file is found, checked and formatted, whatever it is called."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from shell_files import shell_files

ROOT = Path(__file__).parents[3]
NIX = ROOT / "nix"
FILES = {
    "plain.sh": "echo\n",
    "images/init": "#!/bin/busybox sh\necho\n",
    ".ci/run": "#!/bin/sh\necho\n",
    "bin/other": "#!/usr/bin/env bash\necho\n",
    "bin/python": "#!/usr/bin/env python3\n",
    "text": "sh\n",
    ".git/hook.sh": "echo\n",
    ".ruff_cache/x.sh": "echo\n",
}
STUB = """#!/bin/sh
me=${0%/bin/*}/${0##*/}
printf '%s\\n' "$@" >>"$me.called"
[ ! -e "$me.fails" ]
"""
SHELL = [".ci/run", "bin/other", "images/init", "plain.sh"]


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    for name, text in FILES.items():
        path = tmp_path / "a checkout" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    (tmp_path / "a checkout/link.sh").symlink_to("plain.sh")
    return tmp_path / "a checkout"


@pytest.fixture
def tools(tmp_path: Path) -> Path:
    """Stand-ins for shellcheck and shfmt: each lists its arguments, and fails if told to."""
    (tmp_path / "tools/bin").mkdir(parents=True)
    for name in ("shellcheck", "shfmt"):
        path = tmp_path / "tools/bin" / name
        path.write_text(STUB)
        path.chmod(0o755)
    return tmp_path / "tools"


def called(tools: Path, name: str) -> list[str]:
    """The files that a tool was given."""
    arguments = (tools / f"{name}.called").read_text().split("\n")[:-1]
    return sorted(a for a in arguments if not a.startswith("--"))


def check(checkout: Path, tools: Path) -> subprocess.CompletedProcess[str]:
    variables = {"checkout": str(checkout), "tools": str(tools), "out": str(tools / "out")}
    return subprocess.run(
        [sys.executable, str(NIX / "check_shell.py")],
        env=os.environ | variables,
        capture_output=True,
        text=True,
    )


def test_shell_is_told_by_its_name_or_its_first_line(checkout: Path) -> None:
    assert sorted(str(f.relative_to(checkout)) for f in shell_files(checkout)) == SHELL


def test_this_checkout_s_shell_files_are_found() -> None:
    found = {str(file.relative_to(ROOT)) for file in shell_files(ROOT)}
    assert {"nix/run", ".ci/run", "images/initrd/init", "images/driver/initrd.sh"} <= found


def test_both_tools_are_given_every_shell_file(checkout: Path, tools: Path) -> None:
    assert check(checkout, tools).returncode == 0
    assert called(tools, "shfmt") == called(tools, "shellcheck") == SHELL
    assert (tools / "out").exists()


@pytest.mark.parametrize("name", ["shellcheck", "shfmt"])
def test_a_tool_that_fails_fails_the_check(checkout: Path, tools: Path, name: str) -> None:
    (tools / f"{name}.fails").touch()
    result = check(checkout, tools)
    assert result.returncode == 1
    assert f"failed: {name}" in result.stderr
    assert not (tools / "out").exists()


@pytest.mark.parametrize(
    ("paths", "expected"),
    [([], SHELL), (["bin"], ["bin/other"]), (["plain.sh"], ["plain.sh"])],
    ids=["all", "a folder", "a file"],
)
def test_the_formatter_formats_what_it_is_given(
    checkout: Path, tools: Path, paths: list[str], expected: list[str]
) -> None:
    (checkout / "bin/code.py").write_text("x=1\n")
    subprocess.run(
        [sys.executable, str(NIX / "format_checkout.py"), *paths],
        cwd=checkout,
        env=os.environ | {"CONFIDE_SHFMT": str(tools / "bin/shfmt")},
        check=True,
    )
    assert called(tools, "shfmt") == expected
    assert (checkout / "bin/code.py").read_text() == (
        "x=1\n" if paths == ["plain.sh"] else "x = 1\n"
    )
