"""How many questions a coordinator answers, by one quote for all that wait and by one for each.

The quote is SIMULATED: it takes 100 ms, one at a time. All else is the coordinator's real code,
without HTTP. Target: with 64 clients at once, the median one waits at most 2.25 times as long as a
single one, and at least 20 times as many are answered as by one quote for each.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from threading import Lock, Thread

sys.path[:0] = [str(Path(__file__).parents[2] / "py"), str(Path(__file__).parents[2])]

from confide.guest.coordinator.domain import Coordinator  # noqa: E402
from confide.guest.coordinator.quotes import MAX_WAITING  # noqa: E402
from confide.protocol.nonce_tree import NonceTree  # noqa: E402
from tests.support.simulated_machine import Clock, manifest_bytes  # noqa: E402
from tests.support.slow_machine import SlowMachine  # noqa: E402

QUOTE_SECONDS = 0.1
SECONDS = 5.0
CLIENTS = (1, 8, 64, MAX_WAITING)
TARGET_CLIENTS = 64
MANIFEST = manifest_bytes()

Ask = Callable[[bytes], object]


def coordinator() -> Coordinator:
    machine = SlowMachine(QUOTE_SECONDS, manifest=MANIFEST)
    made = Coordinator(machine, binding=machine.binding, now=Clock())
    made.set_manifest(MANIFEST)
    return made


def one_for_each(made: Coordinator) -> Ask:
    """What a coordinator did before: each question waits for all that came before it."""
    device = Lock()

    def ask(nonce: bytes) -> object:
        with device:
            return made._attestation(NonceTree([nonce]).root)

    return ask


def measure(ask: Ask, clients: int) -> dict[str, float]:
    """Each client asks again as soon as it has its answer."""
    waits: list[float] = []
    end = time.monotonic() + SECONDS

    def client() -> None:
        while (began := time.monotonic()) < end:
            ask(os.urandom(32))
            waits.append(time.monotonic() - began)

    threads = [Thread(target=client) for _ in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    answered = time.monotonic() - (end - SECONDS)
    return {
        "per_second": len(waits) / answered,
        "median_ms": statistics.median(waits) * 1000,
        "max_ms": max(waits) * 1000,
    }


def main() -> int:
    """Print the figures; exit 1 if the target is missed."""
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args()
    ways: dict[str, Callable[[], Ask]] = {
        "one for all that wait": lambda: coordinator().attest,
        "one for each": lambda: one_for_each(coordinator()),
    }
    results = {
        name: {clients: measure(way(), clients) for clients in CLIENTS}
        for name, way in ways.items()
    }
    ours, before = (results[name][TARGET_CLIENTS] for name in ways)
    alone = results["one for all that wait"][1]
    passed = (
        ours["median_ms"] <= 2.25 * alone["median_ms"]
        and ours["per_second"] >= 20 * before["per_second"]
    )
    if options.json:
        print(json.dumps({"results": results, "passed": passed}))
    else:
        print(f"SIMULATED quote of {QUOTE_SECONDS * 1000:.0f} ms; {SECONDS:.0f} s each")
        for name, rows in results.items():
            for clients, row in rows.items():
                print(
                    f"{name:24}{clients:5} clients {row['per_second']:8.1f} a second   "
                    f"median {row['median_ms']:7.0f} ms   most {row['max_ms']:7.0f} ms"
                )
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main())
