"""Whatever bytes arrive as evidence and collateral: a verdict that failed, never an exception."""

from __future__ import annotations

from dataclasses import fields

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from confide.protocol.evidence import Evidence
from confide.vendors.intel.collateral import TdxCollateral
from confide.verify import roots
from confide.verify.verdict import Verdict
from tests.support.intel_certificates import NOW
from tests.support.judged import judge_tdx
from tests.support.mutations import with_field
from tests.support.simulated_intel import (
    BINDING,
    EVENT_LOG,
    POLICY,
    REFERENCE,
    REPORT_15,
    SimulatedIntel,
)
from tests.support.verdicts import failed

DAY = 86400
INTEL = SimulatedIntel()
QUOTE = INTEL.quote(REPORT_15)
COLLATERAL = INTEL.collateral()
PARTS = sorted(field.name for field in fields(TdxCollateral))
# Every part that the evidence or the collateral is made of, to be put in another's place.
GENUINE = [
    QUOTE,
    *(part for part in vars(COLLATERAL).values() if isinstance(part, bytes)),
    *INTEL.pck_chain,
    *INTEL.signing_chain,
]


@pytest.fixture(autouse=True, scope="module")
def simulated_root() -> object:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(roots, "INTEL_SGX", INTEL.pinned)
        yield


def verdict_of(
    quote: bytes = QUOTE,
    log: bytes = EVENT_LOG,
    collateral: TdxCollateral = COLLATERAL,
    now: int = NOW,
) -> Verdict:
    return judge_tdx(
        Evidence("tdx", quote, (), log),
        report_data=REPORT_15.report_data,
        references=[REFERENCE],
        policy=POLICY,
        binding=BINDING,
        collateral=collateral,
        now=now,
    )


def test_the_genuine_parts_pass() -> None:
    verdict_of().require()


def spliced(data: bytes, at: int, size: int, new: bytes) -> bytes:
    start = at % (len(data) + 1)
    return data[:start] + new + data[start + size :]


CHANGES = st.tuples(st.integers(0, 1 << 16), st.integers(0, 64), st.binary(max_size=64))


@settings(max_examples=400, deadline=None)
@given(CHANGES)
def test_spliced_quote(change: tuple[int, int, bytes]) -> None:
    quote = spliced(QUOTE, *change)
    assert verdict_of(quote).passed == quote.startswith(QUOTE)


@settings(max_examples=200, deadline=None)
@given(CHANGES)
def test_spliced_event_log(change: tuple[int, int, bytes]) -> None:
    assert set(failed(verdict_of(log=spliced(EVENT_LOG, *change)))) <= {"event log"}


@settings(max_examples=800, deadline=None)
@given(st.sampled_from(PARTS), CHANGES, st.integers(0, 1))
def test_spliced_collateral(name: str, change: tuple[int, int, bytes], which: int) -> None:
    value = getattr(COLLATERAL, name)
    if isinstance(value, tuple):
        new = list(value)
        new[which] = spliced(new[which], *change)
        altered = with_field(COLLATERAL, name, tuple(new))
    else:
        altered = with_field(COLLATERAL, name, spliced(value, *change))
    assert verdict_of(collateral=altered).passed == (altered == COLLATERAL)


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(PARTS), st.lists(st.sampled_from(GENUINE), max_size=4))
def test_genuine_parts_in_other_places(name: str, parts: list[bytes]) -> None:
    value = tuple(parts) if name.endswith("chain") else b"".join(parts[:1])
    altered = with_field(COLLATERAL, name, value)
    assert verdict_of(collateral=altered).passed == (altered == COLLATERAL)


@settings(max_examples=200, deadline=None)
@given(st.integers(-(2**70), 2**70) | st.integers(NOW - 30 * DAY, NOW + 30 * DAY))
def test_any_time(now: int) -> None:
    """From the lists' thisUpdate to the documents' nextUpdate, both included."""
    assert verdict_of(now=now).passed == (-10 * DAY <= now - NOW <= 18 * DAY)
