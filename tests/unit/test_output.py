"""Only the output modules write to a terminal, so a peer's words are escaped in one place."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
OUTPUT = {"py/confide/encoding/console.py", "measure/output.py", "py/confide/client/screen.py"}
# These print what this repository wrote itself: a schema, or numbers that rewrite their own line.
OWN_WORDS = {
    "py/confide/host/manifest_schema.py": {"sys.stdout.write"},
    "measure/report/__main__.py": {"sys.stdout.write"},
    "measure/commands/common.py": {
        "sys.stdout.buffer.write",
        "sys.stdout.buffer.flush",
    },  # a file that a person asked for
    "py/confide/host/model/progress.py": {"sys.stderr"},
    # These make records or pass them on, and print none: `net.server` sets a formatter.
    "py/confide/net/server.py": {"gunicorn.glogging"},
    "py/confide/guest/worker/engine/server.py": {"logging"},
}
STREAM_USES = {"sys.stdout.isatty", "sys.stderr.isatty", "sys.stdout.flush", "sys.stdout.fileno"}
STREAMS = ("sys.stdout", "sys.stderr", "sys.__std")
FORBIDDEN_IMPORTS = {"logging", "traceback", "rich.console", "gunicorn.glogging"}
TYPES_ALONE = {"rich.console.Group", "rich.console.RenderableType"}
FILES = sorted(
    path for folder in ("py/confide", "measure") for path in (ROOT / folder).rglob("*.py")
)


def ways_to_a_terminal(source: str) -> set[str]:
    """What in this source writes to a terminal, or could."""
    return {*_ways(ast.parse(source))}


def _ways(node: ast.AST) -> Iterator[str]:
    if isinstance(node, ast.Attribute) and ast.unparse(node).startswith(STREAMS):
        yield ast.unparse(node)
        return
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names if alias.name in FORBIDDEN_IMPORTS)
    elif isinstance(node, ast.ImportFrom):
        names = {f"{node.module}.{alias.name}" for alias in node.names}
        if node.module in FORBIDDEN_IMPORTS and names - TYPES_ALONE:
            yield node.module
        yield from (name for name in names if name.startswith(STREAMS))
    elif isinstance(node, ast.Name) and node.id == "print":
        yield "print"
    elif isinstance(node, ast.Call) and ast.unparse(node.func) in ("sys.exit", "SystemExit"):
        # A text in place of the status is printed.
        status = node.args[0] if node.args else ast.Constant(0)
        number = isinstance(status, ast.Constant) and isinstance(status.value, int)
        if isinstance(status, (ast.Constant, ast.JoinedStr)) and not number:
            yield "sys.exit"
    for child in ast.iter_child_nodes(node):
        yield from _ways(child)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_nothing_else_writes_to_a_terminal(path: Path) -> None:
    name = str(path.relative_to(ROOT))
    if name in OUTPUT:
        return
    rest = ways_to_a_terminal(path.read_text()) - STREAM_USES - OWN_WORDS.get(name, set())
    assert not rest, f"{name} writes by itself: use show, say or print_json"


@pytest.mark.parametrize(
    "source",
    [
        "print('a')",
        "import sys\nsys.stderr.write('a')",
        "import sys\nwrite = sys.stdout.buffer.write",
        "from sys import stdout",
        "import sys\nsys.exit(f'confide: {error}')",
        "raise SystemExit('a')",
        "import logging",
        "import traceback\ntraceback.print_exc()",
        "from rich.console import Console",
        "put = print",
        "import sys\nto = sys.stdout",
        "import sys\nto = sys.__stderr__",
    ],
)
def test_each_way_is_found(source: str) -> None:
    assert ways_to_a_terminal(source) - STREAM_USES


@pytest.mark.parametrize(
    "source",
    [
        "import sys\nsys.exit(1)",
        "import sys\nsys.exit(main())",
        "from rich.console import Group, RenderableType",
        "from confide.encoding.console import say\nsay('a')",
    ],
)
def test_what_prints_nothing_is_not_found(source: str) -> None:
    assert not ways_to_a_terminal(source)
