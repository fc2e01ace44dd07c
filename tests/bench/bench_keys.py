"""What a client does before its first prompt: a handshake, and a key for three secret services.

Real programs on this machine, behind a real gateway, with SIMULATED attesters. So the time of a
quote is not in the handshake; the checks of the vTPM platform are.

    python tests/bench/bench_keys.py [--json]
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "py"), str(ROOT)]

from confide.client.collateral.finder import offline  # noqa: E402
from confide.client.proxy.gateway import Gateway  # noqa: E402
from confide.client.proxy.handshake import Handshake  # noqa: E402
from confide.client.proxy.keys import ModelKeys  # noqa: E402
from confide.client.proxy.workers import Workers  # noqa: E402
from confide.net.calls import Caller  # noqa: E402
from confide.protocol.manifest import Manifest  # noqa: E402
from tests.support.native_service import NativeService  # noqa: E402

ROUNDS = 70  # a gateway without API keys takes 256 key messages at once from one address
KEY_TARGET_MS = 15.0
HANDSHAKE_TARGET_MS = 100.0


def milliseconds(step: Callable[[], object]) -> list[float]:
    """How long each of ROUNDS runs took, after some that do not count."""
    times = []
    for _ in range(10 + ROUNDS):
        start = time.perf_counter()
        step()
        times.append(1000 * (time.perf_counter() - start))
    return times[10:]


def measure(service: NativeService) -> dict[str, list[float]]:
    """The times of each step."""
    manifest = Manifest.parse(service.manifest)
    gateway = Gateway(Caller(service.start_gateway()), api_key="", manifest_sha256=manifest.sha256)
    handshake = Handshake(
        gateway, manifest=service.manifest, find_collateral=offline(), clock=time.time
    )
    established = handshake.run(lambda _: None)

    def key() -> None:
        made = ModelKeys(gateway).get(established, "tiny")
        assert (made.accepted, made.shown) == (3, 3)

    def worker() -> None:
        chosen = Workers(gateway).choose(established, "tiny", bytes(32), set())
        assert chosen.share

    return {
        "handshake": milliseconds(lambda: handshake.run(lambda _: None)),
        "key for three secret services": milliseconds(key),
        "list of workers and share": milliseconds(worker),
    }


def main() -> int:
    """Print the figures; exit 1 if a target is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="print JSON")
    arguments = parser.parse_args()
    with (
        tempfile.TemporaryDirectory(prefix="confide-bench-") as folder,
        NativeService(Path(folder), secret_services=3) as service,
    ):
        times = measure(service)
    medians = {name: statistics.median(seconds) for name, seconds in times.items()}
    if arguments.json:
        print(json.dumps(medians, indent=2))
    else:
        for name, found in times.items():
            p95 = statistics.quantiles(found, n=20)[-1]
            print(f"{name:32} median {medians[name]:7.2f} ms   p95 {p95:7.2f} ms")
    good = (
        medians["key for three secret services"] < KEY_TARGET_MS
        and medians["handshake"] < HANDSHAKE_TARGET_MS
    )
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
