"""nix/run: the settings that it gives to Nix, and what ".#" becomes, wherever the checkout lies."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

RUN = Path(__file__).parents[3] / "nix/run"
# Every kind of character that a URL, a glob, a shell or Nix reads as something else.
ODD = "a b#c?d[e]*%20f é&$HOME'\""

# Prints the folder that "path:FOLDER#" names, its flake.nix, and its files without those of git.
SHOW = """
import os, sys
place = sys.argv[1].removeprefix("path:").removesuffix("#")
print(place)
print(open(place + "/flake.nix").read(), end="")
found = [f"{top}/{name}" for top, _, names in os.walk(place) for name in names]
files = [os.path.relpath(path, place) for path in found]
print("\\n".join(sorted(name for name in files if not name.startswith(".git/"))))
"""


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A checkout at a plain path, without git."""
    return make_checkout(tmp_path / "checkout")


def make_checkout(folder: Path) -> Path:
    (folder / "nix").mkdir(parents=True)
    shutil.copy(RUN, folder / "nix/run")
    (folder / "flake.nix").write_text("{ }")
    return folder


def git_init(folder: Path) -> None:
    """Let git track what is there."""
    for command in (["init", "-q"], ["add", "-A"]):
        subprocess.run(["git", "-C", str(folder), *command], check=True)


def run(checkout: Path, *command: str, **variables: str | None) -> str:
    """What a command prints that nix/run starts, with these variables (None: not set)."""
    defaults = {"PATH": os.environ["PATH"], "HOME": "/home/user"}
    environment = {name: value for name, value in (defaults | variables).items() if value}
    return subprocess.run(
        [str(checkout / "nix/run"), *command],
        env=environment,
        cwd="/",
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    ).stdout


def stub(folder: Path, name: str, script: str) -> None:
    (folder / name).write_text(f"#!/bin/sh\n{script}\n")
    (folder / name).chmod(0o755)


def settings(checkout: Path, tmp_path: Path, *, uid: int, group: bool) -> list[str]:
    """The lines of NIX_CONFIG for this user, on a system that has the group nixbld or not."""
    programs = tmp_path / "programs"
    programs.mkdir()
    stub(programs, "id", f"echo {uid}")
    stub(programs, "getent", f'[ "$*" = "group nixbld" ] || exit 9; exit {0 if group else 2}')
    path = f"{programs}:{os.environ['PATH']}"
    return run(checkout, "sh", "-c", 'echo "$NIX_CONFIG"', PATH=path).split("\n")


def test_root_builds_without_build_users_only_where_there_are_none(
    checkout: Path, tmp_path: Path
) -> None:
    found = settings(checkout, tmp_path, uid=0, group=False)
    assert {"build-users-group =", "substituters =", "sandbox = true"} <= set(found)


def test_root_keeps_the_build_users_that_there_are(checkout: Path, tmp_path: Path) -> None:
    found = settings(checkout, tmp_path, uid=0, group=True)
    assert {"substituters =", "sandbox = true", "sandbox-paths ="} <= set(found)
    assert not [line for line in found if line.startswith("build-users-group")]


def test_other_users_change_no_setting_that_only_root_may(checkout: Path, tmp_path: Path) -> None:
    found = settings(checkout, tmp_path, uid=1000, group=False)
    assert [line for line in found if line] == [
        "extra-experimental-features = nix-command flakes",
        "max-jobs = auto",
    ]


def test_the_user_s_own_settings_stay(checkout: Path) -> None:
    found = run(checkout, "sh", "-c", 'echo "$NIX_CONFIG"', NIX_CONFIG="cores = 3")
    assert found.startswith("cores = 3\n")


@pytest.mark.parametrize("home", [None, "/home/some body"], ids=["no home", "a home"])
def test_path_is_extended_once(checkout: Path, home: str | None) -> None:
    path = os.environ["PATH"]
    folders = ":/nix/var/nix/profiles/default/bin" + (f":{home}/.nix-profile/bin" if home else "")
    assert run(checkout, "sh", "-c", 'echo "$PATH"', HOME=home) == f"{path}{folders}\n"


def test_arguments_stay_as_they_are(checkout: Path) -> None:
    arguments = ["a b", "*", "", "x.#y", "$HOME"]
    assert run(checkout, "printf", "%s\\n", *arguments).split("\n")[:-1] == arguments


def test_the_exit_status_is_the_command_s(checkout: Path, tmp_path: Path) -> None:
    for folder in (checkout, make_checkout(tmp_path / ODD)):
        result = subprocess.run([str(folder / "nix/run"), "sh", "-c", "exit 7"])
        assert result.returncode == 7


def test_a_checkout_at_a_plain_path_is_named_by_it(checkout: Path) -> None:
    assert run(checkout, "echo", ".#x") == f"path:{checkout}#x\n"
    git_init(checkout)
    assert run(checkout, "echo", ".#x") == f"git+file://{checkout}?shallow=1#x\n"


def test_cdpath_leads_to_no_other_checkout(checkout: Path, tmp_path: Path) -> None:
    make_checkout(tmp_path / "other/checkout")
    found = subprocess.check_output(
        ["checkout/nix/run", "echo", ".#x"],
        cwd=checkout.parent,
        env={"PATH": os.environ["PATH"], "CDPATH": str(tmp_path / "other")},
        text=True,
    )
    assert found == f"path:{checkout}#x\n"


@pytest.mark.parametrize("with_git", [True, False], ids=["git", "no git"])
@pytest.mark.parametrize("character", [*" #?[]*%é&$'\"", ODD])
def test_a_path_that_no_url_can_hold(tmp_path: Path, character: str, with_git: bool) -> None:
    """Nix gets a copy that has what git tracks, as it is now, and that ends with the command."""
    checkout = make_checkout(tmp_path / f"x{character}y")
    (checkout / "link").symlink_to("flake.nix")
    if with_git:
        (checkout / "gone").touch()
        git_init(checkout)
        (checkout / "gone").unlink()
        (checkout / "untracked").touch()
    (checkout / "flake.nix").write_text("changed\n")
    place, *found = run(checkout, sys.executable, "-c", SHOW, ".#").splitlines()
    assert found == ["changed", "flake.nix", "link", "nix/run"]
    assert not Path(place).exists()


@pytest.mark.skipif(shutil.which("nix") is None, reason="Nix is not installed")
@pytest.mark.parametrize("with_git", [True, False], ids=["git", "no git"])
def test_nix_evaluates_a_checkout_at_such_a_path(tmp_path: Path, with_git: bool) -> None:
    checkout = make_checkout(tmp_path / ODD)
    (checkout / "flake.nix").write_text("{ outputs = _: { x = builtins.readFile ./text; }; }")
    (checkout / "text").write_text("found")
    if with_git:
        git_init(checkout)
    assert run(checkout, "nix", "eval", "--raw", ".#x", HOME=None) == "found"
