"""Boot our kernel on machines of a hostile host, and say what became of each.

    python -m tests.fuzz.kernel --tools QEMU --kernel vmlinuz --seed 1 --cases 500 --minutes 60

A host can always stop a machine, so one that ends, or stays where it is, is no finding; each is
listed, the reason with it. So is one that faulted at a read. A finding is a machine that wrote, or
ran, what it should not.
The kernel in our images shows faults, not each wrong access.
Exit status 1: there was a finding. A case runs again alone with --only NUMBER.
"""

from __future__ import annotations

import argparse
import re
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import fw_cfg

from confide.host.runner.qemu import Tools
from tests.fuzz import inputs
from tests.fuzz.machine import BOOTED, MEMORY, Bench, RefusedError, Said

# What a machine did.
UNTOUCHED, ENDED, FAULTED, STUCK = "untouched", "ended", "faulted", "stuck"
RESET, REFUSED, DAMAGED = "reset", "refused", "DAMAGED"
# It wrote where it should not, or ran what it should not, or nearly. Page faults: bits 1 and 4 of
# their error code (Intel's manual, volume 3, 4.7).
_DAMAGE = re.compile(
    r"(UBSAN: .*|general protection fault.*|stack-protector: .*|.*detected buffer overflow.*"
    r"|.* corruption.*|refcount_t: .*|#PF: supervisor (?:write|instruction).*"
    r"|PANIC: early exception 0x0d.*"
    r"|PANIC: early exception 0x0e IP \S+ error (?:[0-9a-f]*[2367abef]|1[0-9a-f]) .*)"
)
# It read where it should not, which shows the host nothing, or gave up in the middle.
_FAULT = re.compile(r"(BUG: .*|kernel BUG at .*|Oops: .*|PANIC: early exception .*)")
_PANIC = re.compile(r"Kernel panic - not syncing: (.*)")
_UNTIL = f"{BOOTED}|end Kernel panic|-- System halted|PANIC: early exception"


@dataclass(frozen=True)
class Outcome:
    """One machine's end.

    Attributes:
        what: one of the words above.
        why: the kernel's own line, or its last words.
    """

    number: int
    kind: str
    what: str
    why: str
    said: Said

    def __str__(self) -> str:
        return f"{self.number:6} {self.kind:10} {self.what:10} {self.why}"


def judge(said: Said) -> tuple[str, str]:
    """What became of a machine that said this, and the line that shows it."""
    if damage := _DAMAGE.search(said.text):
        return DAMAGED, damage[0]
    if fault := _FAULT.search(said.text):
        return FAULTED, fault[0]
    if BOOTED in said.text:
        return UNTOUCHED, ""
    if panic := _PANIC.search(said.text):
        return ENDED, panic[1]
    lines = said.text.split("\n")
    last = next((line for line in reversed(lines) if line.strip()), "no word")
    return (STUCK if said.running else RESET), last


def genuine_tables(tools: Tools, bench: Bench, folder: Path) -> inputs.Tables:
    """The tables that QEMU gives a machine like ours, which has two domains of memory."""
    console = folder / "serial.log"
    argv = bench.arguments(inputs.nothing())
    half = f"memory-backend-ram,size={MEMORY // 2},id="
    for domain in range(2):
        argv += ["-object", f"{half}m{domain}", "-numa", f"node,memdev=m{domain},cpus={domain}"]
    argv += ["-numa", "dist,src=0,dst=1,val=20"]
    console.unlink(missing_ok=True)
    run = fw_cfg.run(argv, console=console, until=b"Linux version", memory=MEMORY, seconds=60)
    with run as stopped:
        return inputs.parse(stopped.files()["etc/acpi/tables"])


def outcomes(
    tools: Tools, kernel: Path, folder: Path, seed: int, numbers: Iterator[int], seconds: float
) -> Iterator[Outcome]:
    """Boots the machine of each number; each may take `seconds`."""
    bench = Bench(tools, kernel, folder)
    genuine = genuine_tables(tools, bench, folder)
    plain = bench.boot(inputs.plain(genuine), _UNTIL, seconds)
    if judge(plain) != (UNTOUCHED, ""):
        raise RuntimeError(f"a genuine machine does not boot:\n{plain.text[-2000:]}")
    for number in numbers:
        kind, machine = inputs.case(genuine, seed, number)
        try:
            said = bench.boot(machine, _UNTIL, seconds)
        except RefusedError as error:
            yield Outcome(number, kind, REFUSED, str(error), Said("", running=False, seconds=0))
        else:
            yield Outcome(number, kind, *judge(said), said)


def main() -> None:
    """Read the arguments, and boot machines until cases or time are over."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--tools", type=Path, required=True, help="what `nix build .#qemu` made")
    parser.add_argument("--kernel", type=Path, required=True, help="its vmlinuz")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--cases", type=int, default=500)
    parser.add_argument("--minutes", type=float, default=60, help="start no case after these")
    parser.add_argument("--seconds", type=float, default=60, help="how long each may take")
    parser.add_argument("--only", type=int, help="this case alone")
    parser.add_argument("--keep", type=Path, help="write what such machines said to this folder")
    args = parser.parse_args()
    end = time.monotonic() + 60 * args.minutes
    numbers = iter(range(args.cases) if args.only is None else [args.only])
    seen: Counter[tuple[str, str]] = Counter()
    with tempfile.TemporaryDirectory() as folder:
        run = outcomes(
            Tools(args.tools), args.kernel, Path(folder), args.seed, numbers, args.seconds
        )
        for outcome in run:
            seen[outcome.kind, outcome.what] += 1
            if outcome.what != UNTOUCHED:
                print(outcome, flush=True)
                if args.keep:
                    (args.keep / f"{outcome.number}.log").write_text(outcome.said.text)
            if time.monotonic() > end:
                break
    print(f"seed {args.seed}: {sum(seen.values())} machines")
    for (kind, what), count in sorted(seen.items()):
        print(f"  {kind:10} {what:10} {count:5}")
    sys.exit(any(what == DAMAGED for _, what in seen))


if __name__ == "__main__":
    main()
