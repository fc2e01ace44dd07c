#!/usr/bin/env python3
"""Lock every outside byte: read lock/wanted.json, write lock/debian.json, lock/wheels-*.json.

Closures come from apt's own solver (private directories, nothing installed) and pip's own
resolver; both use this machine's mirrors. Prints what changed; commit the difference after review.
With --driver FOLDER only NVIDIA's driver is locked: the packages in that folder, in
lock/driver.json, which goes before Debian's packages of the driver for as long as it is there.
"""

from __future__ import annotations

import argparse
import fnmatch
import json
import os
import re
import subprocess
import sys
import tempfile
import urllib.parse
from pathlib import Path
from typing import Any

import download
from fetch import unpack_seed

LOCK = Path(__file__).resolve().parent / "lock"
HOW_TO_BUILD = """\
lock: Nix sees it after `git add nix/lock/driver.json`; give the packages to the build with
lock: `nix/fetch.py --folder FOLDER worker-gpu`. Without that file it is Debian's driver again."""
# pip reads environment markers (python_version < "3.12") from the interpreter that runs it,
# whatever --python-version says. So the resolver is started with the target's values in place.
PIP_FOR_TARGET = """
import runpy, sys
from pip._vendor.packaging import markers
version = sys.argv.pop(1)
host = markers.default_environment
markers.default_environment = lambda: {
    **host(), "python_version": version, "python_full_version": version + ".0",
    "implementation_version": version + ".0", "implementation_name": "cpython",
    "platform_machine": "x86_64", "sys_platform": "linux", "platform_system": "Linux",
    "os_name": "posix",
}
runpy.run_module("pip", run_name="__main__", alter_sys=True)
"""


def main() -> int:
    """Lock what the command line says, all by default; 0, or 1 with a message."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument(
        "--debian-mirror",
        action="append",
        default=[],
        metavar="URL",
        help="Debian archive to lock from (default: the one apt uses)",
    )
    parser.add_argument("--only", choices=("debian", "wheels"), help="re-lock one kind only")
    parser.add_argument(
        "--set", action="append", default=[], help="re-lock only this set of wheels"
    )
    parser.add_argument(
        "--driver",
        type=Path,
        metavar="FOLDER",
        help="lock only the driver: all .deb files in this folder, which are one driver's",
    )
    options = parser.parse_args()
    wanted = json.loads((LOCK / "wanted.json").read_text())
    changes: list[str] = []
    try:
        if options.driver:
            changes += write("driver.json", lock_driver(options.driver), driver_versions)
            print(HOW_TO_BUILD, file=sys.stderr)
        elif options.only != "wheels":
            mirrors = download.find_mirrors(options.debian_mirror)
            changes += write("debian.json", lock_debian(wanted["debian"], mirrors), debian_versions)
        if options.only != "debian" and not options.driver:
            for name, spec in wanted["wheels"].items():
                if not options.set or name in options.set:
                    locked = lock_wheels(spec["python"], requirements(spec))
                    changes += write(f"wheels-{name}.json", locked, wheel_versions)
    except download.DownloadError as error:
        print(f"lock: {error}", file=sys.stderr)
        return 1
    print("\n".join(changes) if changes else "lock: nothing changed")
    return 0


def write(name: str, value: dict[str, Any], versions: Any) -> list[str]:
    """Write a lock file; return a line for each thing added, removed or of another version."""
    path = LOCK / name
    before = versions(json.loads(path.read_text())) if path.exists() else {}
    path.write_text(one_line_each(json.dumps(value, indent=1, sort_keys=True)) + "\n")
    after = versions(value)
    lines = []
    for key in sorted(before.keys() | after.keys()):
        old, new = before.get(key), after.get(key)
        if old is None:
            lines.append(f"{name}: + {key} {new}")
        elif new is None:
            lines.append(f"{name}: - {key} {old}")
        elif old != new:
            lines.append(f"{name}:   {key} {old} -> {new}")
    return lines


def one_line_each(text: str) -> str:
    """Put each innermost object of indented JSON on one line: a diff shows one per package."""
    return re.sub(r"\{[^{}\[\]]*\}", lambda match: re.sub(r"\s*\n\s*", " ", match[0]), text)


def debian_versions(lock: dict[str, Any]) -> dict[str, str]:
    """{release/name: version} of a debian.json."""
    return {
        f"{release}/{name}": package["version"]
        for release, content in lock["releases"].items()
        for name, package in content["packages"].items()
    }


def driver_versions(lock: dict[str, Any]) -> dict[str, str]:
    """{name: version} of a driver.json."""
    return {name: package["version"] for name, package in lock["packages"].items()}


def wheel_versions(lock: dict[str, Any]) -> dict[str, str]:
    """{name: version} of a wheels-*.json."""
    return {wheel["name"]: wheel["version"] for wheel in lock["wheels"]}


def lock_debian(wanted: dict[str, Any], mirrors: download.Mirrors) -> dict[str, Any]:
    """The content of debian.json: {releases: {release: {packages, sets}}, seed}."""
    releases = {}
    for release, spec in wanted.items():
        with tempfile.TemporaryDirectory(prefix="confide-lock-") as directory:
            apt = Apt(Path(directory), spec, mirrors)
            packages: dict[str, Any] = {}
            sets = {}
            for name, top in spec["sets"].items():
                print(f"lock: {release} {name}", file=sys.stderr)
                install, keep = (top, ["*"]) if isinstance(top, list) else parts(top)
                closure = {
                    package: entry
                    for package, entry in apt.closure(install).items()
                    if any(fnmatch.fnmatch(package, glob) for glob in keep)
                }
                packages.update(closure)
                sets[name] = sorted(closure)
            releases[release] = {"packages": packages, "sets": sets}
    return {"releases": releases, "seed": lock_seed(releases["trixie"], mirrors)}


def parts(spec: dict[str, list[str]]) -> tuple[list[str], list[str]]:
    """Names to install and globs of what to keep of a set that is not all that these need.

    Without `install`, the packages to keep are the ones to install.
    """
    return spec.get("install", spec["keep"]), spec["keep"]


class Apt:
    """apt with private directories and an empty dpkg status, so that a closure is complete."""

    def __init__(self, directory: Path, release: dict[str, Any], mirrors: download.Mirrors) -> None:
        """A release of wanted.json: `suites`, the archive's `components` ("main" if it names none).

        `prefer` has, by suite, packages that are taken from it though another has them too.
        """
        components = " ".join(release.get("components", ["main"]))
        keyring = "/usr/share/keyrings/debian-archive-keyring.gpg"
        for name in ("lists/partial", "cache/archives/partial", "etc"):
            (directory / name).mkdir(parents=True)
        (directory / "status").touch()
        (directory / "etc/sources.list").write_text(
            "".join(
                f"deb [signed-by={keyring}] {self.site(suite, mirrors)} {suite} {components}\n"
                for suite in release["suites"]
            )
        )
        (directory / "etc/preferences").write_text(
            "".join(
                f"Package: {' '.join(packages)}\nPin: release n={suite}\nPin-Priority: 990\n\n"
                for suite, packages in release.get("prefer", {}).items()
            )
        )
        # Not in the file below: a path is taken here as it is, there it would need quoting.
        places = {
            "State": directory,
            "State::status": directory / "status",
            "Cache": directory / "cache",
            "Etc::sourcelist": directory / "etc/sources.list",
            "Etc::preferences": directory / "etc/preferences",
        }
        self.options = [f"--option=Dir::{name}={place}" for name, place in places.items()]
        self.config = directory / "apt.conf"
        self.config.write_text("""
Dir::Etc::sourceparts "/dev/null"; Dir::Etc::preferencesparts "/dev/null";
APT::Architecture "amd64"; APT::Architectures { "amd64"; };
APT::Install-Recommends "false"; Acquire::Languages "none"; Acquire::ForceHash "SHA256";
APT::Update::Error-Mode "any"; Debug::NoLocking "true"; APT::Sandbox::User "";
""")
        self.run("update", "-q")

    @staticmethod
    def site(suite: str, mirrors: download.Mirrors) -> str:
        """The mirror that has a suite."""
        return (mirrors.security if suite.endswith("-security") else mirrors.main)[0]

    def run(self, *arguments: str) -> str:
        """Output of apt-get; raise DownloadError with its message."""
        result = subprocess.run(
            ["apt-get", *self.options, *arguments],
            env={**os.environ, "APT_CONFIG": str(self.config), "LC_ALL": "C"},
            capture_output=True,
            text=True,
            check=False,
        )
        if result.returncode != 0:
            raise download.DownloadError(
                f"apt-get {' '.join(arguments)} failed:\n{result.stderr.strip()}"
            )
        return result.stdout

    def closure(self, top: list[str]) -> dict[str, Any]:
        """{name: {version, path, size, sha256}} of all that installing `top` needs."""
        found = {}
        for line in self.run("install", "--print-uris", "-qq", "-y", *top).splitlines():
            uri, file_name, size, digest = line.split()
            name, version, _ = urllib.parse.unquote(file_name).split("_")
            path = urllib.parse.unquote("pool/" + uri.strip("'").partition("/pool/")[2])
            algorithm, _, value = digest.partition(":")
            if algorithm != "SHA256":
                raise download.DownloadError(f"apt gave no SHA-256 for {name}, but {digest}")
            found[name] = {"version": version, "path": path, "size": int(size), "sha256": value}
        return found


def lock_driver(folder: Path) -> dict[str, Any]:
    """The content of driver.json: like a release of debian.json, with `path` a bare file name.

    Raises DownloadError for a folder without packages, with two versions of one, or with a file
    that is not called NAME_VERSION_ARCHITECTURE.deb.
    """
    packages: dict[str, Any] = {}
    for file in sorted(folder.glob("*.deb")):
        match urllib.parse.unquote(file.name).split("_"):
            case [name, version, _]:
                pass
            case _:
                raise download.DownloadError(
                    f"{file} is not called NAME_VERSION_ARCHITECTURE.deb, as apt calls a package"
                )
        if name in packages:
            raise download.DownloadError(
                f"{folder} has {name} {packages[name]['version']} and {version}; leave one of them"
            )
        size, digest = file.stat().st_size, download.sha256_of(file)
        packages[name] = {"version": version, "path": file.name, "size": size, "sha256": digest}
    if not packages:
        raise download.DownloadError(f"{folder} has no .deb files; put one driver's packages there")
    return {"packages": packages, "sets": {"driver": sorted(packages)}}


def lock_seed(release: dict[str, Any], mirrors: download.Mirrors) -> dict[str, Any]:
    """The seed is the folder bin/busybox out of a package, named by the hash of its Nix archive."""
    name = "busybox-static"
    package = release["packages"][name]
    file = download.File(kind="deb", name=name, **package)
    with tempfile.TemporaryDirectory(prefix="confide-lock-") as directory:
        deb = Path(directory) / "busybox.deb"
        opener = download.make_opener()
        download.download_deb(
            file, deb, mirrors, opener, download.Progress(file.size, 1, quiet=True)
        )
        seed = unpack_seed(deb, Path(directory))
        digest = subprocess.run(
            ["nix-hash", "--type", "sha256", str(seed)], capture_output=True, text=True, check=True
        ).stdout.strip()
    return {"release": "trixie", "package": name, "nar_sha256": digest}


def requirements(spec: dict[str, Any]) -> list[str]:
    """Pip's arguments for a set.

    Its own requirements, and the exact versions of the sets it includes, which are locked before
    it; or exactly what a requirements file names, whatever that declares to need.
    """
    if "exactly" in spec:
        return ["--no-deps", "--requirement", str(LOCK / spec["exactly"])]
    included = [
        f"{wheel['name']}=={wheel['version']}"
        for other in spec.get("include", [])
        for wheel in json.loads((LOCK / f"wheels-{other}.json").read_text())["wheels"]
    ]
    return [*included, *spec["requirements"]]


def lock_wheels(python: str, wanted: list[str]) -> dict[str, Any]:
    """Resolve and download, so that what is locked is what was seen: {python, wheels: [...]}."""
    print(f"lock: wheels for Python {python}: {' '.join(wanted)}", file=sys.stderr)
    with tempfile.TemporaryDirectory(prefix="confide-lock-") as directory:
        command = [sys.executable, "-c", PIP_FOR_TARGET, python]
        download.run_pip(command, python, Path(directory), wanted)
        wheels = [wheel(path) for path in sorted(Path(directory).glob("*.whl"))]
    return {"python": python, "wheels": sorted(wheels, key=lambda item: str(item["name"]))}


def wheel(path: Path) -> dict[str, str | int]:
    """What is locked of a downloaded wheel; `size` in bytes."""
    name, version, *_ = path.name.split("-")
    name = re.sub(r"[-_.]+", "-", name).lower()
    return {
        "name": name,
        "version": version,
        "filename": path.name,
        "size": path.stat().st_size,
        "sha256": download.sha256_of(path),
    }


if __name__ == "__main__":
    sys.exit(main())
