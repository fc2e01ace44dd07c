"""How long measurements take, next to sev-snp-measure on the same files in the same run.

    python tests/bench/bench_measure.py --disk DISK --firmware-sev-snp OVMF.amdsev.fd [...]

With the other inputs of `measure image` (--firmware, --firmware-tdx, --acpi, --shapes) it also
times the measurement of the whole image. Exit status 1: a target was missed.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from sevsnpmeasure import guest, sev_mode  # type: ignore[import-untyped]

CHECKOUT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(CHECKOUT))

from measure import image  # noqa: E402
from measure.snp import cpu, firmware, kernel, vmsa  # noqa: E402
from measure.snp.launch import MAX_VCPUS, Launch  # noqa: E402
from measure.uki import Section  # noqa: E402

ROUNDS = 31
VCPUS = 4
SIGNATURE = cpu.TYPES["EPYC-Milan"]
FEATURES = 1
MAX_RATIO = 1.0  # of the peer's time
MAX_ALL_COUNTS = 3.0  # of the time for one number of vCPUs
MAX_IMAGE_SECONDS = 5.0
IMAGE_INPUTS = ("firmware", "firmware_tdx", "acpi", "shapes")


def medians(functions: dict[str, Callable[[], object]]) -> dict[str, float]:
    """Median seconds of each function; they take turns, so that a busy moment hits all alike."""
    times: dict[str, list[float]] = {name: [] for name in functions}
    for _ in range(ROUNDS):
        for name, function in functions.items():
            start = time.perf_counter()
            function()
            times[name].append(time.perf_counter() - start)
    return {name: statistics.median(values) for name, values in times.items()}


def launch_digests(folder: Path, disk: str, firmware_path: str) -> dict[str, float]:
    """Medians for reading the files and computing: one count, all counts, the peer's one count."""
    parts = image.parse(Path(disk).read_bytes(), disk).uki
    linux, initrd = folder / "linux", folder / "initrd"
    linux.write_bytes(parts.sections[Section.LINUX])
    initrd.write_bytes(parts.sections[Section.INITRD])
    line = parts.command_line

    def launch() -> Launch:
        hashes = kernel.KernelHashes.of(linux.read_bytes(), initrd.read_bytes(), line.encode())
        loaded = firmware.from_image(Path(firmware_path).read_bytes(), firmware_path)
        return Launch(loaded, hashes, vmsa.QEMU, SIGNATURE, FEATURES)

    def ours() -> bytes:
        return launch().digest(VCPUS)

    def all_counts() -> dict[int, bytes]:
        return launch().digests_for(range(1, MAX_VCPUS + 1))

    def peer() -> bytes:
        mode = sev_mode.SevMode.SEV_SNP
        files = (firmware_path, str(linux), str(initrd), line)
        digest: bytes = guest.calc_launch_digest(mode, VCPUS, SIGNATURE, *files, FEATURES)
        return digest

    if not ours() == all_counts()[VCPUS] == peer():
        raise SystemExit("the digests differ, so their times mean nothing")
    return medians({"one": ours, "all": all_counts, "peer": peer})


def whole_image(options: argparse.Namespace, folder: Path) -> tuple[float, int]:
    """Seconds of `measure image`, start of Python included, and the number of machines in it."""
    output = folder / "measurements.json"
    command = [sys.executable, "-m", "measure", "image", "--disk", options.disk, "-o", str(output)]
    for name in (*IMAGE_INPUTS, "firmware_sev_snp"):
        command += ["--" + name.replace("_", "-"), getattr(options, name)]
    start = time.perf_counter()
    subprocess.run(command, check=True, cwd=CHECKOUT)
    seconds = time.perf_counter() - start
    platforms = json.loads(output.read_text())["platforms"]
    return seconds, sum(len(machines) for machines in platforms.values())


def report(what: str, value: str, reached: bool) -> bool:
    """Prints a line of the table; whether the target is reached."""
    print(f"{what:<52} {value:<34} {'ok' if reached else 'MISSED'}")
    return reached


def main() -> int:
    """Runs everything that the inputs allow; 0 when every target is reached."""
    parser = argparse.ArgumentParser(description="Times measurements.")
    for name in ("disk", "firmware_sev_snp"):
        parser.add_argument("--" + name.replace("_", "-"), type=absolute, required=True)
    for name in IMAGE_INPUTS:
        parser.add_argument("--" + name.replace("_", "-"), type=absolute)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        found = launch_digests(folder, options.disk, options.firmware_sev_snp)
        ratio, counts = found["one"] / found["peer"], found["all"] / found["one"]
        times = f"{found['one'] * 1e3:.1f} ms, peer {found['peer'] * 1e3:.1f} ms"
        results = [
            report("SEV-SNP digest, time relative to sev-snp-measure",
                   f"{ratio:.2f} ({times})", ratio <= MAX_RATIO),
            report(f"digests for 1 to {MAX_VCPUS} vCPUs, relative to one",
                   f"{counts:.2f} ({found['all'] * 1e3:.1f} ms)", counts < MAX_ALL_COUNTS),
        ]  # fmt: skip
        if all(getattr(options, item) for item in IMAGE_INPUTS):
            seconds, machines = whole_image(options, folder)
            what = f"measure image, {machines} machines"
            results.append(report(what, f"{seconds:.2f} s", seconds < MAX_IMAGE_SECONDS))
    return 0 if all(results) else 1


def absolute(path: str) -> str:
    """A path that still holds in another working folder."""
    return str(Path(path).absolute())


if __name__ == "__main__":
    sys.exit(main())
