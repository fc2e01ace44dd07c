"""Verdicts fail closed."""

from __future__ import annotations

import pytest

from confide.errors import VerificationError
from confide.verify.verdict import Check, Verdict, check_equal

GOOD = Check("pcr-11", "aa", "aa", True, "manifest")
BAD = Check("pcr-12", "bb", "cc", False, "manifest")


def test_all_passed() -> None:
    verdict = Verdict((GOOD, GOOD))
    assert verdict.passed
    assert verdict.first_failed is None
    verdict.require()
    assert verdict.to_dict() == {"passed": True, "checks": [GOOD.to_dict()] * 2}


def test_names_the_first_that_failed() -> None:
    other = Check("pcr-14", "dd", "ee", False, "manifest")
    verdict = Verdict((GOOD, BAD)) + Verdict((other, GOOD))
    assert not verdict.passed
    with pytest.raises(VerificationError) as error:
        verdict.require()
    assert "pcr-12" in str(error.value)
    assert "pcr-14" not in str(error.value)
    assert (error.value.expected, error.value.seen) == ("bb", "cc")
    assert verdict.to_dict()["passed"] is False


def test_no_checks_is_no_pass() -> None:
    assert not Verdict(()).passed
    with pytest.raises(VerificationError):
        Verdict(()).require()


def test_check_equal() -> None:
    assert check_equal("n", b"\xaa", b"\xaa", "m") == Check("n", "aa", "aa", True, "m")
    assert check_equal("n", "x", "x", "m").passed
    for expected, seen in ((b"\xaa", b"\xab"), ("aa", b"\xaa"), (b"", b""), ("", "")):
        assert not check_equal("n", expected, seen, "m").passed
