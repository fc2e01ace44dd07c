"""Many streams at once: when does each begin, who is refused, and is health still answered?

Runs proxy, gateway and encryption proxy natively, each in its own process, with a FAKE engine and a
SIMULATED attester. Streams of 5 events a second start evenly over 10 s: first 1,000, then 4,000,
which no two cores carry. The same 1,000 go to the engine alone first, so that what the generator
and the engine take is known. Processor time is counted per process.

    python tests/bench/bench_load.py [--streams 1000] [--offered 4000] [--json]
"""

from __future__ import annotations

import argparse
import asyncio
import http.client
import json
import os
import resource
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

EVENTS = 60
GAP = 0.2
"""Seconds between two events of a stream."""
RAMP = 10.0
"""Seconds in which the streams begin, evenly."""
PROGRAMS = ("proxy", "gateway", "worker")
COUNTED = (*PROGRAMS, "engine")
GOALS = {"first": 0.1, "first of the offered": 0.3, "refused": 1.0, "health": 0.1}
"""Seconds at most, on an idle machine of two cores."""


@dataclass
class Result:
    """Seconds."""

    first: list[float] = field(default_factory=list)
    ended: int = 0
    refused: list[float] = field(default_factory=list)
    without_retry_after: int = 0
    failed: list[str] = field(default_factory=list)
    health: dict[str, list[float]] = field(default_factory=dict)
    processor: dict[str, float] = field(default_factory=dict)

    def summary(self) -> dict[str, object]:
        """What is printed."""
        first = sorted(self.first) or [float("nan")]
        events = max(1, self.ended * EVENTS)
        return {
            "admitted": len(self.first),
            "ended": self.ended,
            "first_event_median": round(statistics.median(first), 3),
            "first_event_99_percent": round(first[int(len(first) * 0.99)], 3),
            "first_event_slowest": round(first[-1], 3),
            "refused": len(self.refused),
            "refused_without_retry_after": self.without_retry_after,
            "refused_slowest": round(max(self.refused, default=0.0), 3),
            "failed": (len(self.failed), self.failed[:3]),
            "health_slowest": {name: round(max(times), 3) for name, times in self.health.items()},
            "microseconds_of_processor_per_event": {
                name: round(seconds * 1e6 / events) for name, seconds in self.processor.items()
            },
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
        head = await reader.readuntil(b"\r\n\r\n")
        if not head.startswith(b"HTTP/1.1 200 "):
            _note_refusal(head, time.monotonic() - start, result)
        else:
            await reader.readuntil(b"data: {")
            result.first.append(time.monotonic() - start)
            await reader.readuntil(b"[DONE]")
            result.ended += 1
        writer.close()
    except (OSError, asyncio.IncompleteReadError) as error:
        result.failed.append(repr(error)[:100])


def _note_refusal(head: bytes, seconds: float, result: Result) -> None:
    if not head.startswith(b"HTTP/1.1 503 "):
        result.failed.append(head[:40].decode(errors="replace"))
        return
    result.refused.append(seconds)
    result.without_retry_after += b"\r\nretry-after:" not in head.lower()


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


def processor_seconds(pid: int) -> float:
    """User and system time of a process and its children (proc_pid_stat(5), fields 14 and 15)."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    own = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return own + sum(processor_seconds(int(child)) for child in children)


def counted(service: NativeService) -> dict[str, float]:
    """Processor seconds so far: of each program, and of this generator."""
    used = {name: processor_seconds(service.processes[name].pid) for name in COUNTED}
    own = resource.getrusage(resource.RUSAGE_SELF)
    return used | {"generator": own.ru_utime + own.ru_stime}


async def measure(url: str, streams: int, watched: dict[str, str]) -> Result:
    """All streams to one URL."""
    result = Result()
    watches = [asyncio.create_task(watch(name, at, result)) for name, at in watched.items()]
    delays = (RAMP * number / streams for number in range(streams))
    await asyncio.gather(*(stream(url, delay, result) for delay in delays))
    for task in watches:
        task.cancel()
    return result


def run(service: NativeService, url: str, streams: int, watched: dict[str, str]) -> Result:
    """`measure`, with the processor time of each process."""
    before = counted(service)
    result = asyncio.run(measure(url, streams, watched))
    after = counted(service)
    result.processor = {name: after[name] - before[name] for name in after}
    return result


def main() -> int:
    """Print all results. Exit status 1 if a goal was missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--streams", type=int, default=1000)
    parser.add_argument("--offered", type=int, default=4000)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, 65536)), hard))
    with tempfile.TemporaryDirectory() as folder, NativeService(Path(folder)) as service:
        proxy = service.start_proxy(service.start_gateway())
        watched = {name: service.urls[name] for name in PROGRAMS}
        alone = run(service, service.urls["engine"], options.streams, {})
        through = run(service, proxy, options.streams, watched)
        offered = run(service, proxy, options.offered, watched)
    found = {
        "load of this machine": os.getloadavg(),
        f"{options.streams} streams, engine alone": alone.summary(),
        f"{options.streams} streams": through.summary(),
        f"{options.offered} streams offered": offered.summary(),
    }
    if options.json:
        print(json.dumps(found))
    else:
        for name, value in found.items():
            print(name, json.dumps(value, indent=2))
    missed = (
        bool(alone.failed or through.failed or offered.failed or through.refused)
        or max(through.first) > GOALS["first"]
        or max(offered.first) > GOALS["first of the offered"]
        or max(offered.refused, default=0.0) > GOALS["refused"]
        or max(map(max, offered.health.values())) > GOALS["health"]
    )
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
