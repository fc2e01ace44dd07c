"""Whatever is sent, there is a verdict; and it does not pass. The good parts are SIMULATED."""

from __future__ import annotations

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from confide.protocol.evidence import Evidence
from confide.protocol.policy.snp import SnpReference
from confide.verify.snp.collateral import SnpCollateral
from tests.support.judged import judge_snp
from tests.support.simulated_amd import BINDING, LAUNCH_DIGEST, SimulatedChip, make_crl
from tests.support.snp_policy import REPORT_DATA, policy
from tests.support.verdicts import Verify

GOOD = SimulatedChip().evidence(REPORT_DATA)
PARTS = (GOOD.report, *GOOD.endorsements, make_crl())

changes = st.lists(
    st.tuples(st.integers(0, 4), st.integers(0, 10_000), st.binary(min_size=1, max_size=40)),
    min_size=1,
    max_size=4,
)


@settings(max_examples=300, deadline=None)
@given(
    st.binary(max_size=1300),
    st.lists(st.binary(max_size=100), max_size=5),
    st.none() | st.binary(max_size=100),
    st.integers(),
)
def test_any_bytes(report: bytes, chain: list[bytes], crl: bytes | None, now: int) -> None:
    verdict = judge_snp(
        Evidence("sev-snp", report, tuple(chain), b""),
        report_data=REPORT_DATA,
        references=[SnpReference("any", LAUNCH_DIGEST)],
        policy=policy(),
        binding=BINDING,
        collateral=SnpCollateral(crl=crl),
        now=now,
    )
    assert verdict.checks and not verdict.passed


@settings(
    max_examples=500, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(changed=changes)
def test_any_change(verify: Verify, changed: list[tuple[int, int, bytes]]) -> None:
    parts = [bytearray(part) for part in PARTS]
    for number, at, value in changed:
        part = parts[number]
        at %= len(part)
        part[at : at + len(value)] = value[: len(part) - at]
    report, leaf, middle, top, crl = map(bytes, parts)
    verdict = verify(
        Evidence("sev-snp", report, (leaf, middle, top), b""), collateral=SnpCollateral(crl=crl)
    )
    assert verdict.passed == (parts == list(PARTS))
