"""The page of routes and fields, from the table that worker and proxy follow.

`python -m tests.support.api_page` writes docs/api.md.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from confide.protocol.routes.fields import Dropped, Object, Passed, Refused, Tagged
from confide.protocol.routes.json_text import MAX_DEPTH, MAX_VALUES
from confide.protocol.routes.kinds import Kind, ListOf
from confide.protocol.routes.table import ROUTES, Route

PAGE = Path(__file__).parents[2] / "docs/api.md"
RENEW = "PYTHONPATH=py:. python -m tests.support.api_page"

Row = tuple[str, Passed | Dropped | Refused]


def rows(kind: Kind, path: str = "") -> Iterator[Row]:
    """Each field within a kind, as a path in which `*` is any item, in the table's order."""
    match kind:
        case Object(fields=fields):
            for name, known in fields.items():
                yield f"{path}/{name}", known
                if isinstance(known, Passed):
                    yield from rows(known.kind, f"{path}/{name}")
        case Tagged(tag=tag, objects=objects, refused=refused):
            for each in objects.values():
                yield from rows(each, path)
            for text, why in refused.items():
                yield f'{path}/{tag} "{text}"', Refused(why)
        case _:
            for part in kind.parts():
                yield from rows(part, f"{path}/*" if isinstance(kind, ListOf) else path)


def page() -> str:
    """docs/api.md."""
    table = "\n".join(f"| `{route.method} {route.path}` | {_of(route)} |" for route in ROUTES)
    sections = "\n".join(_section(route) for route in ROUTES if route.body)
    return _PAGE.format(
        renew=RENEW, table=table, sections=sections, values=MAX_VALUES, depth=MAX_DEPTH
    )


def _of(route: Route) -> str:
    return f"a model of task `{route.task}`; sealed" if route.body else "the models of the service"


def _section(route: Route) -> str:
    assert route.body is not None
    # Objects that a tag tells apart have fields of one name.
    kinds: dict[str, dict[str, bool]] = {}
    passed, dropped, refused = {}, {}, {}
    for path, known in rows(route.body):
        match known:
            case Passed(kind, required):
                kinds.setdefault(path, {})[str(kind)] = required
                needed = ", required" if any(kinds[path].values()) else ""
                passed[path] = " or ".join(kinds[path]) + needed
            case Dropped(kind):
                dropped[path] = str(kind)
            case Refused(why):
                refused[path] = why
    return "\n".join(
        [
            f"## {route.method} {route.path}\n",
            _table("passed to the engine", "value", passed),
            _table("without effect", "value", dropped),
            _table("refused", "why", refused),
        ]
    )


def _table(title: str, what: str, fields: dict[str, str]) -> str:
    lines = "\n".join(f"| `{path}` | {text} |" for path, text in fields.items())
    return f"| {title} | {what} |\n|---|---|\n{lines}\n"


_PAGE = """\
# The API

This page is generated: `{renew}` writes it from `py/confide/protocol/routes/`.

Point any OpenAI SDK at the proxy. It has these routes:

| route | for |
|---|---|
{table}

Each field of a request is in one of three lists. A field that is **passed** goes to the engine. A
field **without effect** is in OpenAI's API, and the proxy does not send it. A field that is
**refused** is an error with the reason. A field in no list is an error, too. The error's status is
400, and its `param` names the field as a path like `/messages/0/content` (RFC 6901). It never shows
a value.

- Null counts as absent.
- Types are exact: `"true"` and `1` are not true, `1.0` is not a whole number.
- No object has a name twice, numbers are finite, and a text holds no lone surrogate.
- A body has at most {values} opening brackets and commas outside of texts. It nests at most {depth}
  levels deep.

In the tables, `*` stands for each item of a list. The client reads a request by this table before
it sends it. The worker reads it again and makes a new one of what is passed. The engine gets
nothing else.

- The worker puts a `cache_salt` of its own in place of the client's
  ([threat model](threat-model.md)).
- A stream without `include_usage` has no usage, also with `continuous_usage_stats`.
- An engine may refuse what the table passes: a value that does not fit the model, or one that only
  the other engine knows, like some values of `reasoning_effort`.

{sections}"""


if __name__ == "__main__":
    PAGE.write_text(page())
