"""No change of a real quote, or of the collateral that it needs, is accepted.

No signature covers these bytes, and nothing else:
- of a quote, those after its end, which are never read;
- of an ECDSA signature, the sign of s: (r, -s) is as valid as (r, s), for the same signed bytes.
"""

from __future__ import annotations

from dataclasses import astuple
from pathlib import Path

import pytest

from confide.errors import FormatError
from confide.vendors.intel.collateral import TdxCollateral
from confide.vendors.intel.quote import Quote, TdReport
from tests.support.mutations import Parts, single_bytes, structural
from tests.support.tdx_vectors import (
    ACCEPTED,
    COLLATERAL,
    QUOTES,
    Pair,
    read_collateral,
    read_quote,
    verify_recorded,
)
from tests.support.verdicts import failed

P256_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
EACH_QUOTE = 2000
EACH_STRUCTURE = 500

each_quote = pytest.mark.parametrize("name", QUOTES)
each_accepted = pytest.mark.parametrize("pair", ACCEPTED, ids=lambda pair: pair.quote)


class Recorded:
    """A quote with collateral, and which of its checks fail as it is (none, if it is accepted)."""

    def __init__(self, vectors: Path, name: str) -> None:
        accepted = {pair.quote: pair for pair in ACCEPTED}
        pair = accepted.get(name, Pair(name, COLLATERAL[0], ACCEPTED[0].now))
        self.quote = read_quote(vectors, name)
        self.collateral = read_collateral(vectors, pair.collateral)
        self.report: TdReport = Quote.parse(self.quote).report
        self.end = len(self.quote) - Quote.parse(self.quote).trailing
        self._now = pair.now
        self.failed = self.checks(self.quote, self.collateral)

    def checks(self, quote: bytes, collateral: TdxCollateral) -> list[str]:
        """The checks that fail, of what would have to say the same as the genuine quote."""
        try:
            verdict = verify_recorded(quote, collateral, self._now, genuine=self.report)
        except FormatError:
            return ["evidence"]
        return failed(verdict)

    def is_noticed(self, quote: bytes) -> bool:
        """Whether a changed quote fails in something that the genuine one does not fail in."""
        return bool(set(self.checks(quote, self.collateral)) - set(self.failed))


@each_quote
def test_no_changed_byte_of_a_quote_is_accepted(vectors: Path, name: str) -> None:
    recorded = Recorded(vectors, name)
    for what, (quote,) in single_bytes((recorded.quote[: recorded.end],), EACH_QUOTE, seed=72):
        assert recorded.is_noticed(quote), what


@each_quote
def test_bytes_after_the_end_are_not_covered(vectors: Path, name: str) -> None:
    recorded = Recorded(vectors, name)
    for trailing in (b"", b"\0", b"\xff" * 100, recorded.quote):
        changed = recorded.quote[: recorded.end] + trailing
        assert recorded.checks(changed, recorded.collateral) == recorded.failed


@each_quote
def test_no_structural_change_of_a_quote_is_accepted(vectors: Path, name: str) -> None:
    recorded = Recorded(vectors, name)
    genuine = recorded.quote[: recorded.end]
    key = Quote.parse(genuine).attestation_key
    quotes = [read_quote(vectors, other) for other in QUOTES if other != name]
    # Two of the quotes are by one key: their PCK signed the same QE report twice, so the second
    # signature may stand for the first.
    others = [(quote,) for quote in quotes if Quote.parse(quote).attestation_key != key]
    count = 0
    for what, parts in structural((genuine,), others, 2 * EACH_STRUCTURE, seed=73):
        changed = b"".join(parts)
        if changed.startswith(genuine):
            continue  # only longer: see test_bytes_after_the_end_are_not_covered
        count += 1
        assert recorded.is_noticed(changed), what
    assert count >= EACH_STRUCTURE


@each_accepted
def test_genuine_evidence_is_accepted(vectors: Path, pair: Pair) -> None:
    assert Recorded(vectors, pair.quote).failed == []


def parts_of(collateral: TdxCollateral) -> Parts:
    info, info_signature, info_chain, identity, identity_signature, chain, *lists = astuple(
        collateral
    )
    return (info, info_signature, *info_chain, identity, identity_signature, *chain, *lists)


def collateral_of(parts: Parts) -> TdxCollateral:
    info, info_signature, leaf, root, identity, signature, leaf2, root2, root_crl, pck_crl = parts
    return TdxCollateral(
        info, info_signature, (leaf, root), identity, signature, (leaf2, root2), root_crl, pck_crl
    )


@each_accepted
def test_no_changed_byte_of_collateral_is_accepted(vectors: Path, pair: Pair) -> None:
    recorded = Recorded(vectors, pair.quote)
    for what, parts in single_bytes(parts_of(recorded.collateral), EACH_QUOTE, seed=74):
        assert recorded.checks(recorded.quote, collateral_of(parts)), what


@each_accepted
def test_no_structural_change_of_collateral_is_accepted(vectors: Path, pair: Pair) -> None:
    """Except one part that is genuine and current in the place of another of the same kind."""
    recorded = Recorded(vectors, pair.quote)
    genuine = parts_of(recorded.collateral)
    others = [
        parts_of(read_collateral(vectors, other))
        for other in COLLATERAL
        if other != pair.collateral
    ]
    count = 0
    for what, parts in structural(genuine, others, 3 * EACH_STRUCTURE, seed=75):
        if len(parts) != len(genuine):
            continue  # a part that is missing or there twice is no collateral at all
        count += 1
        if not recorded.checks(recorded.quote, collateral_of(parts)):
            (number,) = (n for n, part in enumerate(parts) if part != genuine[n])
            assert parts[number] in [other[number] for other in others], what
    assert count >= EACH_STRUCTURE


@each_accepted
def test_only_the_other_sign_of_s_is_accepted(vectors: Path, pair: Pair) -> None:
    recorded = Recorded(vectors, pair.quote)
    head = len(Quote.parse(recorded.quote).signed) + 4
    r, s = (int.from_bytes(recorded.quote[head + at : head + at + 32]) for at in (0, 32))
    for new_r, new_s, accepted in (
        (r, P256_ORDER - s, True),
        (P256_ORDER - r, s, False),
        (s, r, False),
        (r, s ^ 1, False),
    ):
        signature = new_r.to_bytes(32) + new_s.to_bytes(32)
        changed = recorded.quote[:head] + signature + recorded.quote[head + 64 :]
        assert (recorded.checks(changed, recorded.collateral) == []) == accepted
