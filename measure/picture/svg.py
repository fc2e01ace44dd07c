"""The chain of trust as a picture: SVG 1.1, nothing outside the file, for light and dark.

Sources on the left, registers on the right, a curve from each source to each register that it lands
in. Text is plain SVG text in the viewer's own fonts.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from html import escape

from measure.picture.chain import IMAGE, LAYERS, MACHINE, UKI, Chain, Panel, Register, Source
from measure.report import SEV_SNP, TDX, VTPM

_WIDTH = 1280
_MARGIN, _TOP = 40, 118
_LEFT, _LEFT_WIDTH = _MARGIN, 420
_RIGHT_WIDTH = 460
_RIGHT = _WIDTH - _MARGIN - _RIGHT_WIDTH
_ROW, _GAP, _PADDING, _HEAD = 46, 8, 14, 40
_INDENT = 22
_PANEL_GAP = 24
_LINE = 18

# Hue by source: distinct in both colour schemes, and never the only way to tell: each curve and
# box has a name.
_COLOURS = {
    "command-line": ("#c2410c", "#fb923c"),
    "kernel": ("#1d4ed8", "#60a5fa"),
    "initrd": ("#0f766e", "#2dd4bf"),
    "uki": ("#7e22ce", "#c084fc"),
    "partition-table": ("#4d7c0f", "#a3e635"),
    "os-release": ("#a16207", "#facc15"),
    "other-sections": ("#78716c", "#a8a29e"),
    "firmware": ("#be123c", "#fb7185"),
    "machine": ("#475569", "#94a3b8"),
}
_COLOUR_OF = {"layer": "command-line"}  # where it is measured
_TITLES = {
    IMAGE: "The image",
    MACHINE: "The machine that starts it",
    VTPM: "vTPM",
    SEV_SNP: "AMD SEV-SNP",
    TDX: "Intel TDX",
}


@dataclass
class _Box:
    """A row: where it stands, and how many curves have left or reached it so far."""

    x: float
    y: float
    width: float
    height: float
    curves: int = 1
    used: int = field(default=0)

    def slot(self, at: float) -> tuple[float, float]:
        """The next point on the edge at `at`; curves share the edge evenly."""
        self.used += 1
        return at, self.y + self.height * self.used / (self.curves + 1)


def render(chain: Chain) -> str:
    """The picture, with a newline at the end."""
    left, sources, left_end = _left(chain)
    right, registers, right_end = _right(chain)
    height = max(left_end, right_end) + 64
    description = " ".join(_sentences(chain))
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height:.0f}" '
        f'width="{_WIDTH}" height="{height:.0f}" role="img" aria-labelledby="title description">',
        f'<title id="title">Chain of trust of image {escape(chain.image)}</title>',
        f'<desc id="description">{escape(description)}</desc>',
        f"<style>{_style()}</style>",
        f'<rect class="page" width="{_WIDTH}" height="{height:.0f}"/>',
        _text(_MARGIN, 52, f"What is measured: {chain.image}", "h1"),
        _text(
            _MARGIN, 80, "Each byte on the left changes the register it leads to. All values are "
            "computed from the files, before anything boots.", "lead",
        ),
        *left,
        *right,
        *_curves(chain, sources, registers),
        *_layer_arrows(chain, sources),
        _text(_MARGIN, height - 24, _foot(chain), "foot"),
        "</svg>",
    ]  # fmt: skip
    return "\n".join(parts) + "\n"


def _left(chain: Chain) -> tuple[list[str], dict[str, _Box], float]:
    """The cards of sources, each source's box, and where they end."""
    shapes: list[str] = []
    boxes: dict[str, _Box] = {}
    y: float = _TOP
    for card, groups in ((IMAGE, (IMAGE, UKI, LAYERS)), (MACHINE, (MACHINE,))):
        listed = [source for source in chain.sources if source.group in groups]
        if not listed:
            continue
        height = _HEAD + len(listed) * (_ROW + _GAP) - _GAP + _PADDING
        shapes.append(_card(_LEFT, y, _LEFT_WIDTH, height, _TITLES[card]))
        y += _HEAD
        for source in listed:
            indent = _INDENT if source.group == UKI else 0
            x = _LEFT + _PADDING + indent
            box = _Box(x, y, _LEFT_WIDTH - 2 * _PADDING - indent, _ROW)
            box.curves = sum(len(chain.landing(source.key, panel)) for panel in chain.panels)
            boxes[source.key] = box
            shapes += _source(source, box)
            y += _ROW + _GAP
        y += _PADDING - _GAP + _PANEL_GAP
    return shapes, boxes, y - _PANEL_GAP


def _source(source: Source, box: _Box) -> Iterator[str]:
    colour = _colour(source.key)
    yield _row(box)
    yield f'<rect class="{colour} bar" x="{box.x}" y="{box.y}" width="4" height="{_ROW}" rx="2"/>'
    yield _text(box.x + 14, box.y + 19, source.title, "name")
    yield _text(box.x + 14, box.y + 36, source.detail, "detail")
    if source.size is not None:
        yield _text(box.x + box.width - 12, box.y + 19, _size(source.size), "size")


def _right(chain: Chain) -> tuple[list[str], dict[tuple[str, str], _Box], float]:
    """The cards of registers, the box of each register that something leads to, where they end."""
    shapes: list[str] = []
    boxes: dict[tuple[str, str], _Box] = {}
    y: float = _TOP
    for panel in chain.panels:
        reached = [register for register in panel.registers if register.sources]
        fixed = [register for register in panel.registers if not register.sources]
        rows = sum(_height(register) + _GAP for register in reached)
        height = _HEAD + rows + len(_fixed(fixed)) * _LINE + _PADDING - 4
        shapes.append(_card(_RIGHT, y, _RIGHT_WIDTH, height, _TITLES[panel.platform], panel.shape))
        at = y + _HEAD
        for register in reached:
            box = _Box(_RIGHT + _PADDING, at, _RIGHT_WIDTH - 2 * _PADDING, _height(register))
            box.curves = len(register.sources)
            boxes[panel.shape, register.name] = box
            shapes += _register(register, box)
            at += box.height + _GAP
        for line in _fixed(fixed):
            at += _LINE
            shapes.append(_text(_RIGHT + _PADDING, at - 6, line, "detail"))
        y += height + _PANEL_GAP
    return shapes, boxes, y - _PANEL_GAP


def _register(register: Register, box: _Box) -> Iterator[str]:
    yield _row(box)
    yield _text(box.x + 14, box.y + 19, register.name[0].upper() + register.name[1:], "name")
    yield _text(box.x + box.width - 12, box.y + 19, f"{register.value[:16]}…", "size")
    for number, line in enumerate(_wrapped(register)):
        yield _text(box.x + 14, box.y + 36 + number * 15, line, "detail")


def _height(register: Register) -> int:
    return _ROW + 15 * (len(_wrapped(register)) - 1)


def _wrapped(register: Register) -> list[str]:
    # About as many characters of this size as fit.
    return textwrap.wrap(register.covers, 68)


def _fixed(registers: Sequence[Register]) -> list[str]:
    """What is said of registers that nothing on the left leads to."""
    zeros = [r.name for r in registers if not int(r.value, 16)]
    same = [r.name for r in registers if int(r.value, 16)]
    lines = [f"{', '.join(same)}: the same in every boot"] if same else []
    return lines + ([f"{', '.join(zeros)}: zeros, nothing may be added"] if zeros else [])


def _curves(
    chain: Chain, sources: dict[str, _Box], registers: dict[tuple[str, str], _Box]
) -> Iterator[str]:
    """From each source, in order, to the registers that it lands in."""
    for source in chain.sources:
        box = sources[source.key]
        for panel in chain.panels:
            for register in chain.landing(source.key, panel):
                start = box.slot(box.x + box.width)
                target = registers[panel.shape, register.name]
                end = target.slot(target.x)
                yield _curve(source, panel, register, start, end)


def _curve(
    source: Source,
    panel: Panel,
    register: Register,
    start: tuple[float, float],
    end: tuple[float, float],
) -> str:
    (x1, y1), (x2, y2) = start, end
    middle = (x1 + x2) / 2
    path = f"M{x1:.1f} {y1:.1f}C{middle:.1f} {y1:.1f} {middle:.1f} {y2:.1f} {x2 - 6:.1f} {y2:.1f}"
    name = escape(f"{source.title} lands in {register.name} of {panel.platform}")
    colour = _colour(source.key)
    head = f"M{x2 - 8:.1f} {y2 - 4:.1f}L{x2:.1f} {y2:.1f}L{x2 - 8:.1f} {y2 + 4:.1f}Z"
    return (
        f'<g class="link"><title>{name}</title><path class="{colour} curve" d="{path}"/>'
        f'<path class="{colour} head" d="{head}"/></g>'
    )


def _layer_arrows(chain: Chain, boxes: dict[str, _Box]) -> Iterator[str]:
    """From each layer to the command line, which has its root hash."""
    target = boxes.get("command-line")
    layers = [source for source in chain.sources if source.group == LAYERS]
    if target is None:
        return
    for number, source in enumerate(layers, start=1):
        box = boxes[source.key]
        x, start = box.x, box.y + box.height / 2
        end = target.y + target.height * number / (len(layers) + 1)
        bend = _LEFT - 6 - 8 * number
        path = (
            f"M{x:.1f} {start:.1f}C{bend:.1f} {start:.1f} {bend:.1f} {end:.1f} "
            f"{target.x - 6:.1f} {end:.1f}"
        )
        head = f"M{target.x - 8:.1f} {end - 4:.1f}L{target.x:.1f} {end:.1f}l-8 4Z"
        name = escape(f"The root hash of {source.title.lower()} is on the command line")
        yield (
            f'<g class="link"><title>{name}</title><path class="c-command-line curve dashed" '
            f'd="{path}"/><path class="c-command-line head" d="{head}"/></g>'
        )


def _sentences(chain: Chain) -> Iterator[str]:
    for panel in chain.panels:
        for register in panel.registers:
            names = [s.title for s in chain.sources if s.key in register.sources]
            if names:
                yield f"{panel.platform} {panel.shape}, {register.name}: {', '.join(names)}."


def _row(box: _Box) -> str:
    place = f'x="{box.x:g}" y="{box.y:g}" width="{box.width:g}" height="{box.height:g}"'
    return f'<rect class="row" {place} rx="6"/>'


def _card(x: float, y: float, width: float, height: float, title: str, note: str = "") -> str:
    card = f'<rect class="card" x="{x}" y="{y}" width="{width}" height="{height}" rx="10"/>'
    head = _text(x + _PADDING, y + 26, title, "h2")
    return card + head + (_text(x + width - _PADDING, y + 26, note, "shape") if note else "")


def _text(x: float, y: float, text: str, kind: str) -> str:
    return f'<text class="{kind}" x="{x:g}" y="{y:g}">{escape(text)}</text>'


def _foot(chain: Chain) -> str:
    machines = ", ".join(f"{panel.platform} on {panel.shape}" for panel in chain.panels)
    return f"Machines shown: {machines}. Dashed: a layer is measured by its root hash."


def _colour(key: str) -> str:
    kind = key.split(" ", 1)[0]
    name = _COLOUR_OF.get(kind, kind)
    return f"c-{name if name in _COLOURS else 'machine'}"


def _size(size: int) -> str:
    for unit, factor in (("MiB", 1 << 20), ("KiB", 1 << 10)):
        if size >= factor:
            return f"{size / factor:.1f} {unit}"
    return f"{size} bytes"


def _style() -> str:
    sans = "ui-sans-serif,system-ui,'Segoe UI',Roboto,'Helvetica Neue',Arial,sans-serif"
    mono = "ui-monospace,'SF Mono',Menlo,Consolas,'DejaVu Sans Mono',monospace"
    rules = [
        f"text{{font-family:{sans}}}",
        ".h1{font-size:26px;font-weight:700}.lead{font-size:14px}",
        ".h2{font-size:15px;font-weight:650}.name{font-size:13.5px;font-weight:600}",
        ".detail{font-size:11.5px}.foot{font-size:12px}",
        f".size,.shape{{font-size:11.5px;font-family:{mono};text-anchor:end}}",
        ".card,.row{stroke-width:1}.curve{fill:none;stroke-width:2.2;opacity:.8}",
        ".dashed{stroke-dasharray:5 4}.bar,.head{stroke:none}",
        ".link:hover .curve{opacity:1;stroke-width:4}",
        _scheme(0, "#f8fafc", "#ffffff", "#f1f5f9", "#d5dde7", "#0f172a", "#526074"),
        "@media (prefers-color-scheme:dark){",
        _scheme(1, "#0b1120", "#131c2e", "#1c2740", "#31405c", "#e8edf5", "#a3b1c6"),
        "}",
    ]
    return "".join(rules)


def _scheme(which: int, page: str, card: str, row: str, line: str, ink: str, quiet: str) -> str:
    colours = "".join(
        f".c-{name}.curve{{stroke:{pair[which]}}}.c-{name}.bar,.c-{name}.head{{fill:{pair[which]}}}"
        for name, pair in _COLOURS.items()
    )
    return (
        f".page{{fill:{page}}}.card{{fill:{card};stroke:{line}}}.row{{fill:{row};stroke:{line}}}"
        f".h1,.h2,.name{{fill:{ink}}}.lead,.detail,.foot,.size,.shape{{fill:{quiet}}}{colours}"
    )
