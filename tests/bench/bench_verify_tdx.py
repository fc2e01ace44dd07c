"""How long one verdict on a TDX quote takes, beside dcap-qvl (Rust) on the same quote in one run.

Real quotes with Intel's full collateral. Both read quote and collateral anew for each verdict, and
both check every signature again: nothing is cached between verdicts. The two take turns, and what
counts is processor time: both use one thread and no I/O, and on a busy machine the clock says more
about its other work.

    python tests/bench/bench_verify_tdx.py [--json]
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "py"), str(ROOT)]

import dcap_qvl  # noqa: E402

from confide.protocol.evidence import Evidence  # noqa: E402
from confide.vendors.intel.quote import Quote  # noqa: E402
from confide.verify.machine import TdxEvidence  # noqa: E402
from confide.verify.tdx import verify_quote  # noqa: E402
from tests.support import vectors as recorded  # noqa: E402
from tests.support.tdx_vectors import (  # noqa: E402
    ACCEPTED,
    Pair,
    binding_of,
    policy_of,
    read_collateral,
    read_quote,
    reference_of,
)

TARGET = 3.0
WARM_UP = 50
ROUNDS = 500


def milliseconds(verify: Callable[[], object]) -> float:
    start = time.thread_time()
    verify()
    return (time.thread_time() - start) * 1000


def compare(vectors: Path, pair: Pair) -> dict[str, float]:
    """Median milliseconds of processor time of each, and how many times longer ours takes."""
    data = read_quote(vectors, pair.quote)
    collateral = read_collateral(vectors, pair.collateral)
    text = (vectors / pair.collateral).read_text()
    report = Quote.parse(data).report
    policy, references = policy_of(report), [reference_of(report)]

    def ours() -> None:
        verify_quote(
            TdxEvidence.parse(Evidence("tdx", data, (), b"")),
            report_data=report.report_data,
            references=references,
            policy=policy,
            binding=binding_of(report),
            collateral=collateral,
            now=pair.now,
        ).require()

    def theirs() -> None:
        dcap_qvl.verify(data, dcap_qvl.QuoteCollateralV3.from_json(text), pair.now)

    times = [(milliseconds(ours), milliseconds(theirs)) for _ in range(WARM_UP + ROUNDS)][WARM_UP:]
    confide, peer = (statistics.median(column) for column in zip(*times, strict=True))
    return {"confide_ms": confide, "dcap_qvl_ms": peer, "times": confide / peer}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args()
    vectors = recorded.folder()
    results = {pair.quote: compare(vectors, pair) for pair in ACCEPTED}
    passed = all(result["times"] <= TARGET for result in results.values())
    if options.json:
        print(json.dumps({"quotes": results, "target_times": TARGET, "passed": passed}))
    else:
        for name, result in results.items():
            print(
                f"{name:34} {result['confide_ms']:6.2f} ms   dcap-qvl {result['dcap_qvl_ms']:6.2f} "
                f"ms   {result['times']:.2f} times (target {TARGET:.0f})"
            )
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main())
