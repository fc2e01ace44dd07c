"""How long one verdict on a GPU takes: report, chain, both RIMs, all revocation answers.

No revocation answers of NVIDIA's were recorded, so GPU, RIMs and answers are SIMULATED, with keys
of the same kind and files of the same size. Nothing is cached between verdicts. Beside it stands
what the elliptic curve alone costs: as many P-384 signatures as such a verdict has to check.

    python tests/bench/bench_verify_nvidia.py [--json]
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import timeit
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "py"), str(ROOT)]

from cryptography.hazmat.primitives import hashes  # noqa: E402
from cryptography.hazmat.primitives.asymmetric import ec  # noqa: E402

from tests.support.judged import judge_gpus  # noqa: E402
from tests.support.simulated_gpu import NONCE, NOW, SimulatedNvidia, policy  # noqa: E402

TARGET_MS = 60.0
ROUNDS = 100
# One report; 5 certificates above it and 4 for each of 2 RIMs; 2 RIMs; 6 answers, each with a
# responder's certificate.
SIGNATURES = 1 + 5 + 2 * 4 + 2 + 6 * 2


def gpus(count: int) -> Callable[[], object]:
    """A verdict on `count` GPUs of one kind."""
    nvidia = SimulatedNvidia()
    simulated = [nvidia.gpu(f"GPU-{number}") for number in range(count)]
    evidences = [gpu.evidence() for gpu in simulated]
    collateral = nvidia.collateral(*simulated)
    wanted = policy(minimum_count=count, maximum_count=count)

    def verify() -> None:
        judge_gpus(
            evidences,
            nonce=NONCE,
            policy=wanted,
            collateral=collateral,
            now=NOW,
            roots=nvidia.roots,
        ).require()

    return verify


def signatures() -> Callable[[], object]:
    """The bare verification of `SIGNATURES` signatures."""
    key, algorithm = ec.generate_private_key(ec.SECP384R1()), ec.ECDSA(hashes.SHA384())
    message = bytes(4096)
    signature, public = key.sign(message, algorithm), key.public_key()

    def verify() -> None:
        for _ in range(SIGNATURES):
            public.verify(signature, message, algorithm)

    return verify


def median_ms(run: Callable[[], object]) -> float:
    """Warm, in milliseconds."""
    timeit.timeit(run, number=5)
    return statistics.median(timeit.repeat(run, number=1, repeat=ROUNDS)) * 1000


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args()
    figures = {
        "one GPU, median ms": round(median_ms(gpus(1)), 2),
        "eight GPUs, median ms": round(median_ms(gpus(8)), 2),
        f"{SIGNATURES} P-384 signatures alone, median ms": round(median_ms(signatures()), 2),
        "target for one GPU, ms": TARGET_MS,
    }
    if options.json:
        print(json.dumps(figures))
    else:
        print("SIMULATED GPUs, reference values and revocation answers")
        for name, value in figures.items():
            print(f"{name:48} {value:8}")
    return int(figures["one GPU, median ms"] > TARGET_MS)


if __name__ == "__main__":
    sys.exit(main())
