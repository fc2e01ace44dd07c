"""vLLM alone against vLLM behind the whole sealed path, and NVML on the machine's real GPUs.

For a machine with a GPU; with `--engine cpu` any machine shows that the measurement itself works.
The engine is started by the image's own command (confide.guest.worker.engine.gpu or .cpu), so what
the image has in /opt/engine must be there; proxy, gateway and encryption proxy run next to it, each
in its own process, with a SIMULATED attester. The GPU may be in any mode: this proves nothing about
confidentiality, it measures.

    fsck.erofs --extract=/opt/engine layer.img        # of nix build .#worker: the layer `engine`
    python tests/bench/bench_gpu.py --model FOLDER [--engine gpu|cpu] [--gpus 0,1] [--json]
"""

from __future__ import annotations

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from types import ModuleType
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "py"), str(ROOT)]

from confide.errors import ConfideError  # noqa: E402
from confide.guest.attest.nvidia import NvidiaGpus  # noqa: E402
from confide.guest.worker.engine import cpu, gpu  # noqa: E402
from confide.guest.worker.engine.models_file import ServedModel  # noqa: E402
from confide.net.http_client import Upstream  # noqa: E402
from tests.support.load import Client, at_once, body_of  # noqa: E402
from tests.support.native_service import NativeService  # noqa: E402
from tests.support.programs import free_port  # noqa: E402
from tests.support.simulated_machine import MODEL  # noqa: E402

ENGINES = {"cpu": cpu, "gpu": gpu}
STREAMS = 64
ROUNDS = 5
TARGET = 0.97
"""Of the throughput that vLLM has alone."""
START_SECONDS = 1800.0
_USAGE = re.compile(rb'"completion_tokens": ?(\d+)')


class EngineService(NativeService):
    """The simulated service around a real engine."""

    def __init__(self, folder: Path, engine: ModuleType, model: Path, gpus: Sequence[int]) -> None:
        super().__init__(folder)
        self._engine, self._gpus = engine, gpus
        self._model = ServedModel(MODEL, model.resolve(), bytes(32), ("chat", "completion"))

    def start_engine(self) -> str:
        """vLLM; returns its URL once it answers."""
        port = free_port()
        with (self.folder / "engine.log").open("wb") as log:
            process = subprocess.Popen(
                self._engine.command(self._model, port=port, gpus=self._gpus),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=dict(self._engine.environment(self._gpus)),
            )
        url = self.adopt("engine", process, port)
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline and process.poll() is None:
            with suppress(ConfideError):
                if Upstream(url).call("GET", "/health")[0] == 200:
                    return url
            time.sleep(0.5)
        raise TimeoutError(f"the engine did not start:\n{self.log('engine')}")


def throughput(url: str, tokens: int) -> float:
    """Output tokens a second: STREAMS streams at once, of `tokens` tokens each."""
    ends = [b""] * STREAMS

    def run(number: int) -> None:
        # Each prompt has another beginning, so that no stream is served from another one's cache.
        body = body_of(
            f"{number} {time.monotonic_ns()}: count as far as you can",
            stream=True,
            max_tokens=tokens,
            ignore_eos=True,
            temperature=0,
            stream_options={"include_usage": True},
        )

        def seen(piece: bytes) -> None:
            ends[number] = (ends[number] + piece)[-4096:]

        client = Client(url)
        client.stream(body, seen)
        client.close()

    seconds = at_once(STREAMS, run)
    for end in ends:
        counted = _USAGE.findall(end)
        if not counted or int(counted[-1]) != tokens:
            raise RuntimeError(f"a stream did not have {tokens} tokens; it ends {end[-500:]!r}")
    return STREAMS * tokens / seconds


def measure(service: NativeService, tokens: int) -> dict[str, float]:
    """Medians of both routes, measured in turns, and their ratio."""
    sealed = service.start_proxy(service.start_gateway())
    routes = {"direct": service.urls["engine"], "sealed": sealed}
    found: dict[str, list[float]] = {name: [] for name in routes}
    for url in routes.values():
        throughput(url, tokens)  # compiles, fills caches
    for _ in range(ROUNDS):
        for name, url in routes.items():
            found[name].append(throughput(url, tokens))
    medians = {name: statistics.median(values) for name, values in found.items()}
    return medians | {"ratio": medians["sealed"] / medians["direct"]}


def gpus_of_this_machine() -> dict[str, object]:
    """What the image's NVML code finds: GPUs with certificates and reports, or why it refuses them.

    Sets confidential GPUs ready, without which they do not work: needs root.
    """
    gpus = NvidiaGpus()
    found: dict[str, object] = {}
    try:
        found["memory"] = gpus.memory()
        found["devices"] = [
            f"{device.architecture} {device.uuid}, {len(device.certificates)} certificates"
            for device in gpus.devices()
        ]
        found["report_bytes"] = [len(one.report) for one in gpus.evidence(os.urandom(32))]
        gpus.set_ready()
        found["ready"] = gpus.ready()
    except ConfideError as error:
        found["refused"] = f"{error.code}: {error}"
    return found


def main() -> int:
    """Print what was found; exit 1 if the target was missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, required=True, help="folder in Hugging Face's layout")
    parser.add_argument("--engine", choices=ENGINES, default="gpu")
    parser.add_argument("--gpus", default="0", help="indexes that vLLM is spread over (default: 0)")
    parser.add_argument("--tokens", type=int, default=256, help="of each answer (default: 256)")
    parser.add_argument("--json", action="store_true", help="print JSON")
    options = parser.parse_args()
    gpus = [int(index) for index in options.gpus.split(",")] if options.engine == "gpu" else []
    result: dict[str, Any] = {"gpus": gpus_of_this_machine()}
    with tempfile.TemporaryDirectory(prefix="confide-bench-") as folder:
        service = EngineService(Path(folder), ENGINES[options.engine], options.model, gpus)
        with service:
            result |= measure(service, options.tokens)
    if options.json:
        print(json.dumps(result, indent=2))
    else:
        print(f"GPUs of this machine: {result['gpus']}")
        print(f"SIMULATED attestation, engine {options.engine}, {STREAMS} streams at once, medians")
        print(f"of {ROUNDS} rounds of {options.tokens} tokens a stream, in turns:")
        print(f"  vLLM alone        {result['direct']:10,.0f} tokens/s")
        print(f"  behind our path   {result['sealed']:10,.0f} tokens/s")
        print(f"  ratio             {result['ratio']:10.1%} (target: at least {TARGET:.0%})")
    return 0 if result["ratio"] >= TARGET else 1


if __name__ == "__main__":
    sys.exit(main())
