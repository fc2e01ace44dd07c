"""Text on a screen has styles, and none of its own making."""

from __future__ import annotations

from rich.table import Table
from rich.text import Text

from confide.client.screen import Screen

HOSTILE = "\x1b[2K\x9b1A\u202e\u05d0verified\x7f\t\x00"


def test_nothing_gets_around_it() -> None:
    """Not as markup, as text, in a table, in its title, nor in a column's head."""
    table = Table(HOSTILE, title=HOSTILE)
    table.add_row(HOSTILE)
    table.add_row(Text(HOSTILE))
    screen = Screen(width=400, color_system=None, force_terminal=True)
    with screen.capture() as captured:
        screen.print(HOSTILE)
        screen.print(HOSTILE, markup=False, highlight=False)
        screen.print(Text(HOSTILE), table)
        screen.say(f"{HOSTILE}\nverified [bold]x:boom:")
    text = captured.get()
    assert all(c == "\n" or c.isprintable() for c in text)
    assert text.count("\\x1b[2K") == 8
    assert text.splitlines()[-1].endswith("\\nverified [bold]x:boom:")


def test_styles_are_its_own() -> None:
    screen = Screen(width=80, color_system="standard", force_terminal=True)
    with screen.capture() as captured:
        screen.print("[bold red]NOT verified[/bold red]")
    assert captured.get() == "\x1b[1;31mNOT verified\x1b[0m\n"
