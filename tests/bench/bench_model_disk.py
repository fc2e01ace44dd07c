"""How fast model disks are hashed, next to `veritysetup format` on the same data in the same run.

    nix build -o tools .#tools && nix build -o model-tools .#model-tools
    python tests/bench/bench_model_disk.py --tools-root tools --model-tools model-tools [--gib 2]

The data is in memory (the page cache) for all of them, so this is about processors; only `pack`
waits for the disk, since it makes sure that what it did stays. Exit status 1: the target was
missed, or the root hashes differ.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(CHECKOUT / "py"))

from confide.host.model import check, hashing, pack, source  # noqa: E402
from confide.protocol.hash_tree import BLOCK, SALT, disk_size, levels, root_hash  # noqa: E402

ROUNDS = 5
MIN_RATIO = 1.0  # of the peer's rate


def quiet(_total: int) -> Callable[[int], None]:
    """A progress that nobody sees."""
    return lambda _count: None


def ours(disk: Path, blocks: int) -> str:
    """Make the hash tree of data that is on the disk already; the root hash."""
    os.truncate(disk, disk_size(blocks))
    every = levels(blocks)
    with hashing.processes() as pool:
        for level, above in pairwise(every):
            tasks = (pack.Fill(disk, segment, ()) for segment in hashing.segments(level, above))
            for _ in hashing.in_order(pool, pack.fill, tasks):
                pass
    with disk.open("rb") as file:
        file.seek(every[-1].offset)
        return root_hash(file.read(BLOCK)).hex()


def peer(tools: Path, disk: Path, blocks: int) -> str:
    """The same by veritysetup, started without entering its root."""
    os.truncate(disk, blocks * BLOCK)
    libraries = tools / "usr/lib/x86_64-linux-gnu"
    root = disk.with_suffix(".roothash")
    command = [str(libraries / "ld-linux-x86-64.so.2"), "--library-path", str(libraries)]
    command += [str(tools / "usr/sbin/veritysetup"), "format", "--no-superblock", "--hash=sha256"]
    command += [
        f"--salt={SALT.hex()}",
        f"--data-blocks={blocks}",
        f"--hash-offset={blocks * BLOCK}",
    ]
    command += [f"--root-hash-file={root}", str(disk), str(disk)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return root.read_text().strip()


def measured(actions: dict[str, Callable[[], object]], size: int) -> dict[str, list[float]]:
    """GB/s of each action on `size` bytes, in each round; they take turns."""
    rates: dict[str, list[float]] = {what: [] for what in actions}
    for _ in range(ROUNDS):
        for what, action in actions.items():
            start = time.perf_counter()
            action()
            rates[what].append(size / (time.perf_counter() - start) / 1e9)
    return rates


def main() -> int:
    """Run everything; 0 if the target is reached."""
    parser = argparse.ArgumentParser(description="Times the hashing of model disks.")
    parser.add_argument("--tools-root", type=Path, required=True)
    parser.add_argument("--model-tools", type=Path, required=True)
    parser.add_argument("--gib", type=int, default=2)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=Path.cwd()) as name:
        folder = Path(name)
        model, data, disk = folder / "model", folder / "data", folder / "model.disk"
        model.mkdir()
        with (model / "weights").open("wb") as file:
            for _ in range(options.gib * 64):
                file.write(os.urandom(16 << 20))
        data.hardlink_to(model / "weights")
        blocks = options.gib << 18
        packed: list[pack.PackedDisk] = []

        def make() -> None:
            disk.unlink(missing_ok=True)
            packed.append(pack.pack(source.scan(model), disk, options.model_tools, quiet))

        def verify() -> None:
            check.verify(disk, packed[-1].root_hash, packed[-1].hash_offset, quiet)

        roots: set[str] = set()
        actions: dict[str, Callable[[], object]] = {
            "hash tree": lambda: roots.add(ours(data, blocks)),
            "hash tree, veritysetup": lambda: roots.add(peer(options.tools_root, data, blocks)),
        }
        rates = measured(actions, blocks * BLOCK)
        os.truncate(data, blocks * BLOCK)  # the model's file again
        rates |= measured({"pack": make, "verify": verify}, blocks * BLOCK)
    print(f"{options.gib} GiB, {hashing.process_count()} processes, load {os.getloadavg()[0]:.1f}")
    medians = {what: statistics.median(values) for what, values in rates.items()}
    for what, rate in medians.items():
        print(f"{what:<24} {rate:.2f} GB/s  ({', '.join(f'{r:.2f}' for r in rates[what])})")
    ratio = medians["hash tree"] / medians["hash tree, veritysetup"]
    good = ratio >= MIN_RATIO and len(roots) == 1
    print(f"rate relative to veritysetup: {ratio:.2f} {'ok' if good else 'MISSED'}")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
