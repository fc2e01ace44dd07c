"""What a person sees of a verification: a line for each party on one screen."""

from __future__ import annotations

from dataclasses import replace

from rich.console import Console

from confide.client.service_verdict import ServiceVerdict
from confide.client.verdict_table import parties_table
from confide.verify.verdict import Check, Verdict

COLUMNS, LINES = 80, 24
GOOD = Check("PCR 4", "00" * 32, "00" * 32, True, "manifest")
COUNT = Check("workers", "0 or more", "2 of the 3 that the gateway showed", True, "coordinator")
BAD = Check("workers", "11" * 32, "22" * 32, False, "attested coordinator")


def rendered(verdict: ServiceVerdict) -> list[str]:
    console = Console(width=COLUMNS, color_system=None)
    with console.capture() as captured:
        console.print(parties_table(verdict, title="Verification of http://g"))
    return captured.get().splitlines()


def test_a_line_for_each_party() -> None:
    verdict = ServiceVerdict(Verdict((GOOD,) * 31), Verdict((COUNT,)), Verdict((COUNT,)))
    lines = rendered(verdict)
    assert len(lines) == 7
    assert max(map(len, lines)) <= COLUMNS
    by_party = {line.split()[0]: line for line in lines[3:]}
    assert by_party["coordinator"].split()[-2:] == ["31/31", "verified"]
    for party in ("secret", "workers"):
        assert "2 of the 3 that the gateway showed" in by_party[party]
        assert by_party[party].split()[-2:] == ["1/1", "verified"]
    assert by_party["gateway"].split()[-1] == "untrusted"


def test_a_check_that_failed_is_shown_in_full() -> None:
    verdict = ServiceVerdict(Verdict((GOOD,) * 31), Verdict((COUNT,)), Verdict((BAD,)))
    lines = rendered(verdict)
    assert len(lines) <= LINES
    text = "\n".join(lines)
    assert "0/1" in text and "FAILED" in text
    assert "11" * 7 in text and "22" * 7 in text and "FAIL" in text
    assert "PCR 4" not in text


def test_what_was_not_reached_is_not_verified() -> None:
    lines = rendered(ServiceVerdict(Verdict((BAD,))))
    by_party = {line.split()[0]: line for line in lines[3:7]}
    assert "0/1" in by_party["coordinator"] and "FAILED" in by_party["coordinator"]
    for party in ("secret", "workers"):
        assert "not reached" in by_party[party]
    assert "verified\n" not in "\n".join(line.rstrip() for line in lines)


def test_values_of_a_peer_are_no_markup() -> None:
    hostile = replace(BAD, seen="[bold green]all is well[/]")
    text = "\n".join(rendered(ServiceVerdict(Verdict((hostile,)))))
    assert "[bold" in text


def test_values_of_a_peer_move_no_cursor() -> None:
    hostile = replace(BAD, seen="\x1b[2K\x1b[1Gverified\r\n\x9b1A")
    text = "\n".join(rendered(ServiceVerdict(Verdict((hostile,)))))
    assert all(c == "\n" or c.isprintable() for c in text)
    assert "x1b" in text
