"""What a person sees of a verification: a line for each party on one screen."""

from __future__ import annotations

from dataclasses import replace

from rich.console import Console

from confide.client.service_verdict import ServiceVerdict
from confide.client.verdict_table import parties_table
from confide.verify.verdict import Check, Verdict

COLUMNS, LINES = 80, 24
GOOD = Check("PCR 4", "00" * 32, "00" * 32, True, "manifest")
BAD = Check("key exchange key", "11" * 32, "22" * 32, False, "secret service's certificate")


def rendered(verdict: ServiceVerdict, *workers: str) -> list[str]:
    console = Console(width=COLUMNS, color_system=None)
    with console.capture() as captured:
        console.print(parties_table(verdict, workers=workers, title="Verification of http://g"))
    return captured.get().splitlines()


def test_a_line_for_each_party() -> None:
    verdict = ServiceVerdict(Verdict((GOOD,) * 31), Verdict((GOOD,) * 3))
    lines = rendered(verdict, "worker-cpu", "worker-gpu")
    assert len(lines) == 8
    assert max(map(len, lines)) <= COLUMNS
    by_party = {line.split()[0]: line.split() for line in lines[3:]}
    assert by_party["coordinator"][-2:] == ["31/31", "verified"]
    assert by_party["secret"][-2:] == ["3/3", "verified"]
    assert by_party["worker-cpu"][-1] == by_party["worker-gpu"][-1] == "indirect"
    assert by_party["gateway"][-1] == "untrusted"


def test_a_check_that_failed_is_shown_in_full() -> None:
    verdict = ServiceVerdict(Verdict((GOOD,) * 31), Verdict((GOOD, GOOD, BAD)))
    lines = rendered(verdict, "worker-cpu")
    assert len(lines) <= LINES
    text = "\n".join(lines)
    assert "2/3" in text and "FAILED" in text and "not reached" in text
    assert "11" * 7 in text and "22" * 7 in text and "FAIL" in text
    assert "PCR 4" not in text


def test_what_was_not_reached_is_not_verified() -> None:
    lines = rendered(ServiceVerdict(Verdict((BAD,)), Verdict(())), "worker-cpu")
    by_party = {line.split()[0]: line for line in lines[3:7]}
    assert "0/1" in by_party["coordinator"] and "FAILED" in by_party["coordinator"]
    for party in ("secret", "worker-cpu"):
        assert "not reached" in by_party[party]
    assert "verified\n" not in "\n".join(line.rstrip() for line in lines)


def test_values_of_a_peer_are_no_markup() -> None:
    hostile = replace(BAD, seen="[bold green]all is well[/]")
    text = "\n".join(rendered(ServiceVerdict(Verdict((hostile,)), Verdict(()))))
    assert "[bold" in text


def test_values_of_a_peer_move_no_cursor() -> None:
    hostile = replace(BAD, seen="\x1b[2K\x1b[1Gverified\r\n\x9b1A")
    text = "\n".join(rendered(ServiceVerdict(Verdict((hostile,)), Verdict(()))))
    assert all(c == "\n" or c.isprintable() for c in text)
    assert "x1b" in text
