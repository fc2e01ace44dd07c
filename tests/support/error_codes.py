"""The error codes that the code raises, those that its rooms declare, and the page of both.

`python -m tests.support.error_codes` writes docs/errors.md.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

from confide import errors
from confide.client.codes import PROXY_STATUS
from confide.client.proxy.app import status_for_app
from confide.errors import Code, ConfideError

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs/errors.md"
RENEW = "PYTHONPATH=py:. python -m tests.support.error_codes"

BELOW: dict[str, tuple[str, ...]] = {"encoding": ()}
"""Each room, from the lowest, and the rooms below it."""
for _room in ("vendors", "protocol", "verify", "net", "guest"):
    BELOW[_room] = tuple(BELOW)
BELOW["client"] = BELOW["host"] = BELOW["guest"]
BELOW["commands"] = tuple(BELOW)

KINDS = {
    name: kind
    for name, kind in vars(errors).items()
    if isinstance(kind, type) and issubclass(kind, ConfideError)
}

FIELD_ERRORS = ("measure/declare.py", "measure/kinds.py")
"""Their FieldErrors become FormatErrors of `encoding`, with the same codes."""

_PEER_CODES = frozenset({"peer-unreachable", "peer-lost", "peer-timeout"})
IN_VARIABLES: Mapping[str, tuple[str, frozenset[str]]] = {
    "py/confide/net/calls.py": ("UnavailableError", _PEER_CODES),
    "py/confide/net/http_client.py": ("UnavailableError", _PEER_CODES),
    # The names that HTTP gives its own statuses: nothing else is answered by Flask here.
    "py/confide/net/server.py": (
        "ConfideError",
        frozenset(
            {
                "bad-http",
                "bad-request",
                "internal",
                "method-not-allowed",
                "not-found",
                "request-entity-too-large",
            }
        ),
    ),
    # One code for each policy.
    "py/confide/protocol/policy/accepted.py": (
        "FormatError",
        frozenset({"bad-collateral", "bad-gpu-policy", "bad-snp-policy", "bad-tdx-policy"}),
    ),
    "py/confide/protocol/policy/gpu.py": ("FormatError", frozenset({"bad-gpu-policy"})),
    "py/confide/protocol/policy/snp.py": ("FormatError", frozenset({"bad-snp-policy"})),
    "py/confide/protocol/policy/tdx.py": ("FormatError", frozenset({"bad-tdx-policy"})),
    "py/confide/guest/attest/local.py": (
        "UnavailableError",
        frozenset({"gpu-service", "no-attester"}),
    ),
    "py/confide/guest/attest/nvidia.py": (
        "PolicyError",
        frozenset(
            {
                "gpu-cc-off",
                "gpu-devtools-on",
                "gpu-not-production",
                "gpu-protected-pcie",
                "gpu-unsupported",
            }
        ),
    ),
}
"""For files whose code is in a variable: the error class, and all values of the variable."""


@dataclass(frozen=True)
class Raised:
    """One place that makes an error. `kind` names its class among those of confide.errors."""

    place: str
    room: str
    kind: str
    code: str


def declared() -> dict[str, dict[str, Code]]:
    """The table of each room."""
    return {room: import_module(f"confide.{room}.codes").CODES for room in BELOW}


def raised() -> list[Raised]:
    """Every error that product code makes. Errors that only pass on a code are left out."""
    files = [*ROOT.joinpath("py/confide").rglob("*.py"), *map(ROOT.joinpath, FIELD_ERRORS)]
    trees = {str(path.relative_to(ROOT)): ast.parse(path.read_text()) for path in sorted(files)}
    kinds = _kinds(trees)
    return [found for path, tree in trees.items() for found in _raised_in(path, tree, kinds)]


def _kinds(trees: Mapping[str, ast.Module]) -> dict[str, str]:
    """Each error class to the one of confide.errors that it is derived from."""
    kinds = {name: name for name in KINDS} | {"FieldError": "FormatError"}
    classes = [n for tree in trees.values() for n in ast.walk(tree) if isinstance(n, ast.ClassDef)]
    for _ in classes:  # a class may come before its base
        for each in classes:
            for base in each.bases:
                if isinstance(base, ast.Name) and base.id in kinds:
                    kinds.setdefault(each.name, kinds[base.id])
    return kinds


def _raised_in(path: str, tree: ast.Module, kinds: Mapping[str, str]) -> Iterator[Raised]:
    room = "encoding" if path in FIELD_ERRORS else path.split("/")[2]
    calls = [(node, _name(node)) for node in ast.walk(tree) if isinstance(node, ast.Call)]
    for each in ast.walk(tree):
        if isinstance(each, ast.ClassDef) and each.name in kinds and each.name not in KINDS:
            # `super().__init__(code, ...)` of an error class of its own.
            inner = [node for node in ast.walk(each) if isinstance(node, ast.Call)]
            calls = [(node, each.name if node in inner else name) for node, name in calls]
    own_arguments = {"TpmRefusedError", "GatewayRefusal"}  # made without a code
    for node, name in calls:
        is_super = ast.unparse(node.func) == "super().__init__"
        if name not in kinds or (name in own_arguments and not is_super):
            continue
        for code in _codes(node.args[0], path, kinds[name]):
            yield Raised(f"{path}:{node.lineno}", room, kinds[name], code)


def _name(call: ast.Call) -> str:
    return call.func.id if isinstance(call.func, ast.Name) else ""


def _codes(argument: ast.expr, path: str, kind: str) -> Iterator[str]:
    match argument:
        case ast.Constant(value=str(code)):
            yield code
        case ast.IfExp(body=body, orelse=orelse):
            yield from _codes(body, path, kind)
            yield from _codes(orelse, path, kind)
        case ast.Attribute(value=ast.Name(id="error"), attr="code"):
            pass  # another error's code, passed on
        case _:
            known, codes = IN_VARIABLES.get(path, ("", frozenset()))
            if known != kind:
                raise AssertionError(
                    f"{path}:{argument.lineno}: list the codes of this variable in IN_VARIABLES"
                )
            yield from codes


def strings(room: str) -> set[str]:
    """Every string constant of a room's code, its table left out."""
    folder = ROOT / "py/confide" / room
    files = [path for path in folder.rglob("*.py") if path != folder / "codes.py"]
    nodes = (node for path in files for node in ast.walk(ast.parse(path.read_text())))
    return {n.value for n in nodes if isinstance(n, ast.Constant) and isinstance(n.value, str)}


def page() -> str:
    """docs/errors.md."""
    kinds = "\n".join(
        f"| {name} | {_kind_status(kind)} | {(kind.__doc__ or '').splitlines()[0]} |"
        for name, kind in KINDS.items()
        if kind is not ConfideError
    )
    proxy = ", ".join(f"`{code}` {status}" for code, status in sorted(PROXY_STATUS.items()))
    rooms = "\n".join(_room_section(room, table) for room, table in declared().items())
    return _PAGE.format(renew=RENEW, kinds=kinds, proxy=proxy, rooms=rooms)


def _room_section(room: str, table: Mapping[str, Code]) -> str:
    rows = "\n".join(
        f"| `{code}` | {status_on_page(room, code, entry)} | {entry.sentence} |"
        for code, entry in table.items()
    )
    package = import_module(f"confide.{room}.codes").__doc__ or ""
    title = re.sub(r"^Error codes of |\.$", "", package.strip())
    title = f"{title[0].upper()}{title[1:]}"
    head = f"## {title} (`py/confide/{room}`)"
    return f"{head}\n\n| code | HTTP status | what it means, what to do |\n|---|---|---|\n{rows}\n"


def _kind_status(kind: type[ConfideError]) -> str:
    return "none: the program ends" if kind is errors.ConfigError else str(kind.status)


def status_on_page(room: str, code: str, entry: Code) -> str:
    """The HTTP statuses that the page names for a code; the client's are those of the proxy."""
    if entry.status is not None:
        return str(entry.status)
    made = [kind(code, "") for kind in entry.kinds if kind is not errors.ConfigError]
    proxy = room == "client"
    statuses = {str(status_for_app(error) if proxy else error.status) for error in made}
    return " or ".join(sorted(statuses)) or "none"


_PAGE = """\
# Error codes

This page is generated: `{renew}` writes it from the `codes.py` of each room.

Every error has a code, a message, what was expected, what was seen and what to do next. A program
should look at the code: codes are stable, sentences are not. Over HTTP an error is
`{{"error": {{"code": ..., "message": ..., "expected": ..., "seen": ..., "next": ...}}}}`.

The class of an error says who has to act. It also decides the HTTP status, unless the code has its
own:

| class | HTTP status | meaning |
|---|---|---|
{kinds}

The proxy on the client's machine answers apps with OpenAI's form of an error and with statuses of
its own: 400 for a request that is malformed or not allowed, 502 for an answer that is missing or
not authentic, the gateway's own status when the gateway refuses, and for some codes:
{proxy}.

{rooms}"""


if __name__ == "__main__":
    PAGE.write_text(page())
