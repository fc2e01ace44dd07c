"""The chain of trust as text: a line for each source, a column for each machine, then values."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from measure.picture.chain import LAYERS, UKI, Chain, Panel, Source

_NOTHING = "-"


def render(chain: Chain) -> str:
    """The table, without a newline at the end."""
    head = ["", "", *(panel.platform for panel in chain.panels)]
    shapes = [f"image {chain.image}", "bytes", *(panel.shape for panel in chain.panels)]
    rows = [head, shapes, *(_row(chain, source) for source in chain.sources)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(head))]
    lines = [_line(row, widths) for row in rows]
    lines.insert(2, _line(["-" * width for width in widths], widths))
    return "\n".join([*lines, "", *_values(chain.panels)])


def _row(chain: Chain, source: Source) -> list[str]:
    indent = "    " if source.group == UKI else "  "
    size = "" if source.size is None else str(source.size)
    if source.group == LAYERS:
        places = ["in the command line"] + [""] * (len(chain.panels) - 1)
    else:
        places = [_places(chain, source, panel) for panel in chain.panels]
    return [indent + source.title, size, *places]


def _places(chain: Chain, source: Source, panel: Panel) -> str:
    """`PCR 4, 11`: the word once, then the numbers."""
    names = [register.name for register in chain.landing(source.key, panel)]
    words = [name.rpartition(" ") for name in names]
    if len(words) > 1 and all(number.isdigit() for _, _, number in words):
        return f"{words[0][0]} {', '.join(number for _, _, number in words)}"
    return ", ".join(names) or _NOTHING


def _line(row: Sequence[str], widths: Sequence[int]) -> str:
    first, size, *rest = row
    cells = [first.ljust(widths[0]), size.rjust(widths[1])]
    cells += [cell.ljust(width) for cell, width in zip(rest, widths[2:], strict=True)]
    return "  ".join(cells).rstrip()


def _values(panels: Sequence[Panel]) -> Iterator[str]:
    for panel in panels:
        yield f"{panel.platform} {panel.shape}"
        for register in panel.registers:
            yield f"  {register.name:<13} {register.value}  {register.covers}"
