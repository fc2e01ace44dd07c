"""What sealing costs: proxy, gateway and encryption proxy in a row, against calling the engine.

Runs everything natively on this machine, each program in its own process, with a FAKE engine
(tests/support/fake_engine.py) and a SIMULATED attester. Next to it, in the same run and in turns:
the engine alone, and one and three bare Flask + gunicorn + requests pass-throughs.

    python tests/bench/bench_data_path.py [--json]
"""

from __future__ import annotations

import argparse
import json
import re
import statistics
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "py"), str(ROOT)]

from tests.support.load import Client, at_once, body_of  # noqa: E402
from tests.support.native_service import NativeService  # noqa: E402
from tests.support.programs import free_port  # noqa: E402

CALLS = 150
"""Single requests for each route and round."""
ROUNDS = 3
STREAMS = 8
EVENTS = 3000
"""Events in each of the concurrent streams."""
PACED_EVENTS = 300
GAP = 0.005
EVENT_MARK = b"data: {"


def latencies(url: str) -> list[float]:
    """Milliseconds of CALLS requests, one at a time, not streamed."""
    client = Client(url)
    body = body_of("hello", stream=False)
    times = []
    for _ in range(10 + CALLS):
        seconds, answer = client.call(body)
        if b"fake engine" not in answer:
            raise RuntimeError(f"the engine did not answer: {answer[:500]!r}")
        times.append(1000 * seconds)
    client.close()
    return times[10:]


def throughput(url: str) -> float:
    """Events a second, STREAMS streams at once, all events counted."""
    counts = [0] * STREAMS
    body = body_of(f"events={EVENTS}", stream=True)

    def run(number: int) -> None:
        client = Client(url)

        tail = b""

        def count(piece: bytes) -> None:
            nonlocal tail
            # A mark may be split over two reads; what is kept is too short to hold one.
            piece = tail + piece
            counts[number] += piece.count(EVENT_MARK)
            tail = piece[1 - len(EVENT_MARK) :]

        client.stream(body, count)
        client.close()

    seconds = at_once(STREAMS, run)
    if sum(counts) != STREAMS * EVENTS:
        raise RuntimeError(f"{sum(counts)} events came instead of {STREAMS * EVENTS}")
    return sum(counts) / seconds


def event_delays(url: str) -> tuple[list[float], float]:
    """Milliseconds from an event's leaving the engine to its arrival, and events per read.

    The engine sends one event every GAP seconds: held-back events would show as long delays, and
    as several in one read.
    """
    delays: list[float] = []
    reads = 0

    def seen(piece: bytes) -> None:
        nonlocal reads
        now = time.monotonic_ns()
        stamps = re.findall(rb'"id": "chatcmpl-(\d+)"', piece)
        reads += bool(stamps)
        delays.extend((now - int(stamp)) / 1e6 for stamp in stamps)

    client = Client(url)
    client.stream(body_of(f"stamp events={PACED_EVENTS} gap={GAP}", stream=True), seen)
    client.close()
    if len(delays) != PACED_EVENTS:
        raise RuntimeError(f"{len(delays)} events came instead of {PACED_EVENTS}")
    return delays, len(delays) / reads


def start_passthroughs(service: NativeService, count: int) -> list[str]:
    """Pass-throughs in a row; the address of each."""
    urls = []
    upstream = service.urls["engine"]
    for number in range(count):
        upstream = start_passthrough(service, f"pass-through-{number}", upstream)
        urls.append(upstream)
    return urls


def start_passthrough(service: NativeService, name: str, upstream: str) -> str:
    port = free_port()
    options = ["--worker-class", "gthread", "--threads", "64", "--log-level", "warning"]
    options += ["--keep-alive", "75", "--bind", f"127.0.0.1:{port}"]
    options += ["--env", f"PASSTHROUGH_UPSTREAM={upstream}", "tests.bench.passthrough:app"]
    service.start(name, "gunicorn", options, port=port)
    service.wait(name, "ready")
    return service.urls[name]


def measure(service: NativeService) -> dict[str, dict[str, float]]:
    """All figures, by route."""
    routes = {"engine alone": service.urls["engine"]}
    bare = start_passthroughs(service, 3)
    routes |= {"bare, 1 hop": bare[0], "bare, 3 hops": bare[2]}
    routes["confide, sealed"] = service.start_proxy(service.start_gateway())
    single: dict[str, list[float]] = {name: [] for name in routes}
    events: dict[str, list[float]] = {name: [] for name in routes}
    for _ in range(ROUNDS):
        for name, url in routes.items():
            single[name] += latencies(url)
            events[name].append(throughput(url))
    result = {}
    for name, url in routes.items():
        delays, per_read = event_delays(url)
        result[name] = {
            "median_ms": statistics.median(single[name]),
            "p95_ms": statistics.quantiles(single[name], n=20)[-1],
            "added_ms": statistics.median(single[name]) - statistics.median(single["engine alone"]),
            "events_per_s": statistics.median(events[name]),
            "event_delay_median_ms": statistics.median(delays),
            "event_delay_max_ms": max(delays),
            "events_per_read": per_read,
        }
    return result


def main() -> int:
    """Print the figures; exit 1 if the targets are missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="print JSON")
    arguments = parser.parse_args()
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="confide-bench-"))
        service = stack.enter_context(NativeService(Path(folder)))
        result = measure(service)
    if arguments.json:
        print(json.dumps(result, indent=2))
    else:
        print_table(result)
    ours = result["confide, sealed"]
    return 0 if ours["added_ms"] < 6 and ours["events_per_s"] >= 10_000 else 1


def print_table(result: dict[str, dict[str, float]]) -> None:
    """One line a route; ratios are against the engine alone and one bare hop."""
    print("FAKE engine, SIMULATED attestation, all on this machine")
    print(f"one request at a time ({ROUNDS} x {CALLS}); {STREAMS} streams of {EVENTS} events;")
    print(f"delay of single events, one every {GAP * 1000:.0f} ms\n")
    columns = ("median", "p95", "added", "x bare hop", "events/s", "x bare hop", "delay", "max")
    print(f"{'':16}" + "".join(f"{column:>12}" for column in columns))
    bare = result["bare, 1 hop"]
    for name, row in result.items():
        slower = row["added_ms"] / bare["added_ms"]
        faster = row["events_per_s"] / bare["events_per_s"]
        cells = [
            f"{row['median_ms']:.2f} ms",
            f"{row['p95_ms']:.2f} ms",
            f"{row['added_ms']:.2f} ms",
            f"{slower:.2f}",
            f"{row['events_per_s']:,.0f}",
            f"{faster:.2f}",
            f"{row['event_delay_median_ms']:.2f} ms",
            f"{row['event_delay_max_ms']:.1f} ms",
        ]
        print(f"{name:16}" + "".join(f"{cell:>12}" for cell in cells))


if __name__ == "__main__":
    sys.exit(main())
