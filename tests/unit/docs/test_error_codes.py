"""Each error code is declared once, by the room that raises it or one below, and none is unused."""

from __future__ import annotations

from collections import Counter

import pytest

from confide.errors import Code
from tests.support.error_codes import BELOW, KINDS, PAGE, RENEW, declared, page, raised, strings

TABLES = declared()
RAISED = raised()
HOME = {code: room for room, table in TABLES.items() for code in table}


def entry(code: str) -> Code:
    return TABLES[HOME[code]][code]


def test_there_is_something_to_check() -> None:
    assert len(RAISED) > 300
    assert {error.room for error in RAISED} == set(BELOW)


def test_a_code_is_declared_once() -> None:
    count = Counter(code for table in TABLES.values() for code in table)
    assert not [code for code, times in count.items() if times > 1]


def test_what_is_raised_is_declared_here_or_below() -> None:
    missing = [
        f"{error.place}: declare {error.code} in py/confide/{error.room}/codes.py"
        for error in RAISED
        if HOME.get(error.code) not in (error.room, *BELOW[error.room])
    ]
    assert not missing, "\n".join(missing)


def test_every_class_that_carries_a_code_is_declared() -> None:
    wrong = [
        f"{error.place}: {error.code} does not declare {error.kind}"
        for error in RAISED
        if error.code in HOME and KINDS[error.kind] not in entry(error.code).kinds
    ]
    assert not wrong, "\n".join(wrong)


def test_what_is_declared_is_raised_with_each_of_its_classes() -> None:
    made = {(error.code, KINDS[error.kind]) for error in RAISED}
    unused = [
        f"{room}: {code} as {kind.__name__}"
        for room, table in TABLES.items()
        for code, item in table.items()
        for kind in item.kinds
        if (code, kind) not in made
    ]
    assert not unused, "\n".join(unused)


def test_codes_in_variables_are_written_somewhere() -> None:
    assert {"gpu-cc-off", "gpu-unsupported", "gpu-service", "no-attester"} <= strings("guest")
    assert {"peer-lost", "peer-timeout", "peer-unreachable"} <= strings("net")


@pytest.mark.parametrize("room", BELOW)
def test_tables_are_sorted_and_their_sentences_end(room: str) -> None:
    table = TABLES[room]
    assert list(table) == sorted(table)
    for code, item in table.items():
        assert item.kinds, code
        assert item.sentence.endswith("."), code
        assert "|" not in item.sentence, code


def test_no_status_has_changed() -> None:
    """Statuses are part of the wire, so they are written here a second time."""
    assert {code: entry(code).status for code in HOME if entry(code).status is not None} == {
        "no-manifest": 404,
        "none-refused": 404,
        "unknown-key": 404,
        "key-exists": 409,
        "kem-key-gone": 410,
        "too-many-attestations": 429,
        "too-many-uploads": 429,
        "too-many-keys": 429,
        "unauthorized": 401,
        "rate-limited": 429,
        "answer-too-large": 502,
        "peer-lost": 502,
        "peer-unreachable": 502,
        "peer-timeout": 504,
        "bad-http": 400,
        "bad-request": 400,
        "incomplete-body": 408,
        "not-found": 404,
        "method-not-allowed": 405,
        "request-entity-too-large": 413,
    }
    assert {name: kind.status for name, kind in KINDS.items()} == {
        "ConfideError": 500,
        "FormatError": 400,
        "VerificationError": 403,
        "PolicyError": 403,
        "UnavailableError": 503,
        "ConfigError": 500,
    }


def test_the_page_is_current() -> None:
    assert PAGE.read_text() == page(), f"docs/errors.md is old: run `{RENEW}`"


def test_the_page_has_the_statuses_that_the_proxy_answers_with() -> None:
    assert "| `body-too-large` | 413 |" in page()
    assert "| `not-implemented` | 501 |" in page()
    assert "| `unknown-task` | 400 |" in page()
