"""How long one verdict on SEV-SNP evidence takes: report, chain and revocation list, every check.

AMD's revocation list comes with no published report, so evidence, chain and list are SIMULATED,
with keys of the same kinds and sizes. Nothing is cached between verdicts: each reads and checks
every certificate, and the list, again.

    python tests/bench/bench_verify_snp.py [--json]
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
from unittest import mock

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "py"), str(ROOT)]

from confide.encoding.messages import from_map  # noqa: E402
from confide.protocol.policy.snp import SnpPolicy, SnpReference  # noqa: E402
from confide.vendors.amd.report import Product  # noqa: E402
from confide.verify.machine import SnpEvidence  # noqa: E402
from confide.verify.snp import verify_snp  # noqa: E402
from confide.verify.snp.collateral import SnpCollateral  # noqa: E402
from confide.verify.verdict import Verdict  # noqa: E402
from tests.support.simulated_amd import (  # noqa: E402
    BINDING,
    LAUNCH_DIGEST,
    NOW,
    SimulatedChip,
    make_crl,
    revoked_entry,
    root,
    root_of,
)
from tests.support.snp_policy import policy_json  # noqa: E402

REPORT_DATA = bytes(range(64))
TARGET_MS = 5.0
WARM_UP = 20
ROUNDS = 200


def median_ms(verify: Callable[[], Verdict]) -> float:
    """Of verdicts that all passed."""
    for _ in range(WARM_UP):
        verify().require()
    times = []
    for _ in range(ROUNDS):
        start = time.perf_counter()
        verify().require()
        times.append(time.perf_counter() - start)
    return statistics.median(times) * 1000


def simulated(product: Product) -> Callable[[], Verdict]:
    hardware_id = b"\1" * (8 if product is Product.TURIN else 64)
    chip = SimulatedChip(product=product, version=5, hardware_id=hardware_id)
    evidence = chip.evidence(REPORT_DATA)
    crl = make_crl([revoked_entry(serial) for serial in range(100, 110)], issuer=root(product))
    policy = from_map(
        SnpPolicy, policy_json(chip_ids=[hardware_id.ljust(64, b"\0").hex()]), "policy"
    )
    return lambda: verify_snp(
        SnpEvidence.parse(evidence),
        report_data=REPORT_DATA,
        references=[SnpReference("simulated", LAUNCH_DIGEST)],
        policy=policy,
        binding=BINDING,
        collateral=SnpCollateral(crl=crl),
        now=NOW,
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args()
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    roots = {product: root_of(product) for product in Product}
    with mock.patch("confide.verify.snp.chain.ROOTS", roots):
        results = {
            f"{product.value} (simulated), chain and list": median_ms(simulated(product))
            for product in Product
        }
    passed = max(results.values()) < TARGET_MS
    if options.json:
        print(json.dumps({"median_ms": results, "target_ms": TARGET_MS, "passed": passed}))
    else:
        for name, value in results.items():
            print(f"{name:42} {value:6.2f} ms   target {TARGET_MS:.0f} ms")
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main())
