"""How long builds take from an empty store with fetched sources, and after a change of one line.

Needs root, and the sources of `images-without-gpu` and `manifest` in the store (`make fetch`); with
--gpu those of `images`, and 60 GB of disk. Every build runs in a mount namespace in which an empty
folder is /nix, so nothing on this machine is changed:

    sudo python3 tests/bench/bench_build.py [--gpu]
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[2]
RUN = str(CHECKOUT / "nix" / "run")
# Outputs, and seconds for them from an empty store and after a change.
WITHOUT_GPU = (".#images-without-gpu", ".#manifest"), 240, 60
WITH_GPU = (".#images", ".#manifest"), 2400, 90


def output(*command: str) -> str:
    """Standard output of a Nix command on this machine's store."""
    return subprocess.run([RUN, *command], stdout=subprocess.PIPE, text=True, check=True).stdout


def sources(outputs: tuple[str, ...]) -> list[str]:
    """Store paths of every locked file that the outputs need."""
    tops = [output("nix", "eval", "--raw", f"{name}.drvPath") for name in outputs]
    found = []
    for path in output("nix-store", "--query", "--requisites", *tops).split():
        if path.endswith(".drv") and "missing-source://" in (text := Path(path).read_text()):
            found += re.findall(r'^Derive\(\[\("out","([^"]+)"', text)
    return found


class EmptyStore:
    """A Nix store of its own below `folder`, and a clone of the checkout to build there."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.clone = folder, folder / "checkout"
        for name in ("nix", "home", "cache"):
            (folder / name).mkdir()
        clone = ["git", "clone", "-q", "--depth", "1", f"file://{CHECKOUT}", str(self.clone)]
        subprocess.run(clone, check=True)

    def run(self, *command: str, stdin: Path | None = None) -> float:
        """Run a command with the store as /nix; seconds."""
        enter = 'mount --bind "$0/nix" /nix && exec "$@"'
        environment = {**os.environ, "HOME": f"{self.folder}/home"}
        environment["XDG_CACHE_HOME"] = f"{self.folder}/cache"
        inner = ["sh", "-c", enter, str(self.folder), str(self.clone / "nix" / "run"), *command]
        start = time.monotonic()
        with (stdin or Path(os.devnull)).open("rb") as stream:
            subprocess.run(
                ["unshare", "-m", *inner],
                check=True,
                stdin=stream,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                env=environment,
            )
        return time.monotonic() - start

    def build(self, *names: str) -> float:
        """Build flake outputs; seconds."""
        return self.run("nix", "build", "--no-link", *names)


def report(what: str, seconds: float, limit: float) -> bool:
    """Print a line of the table; whether the figure is reached."""
    verdict = "ok" if seconds < limit else "MISSED"
    print(f"{what:<58} {seconds:7.1f} s   under {limit:.0f} s   {verdict}")
    return seconds < limit


def main() -> int:
    """Run all builds; 0 when every figure is reached."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--gpu", action="store_true", help="with the GPU worker")
    outputs, limit, limit_again = WITH_GPU if parser.parse_args().gpu else WITHOUT_GPU
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")
    with tempfile.TemporaryDirectory(prefix="confide-bench-", dir="/var/tmp") as name:
        store = EmptyStore(Path(name))
        exported = Path(name) / "sources"
        with exported.open("wb") as stream:
            subprocess.run(
                [RUN, "nix-store", "--export", *sources(outputs)], stdout=stream, check=True
            )
        store.run("nix-store", "--import", stdin=exported)
        exported.unlink()
        first = store.build(".#coordinator.disk")
        ok = report("coordinator's disk from an empty store", first, 25)
        everything = first + store.build(*outputs)
        ok &= report("these images and the manifest from an empty store", everything, limit)
        module = store.clone / "py" / "confide" / "errors.py"
        module.write_text(module.read_text() + "# one more line\n")
        first = store.build(".#coordinator", ".#secret-service")
        ok &= report("coordinator and secret service after a changed line", first, 20)
        everything = first + store.build(*outputs)
        ok &= report("everything after a changed line", everything, limit_again)
        subprocess.run(["chmod", "-R", "u+w", name], check=False)
    return 0 if ok else 1


if __name__ == "__main__":
    sys.exit(main())
