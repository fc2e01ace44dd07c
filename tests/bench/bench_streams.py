"""1,200 streams at once: does each begin and end in time, and is health still answered?

Runs proxy, gateway and encryption proxy natively, each in its own process, with a FAKE engine and a
SIMULATED attester. The same streams go to the engine alone first, and the ratio is printed.

    python tests/bench/bench_streams.py [--streams 1200] [--json]
"""

from __future__ import annotations

import argparse
import asyncio
import http.client
import json
import statistics
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "py"), str(ROOT)]

from tests.support.load import HEADERS, PATH, body_of  # noqa: E402
from tests.support.native_service import NativeService  # noqa: E402

EVENTS = 15
GAP = 2.0
"""Seconds between two events of a stream."""
RAMP = 10.0
"""Seconds in which the streams begin, evenly."""
PROGRAMS = ("proxy", "gateway", "worker")


@dataclass
class Result:
    """Seconds."""

    first: list[float] = field(default_factory=list)
    whole: list[float] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    health: dict[str, list[float]] = field(default_factory=dict)

    def summary(self) -> dict[str, object]:
        """What is printed."""
        first = sorted(self.first) or [float("nan")]
        return {
            "first_event_median": round(statistics.median(first), 3),
            "first_event_99_percent": round(first[int(len(first) * 0.99)], 3),
            "longest_stream": round(max(self.whole, default=float("nan")), 1),
            "ended": len(self.whole),
            "failed": self.failed[:3],
            "slowest_health": {name: round(max(times), 3) for name, times in self.health.items()},
        }


async def stream(url: str, delay: float, result: Result) -> None:
    """One stream, read to its end."""
    await asyncio.sleep(delay)
    parts = urlsplit(url)
    start = time.monotonic()
    try:
        reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
        body = body_of(f"events={EVENTS} gap={GAP}", stream=True)
        lines = [f"POST {PATH} HTTP/1.1", f"Host: {parts.netloc}", f"Content-Length: {len(body)}"]
        lines += [f"{name}: {value}" for name, value in HEADERS.items()]
        writer.write("\r\n".join([*lines, "", ""]).encode() + body)
        await reader.readuntil(b"data: {")
        result.first.append(time.monotonic() - start)
        await reader.readuntil(b"[DONE]")
        result.whole.append(time.monotonic() - start)
        writer.close()
    except (OSError, asyncio.IncompleteReadError) as error:
        result.failed.append(repr(error)[:100])


def health(url: str) -> float:
    """Seconds of one health check. Raises OSError after 20 s."""
    parts = urlsplit(url)
    start = time.monotonic()
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=20)
    connection.request("GET", "/healthz")
    connection.getresponse().read()
    connection.close()
    return time.monotonic() - start


async def watch(name: str, url: str, result: Result) -> None:
    """A health check each second, until cancelled."""
    times = result.health.setdefault(name, [])
    while True:
        times.append(await asyncio.to_thread(health, url))
        await asyncio.sleep(1)


async def measure(url: str, streams: int, watched: dict[str, str]) -> Result:
    """All streams to one URL."""
    result = Result()
    watches = [asyncio.create_task(watch(name, at, result)) for name, at in watched.items()]
    delays = (RAMP * number / streams for number in range(streams))
    await asyncio.gather(*(stream(url, delay, result) for delay in delays))
    for task in watches:
        task.cancel()
    return result


def main() -> int:
    """Print both results. Exit status 1 if a stream failed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--streams", type=int, default=1200)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, NativeService(Path(folder)) as service:
        proxy = service.start_proxy(service.start_gateway())
        watched = {name: service.urls[name] for name in PROGRAMS}
        alone = asyncio.run(measure(service.urls["engine"], options.streams, {}))
        through = asyncio.run(measure(proxy, options.streams, watched))
    found: dict[str, object] = {
        "engine alone": alone.summary(),
        "through Confide": through.summary(),
    }
    if alone.whole and through.whole:
        found["ratio of the longest stream"] = round(max(through.whole) / max(alone.whole), 2)
    if options.json:
        print(json.dumps(found))
    else:
        for name, value in found.items():
            print(f"{name}: {value}")
    return 1 if alone.failed or through.failed else 0


if __name__ == "__main__":
    sys.exit(main())
