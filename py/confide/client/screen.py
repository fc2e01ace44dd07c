"""The terminal of a person, for tables and styles: `rich`, with all text escaped."""

from __future__ import annotations

from collections.abc import Iterable

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment

from measure.printable import printable


class Screen(Console):
    """A console that styles text, while no text can style or control the terminal.

    It escapes each piece of text behind every table, markup and style, so nothing gets around it.
    A newline in a text is a line break: who prints one line of a peer's passes it through
    `printable` first.
    """

    def render(
        self, renderable: RenderableType, options: ConsoleOptions | None = None
    ) -> Iterable[Segment]:
        """The pieces of `renderable`, escaped."""
        for segment in super().render(renderable, options):
            if segment.control:
                yield segment
            else:
                shown = "\n".join(map(printable, segment.text.split("\n")))
                yield Segment(shown, segment.style)

    def say(self, text: str) -> None:
        """Print one line of plain text."""
        self.print(printable(text), markup=False, emoji=False, highlight=False)
