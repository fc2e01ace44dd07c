"""Let systemd itself judge the units of every role, without booting.

Runs in a root with systemd. Reads the environment: roles (JSON: name -> folders of units, a later
one wins), seed, out. Fails for a unit of which `systemd-analyze verify` says anything (a setting
with a value that it does not take is ignored), and for one that `systemd-analyze security` rates
above its limit. A unit with a limit of its own has to name each setting that is open, so that its
reason can stand there.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

LIMIT = 2.0
LIMITS: Mapping[str, float] = {"confide-disks.service": 3.0, "confide-network.service": 2.5}
# They need user namespaces, and BPF as a security module. The kernel has neither, and systemd goes
# on without a word.
WITHOUT_EFFECT = ("PrivateUsers", "RestrictFileSystems")


def rate(root: Path, unit: str) -> tuple[float, list[str]]:
    """How much a unit may do, from 0 to 10, and the settings that leave something open."""
    command = [
        "systemd-analyze",
        "security",
        "--offline=true",
        f"--root={root}",
        "--no-pager",
        unit,
    ]
    said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    level = re.search(r"Overall exposure level for \S+: ([0-9.]+)", said)
    listed = subprocess.run(
        [*command, "--json=short"], check=True, capture_output=True, text=True
    ).stdout
    if level is None:
        raise SystemExit(f"systemd-analyze says nothing of {unit}: {said}")
    found = [item["name"] for item in json.loads(listed) if float(item["exposure"] or 0) > 0]
    return float(level[1]), sorted({re.split("[=/]", name)[0] for name in found})


def make_programs(root: Path) -> None:
    """Empty programs where the units have theirs."""
    for file in (root / "etc/systemd/system").rglob("*"):
        if file.is_file():
            for path in re.findall(r"^Exec\w+=[-+!@:]*/(\S+)", file.read_text(), re.M):
                (root / path).parent.mkdir(parents=True, exist_ok=True)
                (root / path).touch(mode=0o755)


def verify(root: Path, unit: str) -> list[str]:
    """What systemd finds wrong with a unit below `root`, of a template with an instance."""
    instance = unit.replace("@.", "@1.")
    command = ["systemd-analyze", "verify", f"--root={root}", "--man=no", "--recursive-errors=no"]
    said = subprocess.run([*command, instance], check=False, capture_output=True, text=True)
    lines = said.stderr.splitlines()
    if said.returncode and not lines:
        lines = ["it is wrong"]
    return [f"{unit}: {line}" for line in lines]


def check(root: Path, unit: str) -> list[str]:
    """What is wrong with a unit of the system below `root`."""
    level, settings = rate(root, unit)
    limit = LIMITS.get(unit, LIMIT)
    print(f"{unit}: {level}, at most {limit}")
    text = (root / "etc/systemd/system" / unit).read_text()
    wrong = [] if level <= limit else [f"{unit} is rated {level}, more than {limit}"]
    if unit in LIMITS:
        missing = [name for name in settings if not re.search(rf"\b{name}\b", text)]
        wrong += [f"{unit} has no reason why {name} is open" for name in missing]
    return wrong


def without_effect(folder: Path) -> list[str]:
    """The settings in units and drop-ins below a folder that this kernel cannot enforce."""
    return [
        f"{file.name}: {name} needs what the kernel does not have"
        for file in sorted(filter(Path.is_file, folder.rglob("*")))
        for name in WITHOUT_EFFECT
        if re.search(rf"^{name}=", file.read_text(), re.M)
    ]


def check_role(folders: Sequence[str]) -> list[str]:
    """What is wrong with the units of a role, with all drop-ins that apply to them there."""
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch)
        units = root / "etc/systemd/system"
        for folder in map(Path, folders):
            for file in filter(Path.is_file, folder.rglob("*")):
                copy = units / file.relative_to(folder)
                copy.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(file, copy)
        names = sorted(path.name for path in units.glob("*.service"))
        wrong = [line for name in names for line in check(root, name)]
        make_programs(root)
        every = sorted(path.name for path in units.glob("confide-*.*") if path.is_file())
        wrong += [line for name in every for line in verify(root, name)]
        return wrong + without_effect(units)


def main() -> None:
    """Check every unit of every role."""
    busybox = os.environ["seed"] + "/bin/busybox"
    subprocess.run([busybox, "mount", "-t", "tmpfs", "run", "/run"], check=True)
    roles: Mapping[str, Sequence[str]] = json.loads(os.environ["roles"])
    wrong: list[str] = []
    for role, folders in roles.items():
        print(f"{role}:")
        wrong += check_role(folders)
    if wrong:
        raise SystemExit("\n".join(wrong))
    Path(os.environ["out"]).touch()


if __name__ == "__main__":
    main()
