"""What the kernel of our own costs: size, compilation, and how soon machines work.

    python tests/bench/bench_kernel.py --inputs result-test [--compile] [--demo] [--change]

The folder is what `nix build .#test-inputs` makes. It prints each figure beside the wanted one; a
busy machine misses those of time, so the load is printed first. Exit status 1: one was missed.
--compile compiles both kernels again and compares them (they must be in the store), --demo starts
`make demo`, --change builds the images after a change of one line, in a clone of the checkout.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
import time
from hashlib import sha256
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(CHECKOUT), str(CHECKOUT / "py")]

from confide.host.runner.qemu import Tools  # noqa: E402
from confide.host.runner.vm import Machine  # noqa: E402
from confide.protocol.configdisk import ConfigDisk  # noqa: E402

RUN = str(CHECKOUT / "nix" / "run")
MAX_IMAGE_MB, MAX_COMPILE, MAX_READY, MAX_DEMO, MAX_CHANGE = 9, 480, 13, 30, 7
MB = 1 << 20
BOOT_SECONDS, DEMO_SECONDS = 120, 300
# The demo's first two machines are up when the third one starts.
DEMO_UP = re.compile(r"secret-service: (ready|verified)")


def report(what: str, value: float, wanted: float, unit: str) -> bool:
    """Print a line; whether the figure is reached."""
    verdict = "ok" if value < wanted else "MISSED"
    print(f"{what:<50} {value:7.1f} {unit:<2}  under {wanted:g} ({value / wanted:.2f})  {verdict}")
    return value < wanted


def ready(inputs: Path, folder: Path) -> tuple[float, float]:
    """Seconds from power-on until the coordinator answers, and until its kernel speaks."""
    tools = Tools(inputs / "qemu")
    image = inputs / "images/coordinator"
    config = ConfigDisk(sha256((inputs / "manifest").read_bytes()).digest())
    machine = Machine(image, "coordinator", config=config, run_dir=folder, tools=tools)
    kernel = 0.0
    start = time.monotonic()
    with machine:
        while not kernel and time.monotonic() < start + BOOT_SECONDS:
            said = machine.console.read_bytes() if machine.console.exists() else b""
            if b"layers opened" in said:
                kernel = time.monotonic() - start
            time.sleep(0.05)
        machine.wait_ready(BOOT_SECONDS)
        return time.monotonic() - start, kernel


def demo() -> float:
    """Seconds until the demo's coordinator and secret service work; everything is built before."""
    start = time.monotonic()
    with subprocess.Popen(
        ["make", "demo"], cwd=CHECKOUT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        assert process.stdout
        try:
            for line in process.stdout:
                if DEMO_UP.search(line):
                    return time.monotonic() - start
                if time.monotonic() > start + DEMO_SECONDS:
                    break
        finally:
            process.terminate()
    raise SystemExit("the demo's machines did not come up")


def change() -> float:
    """Seconds for the images without GPU after a change of one line of their code."""
    with tempfile.TemporaryDirectory(prefix="confide-bench-") as folder:
        clone = Path(folder) / "checkout"
        subprocess.run(["git", "clone", "-q", str(CHECKOUT), str(clone)], check=True)
        module = clone / "py/confide/errors.py"
        module.write_text(module.read_text() + f"# {time.time()}\n")
        return seconds(str(clone / "nix/run"), "nix", "build", "--no-link", ".#images-without-gpu")


def seconds(*command: str) -> float:
    """How long a command takes."""
    start = time.monotonic()
    subprocess.run(command, cwd=CHECKOUT, check=True, stdout=subprocess.DEVNULL)
    return time.monotonic() - start


def main() -> int:
    """Measure what was asked for; 0 when every figure is reached."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--inputs", type=Path, required=True)
    for option in ("--compile", "--demo", "--change"):
        parser.add_argument(option, action="store_true")
    args = parser.parse_args()
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")
    uki = (args.inputs / "images/coordinator/uki.efi").stat().st_size
    ok = report("unified kernel image", uki / MB, MAX_IMAGE_MB, "MB")
    with tempfile.TemporaryDirectory() as folder:
        whole, kernel = ready(args.inputs, Path(folder))
    ok &= report("coordinator, from power-on until it answers", whole, MAX_READY, "s")
    print(f"  of which firmware, kernel and initrd {kernel:.1f} s, then the services")
    if args.compile:
        for kernel_name in ("linux", "linux-gpu"):
            again = seconds(RUN, "nix", "build", "--no-link", "--rebuild", f".#{kernel_name}")
            what = f"compiling {kernel_name}, which comes out the same"
            ok &= report(what, again, MAX_COMPILE, "s")
    if args.demo:
        ok &= report("the demo's first two machines", demo(), MAX_DEMO, "s")
    if args.change:
        ok &= report("images without GPU after a changed line", change(), MAX_CHANGE, "s")
    return 0 if ok else 1


if __name__ == "__main__":
    sys.exit(main())
