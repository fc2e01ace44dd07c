"""JSON Schemas and regular expressions, from which the engine makes automata.

A short text can stand for a huge automaton: `(a{1000}){1000}`, or schemas that refer to each other
in a circle. So sizes are bounded as they are after repetition, and references have to lead to a
part of the same schema, and not back to themselves without consuming anything.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

from confide.protocol.routes.kinds import (
    Kind,
    RequestFieldError,
    Text,
    bad,
    require_finite,
    require_unicode,
)

MAX_REGEX = 1024
"""Characters of a regular expression."""

MAX_EXPANDED = 2048
"""Characters of a regular expression with each repetition written out."""

MAX_NODES = 4096
"""Objects, lists and values of one schema."""

MAX_CHARACTERS = 32_768
"""Characters of all names and texts of one schema, patterns with each repetition written out."""

MAX_SCHEMA_DEPTH = 32
"""How deep a schema nests."""

MAX_REFERENCES = 512
"""References within one schema."""

MAX_COUNT = 65_536
"""Items, characters or properties that a schema may ask for."""

MAX_REPEATED = 2048
"""All repetitions of a schema for answers: counts, and patterns with each repetition written out.
xgrammar 0.1.33 takes some 10 ms of processor time for each, with 32,000 tokens to choose from."""

MAX_COUNTED = 256
"""What one count adds to that at most: above some 200 it takes no longer."""

_FOR_PEOPLE = ("description", "title", "$comment")
_COUNTS = (
    "minLength", "maxLength", "minItems", "maxItems", "minProperties", "maxProperties",
    "minContains", "maxContains",
)  # fmt: skip
_SAME_VALUE = ("allOf", "anyOf", "oneOf", "not", "if", "then", "else")
_ELSEWHERE = ("$dynamicRef", "$recursiveRef")
_REPEAT = re.compile(r"\{(\d{1,9})(,(\d{0,9}))?\}")


@dataclass(frozen=True)
class Regex(Kind):
    """A regular expression of bounded size."""

    types = (str,)

    def _read(self, value: str) -> str:
        text: str = Text(MAX_REGEX, minimum=1).read(value)
        if "[]" in text or "[^]" in text:
            raise bad(r"\] for a bracket within a set", "a set that begins with one")
        if expanded_size(text) > MAX_EXPANDED:
            raise bad(f"at most {MAX_EXPANDED} characters after repetition", "more")
        return text

    def __str__(self) -> str:
        return (
            f"a regular expression of at most {MAX_REGEX} characters, {MAX_EXPANDED} with each "
            "repetition written out"
        )


def expanded_size(pattern: str) -> int:
    """Characters of a pattern in which `x{2,5}` is written out as often as it says, at most.

    Groups that do not match and sets that do not end are counted as if they ended with the pattern.
    """
    sizes, last, at = [0], 0, 0
    while at < len(pattern):
        character = pattern[at]
        repeat = _REPEAT.match(pattern, at)
        if character == "(":
            sizes.append(0)
            last = 0
        elif character == ")" and len(sizes) > 1:
            last = sizes.pop() + 1
            sizes[-1] += last
        elif repeat:
            times = int(repeat[3] or repeat[1])
            sizes[-1] += last * (times - 1) if times else 0
            last *= max(times, 1)
            at = repeat.end()
            continue
        elif character not in "*+?|":
            width = _atom(pattern, at)
            last = 1
            sizes[-1] += 1
            at += width
            continue
        at += 1
    return sum(sizes)


def _atom(pattern: str, at: int) -> int:
    """How many characters the character, the escape or the set at this place has."""
    if pattern[at] == "\\":
        return 2
    if pattern[at] != "[":
        return 1
    end = at + 1
    while end < len(pattern) and pattern[end] != "]":
        end += 2 if pattern[end] == "\\" else 1
    return end + 1 - at


@dataclass(frozen=True)
class JsonSchema(Kind):
    """A JSON Schema of bounded size, with references to its own parts only.

    One `for_answers` becomes an automaton of the engine. Others are shown to the model.
    """

    types = (dict,)
    for_answers: bool = True

    def _read(self, value: dict[str, Any]) -> dict[str, Any]:
        _Reading(value, for_answers=self.for_answers).check()
        return value

    def __str__(self) -> str:
        return (
            f"a JSON Schema of at most {MAX_NODES} parts and {MAX_SCHEMA_DEPTH} levels, with "
            "references to its own parts only"
        )


def require_one_automaton(schemas: Iterable[dict[str, Any]]) -> None:
    """Raise RequestFieldError unless the engine can make one automaton of all these schemas.

    Each was read as a JsonSchema.
    """
    reading = _Reading({}, for_answers=True)
    for schema in schemas:
        reading.walk(schema)


class _Reading:
    """One walk over a schema. It is plain data of JSON's own types, so it needs no copy."""

    def __init__(self, schema: dict[str, Any], *, for_answers: bool) -> None:
        self._schema = schema
        self._for_answers = for_answers
        self._nodes = self._characters = self._repeated = 0
        self._path: list[str] = []
        self._references: list[tuple[dict[str, Any], list[str]]] = []

    def check(self) -> None:
        """Raise RequestFieldError."""
        self.walk(self._schema)
        if len(self._references) > MAX_REFERENCES:
            raise bad(f"at most {MAX_REFERENCES} references", str(len(self._references)))
        done: set[int] = set()
        for node, path in self._references:
            self._path = path
            self._follow(node, done)

    def walk(self, value: object) -> None:
        """Count a part and all within it. Raises RequestFieldError."""
        self._nodes += 1
        if self._nodes > MAX_NODES:
            raise self._bad(f"at most {MAX_NODES} parts", "more")
        if len(self._path) > MAX_SCHEMA_DEPTH:
            raise self._bad(f"at most {MAX_SCHEMA_DEPTH} levels", "more")
        match value:
            case bool() | None:
                pass
            case str():
                self._read(require_unicode, value)
            case int() | float():
                self._read(require_finite, value)
            case list():
                for at, item in enumerate(value):
                    self._step(str(at), item)
            case dict():
                if isinstance(value.get("$ref"), str):
                    self._references.append((value, [*self._path, "$ref"]))
                for name, item in value.items():
                    self._step(name, item)

    def _step(self, name: str, value: object) -> None:
        self._path.append(name)
        self._read(require_unicode, name)
        self._characters += len(name)
        if isinstance(value, str) and name not in _FOR_PEOPLE:
            self._characters += len(value)
        if name == "pattern" and isinstance(value, str):
            self._pattern(value)
        elif name == "patternProperties" and isinstance(value, dict):
            for pattern in value:
                self._pattern(pattern)
        elif name in _ELSEWHERE and isinstance(value, str):
            raise self._bad("$ref", "another kind of reference")
        elif name in _COUNTS and isinstance(value, (int, float)):
            if value > MAX_COUNT:
                raise self._bad(f"at most {MAX_COUNT}", "more")
            self._repeat(int(max(min(value, MAX_COUNTED), 0)))
        if name == "patternProperties" and self._for_answers:
            # vLLM takes outlines for it, whose automata double with each character of a pattern.
            raise self._bad("properties by name", "patternProperties")
        if self._characters > MAX_CHARACTERS:
            raise self._bad(f"at most {MAX_CHARACTERS} characters in the schema", "more")
        self.walk(value)
        self._path.pop()

    def _pattern(self, pattern: str) -> None:
        self._read(Regex().read, pattern)
        size = expanded_size(pattern)
        self._characters += size
        self._repeat(max(size - len(pattern), 0))

    def _repeat(self, times: int) -> None:
        self._repeated += times
        if self._for_answers and self._repeated > MAX_REPEATED:
            expected = f"at most {MAX_REPEATED} repetitions, {MAX_COUNTED} for each count"
            raise self._bad(expected, "more")

    def _follow(self, start: dict[str, Any], done: set[int]) -> None:
        """Refuse a circle of references in which nothing is consumed. `done` are ids of objects."""
        stack, waiting = [start], [iter([*self._in_place(start)])]
        above = {id(start)}
        while stack:
            node = next(waiting[-1], None)
            if node is None:
                done.add(id(stack[-1]))
                above.discard(id(stack.pop()))
                waiting.pop()
            elif id(node) in above:
                raise self._bad("a reference that does not lead back to itself", "a circle")
            elif id(node) not in done:
                stack.append(node)
                above.add(id(node))
                waiting.append(iter([*self._in_place(node)]))

    def _in_place(self, node: dict[str, Any]) -> Iterator[dict[str, Any]]:
        """The objects that apply to the same value as this one."""
        if isinstance(node.get("$ref"), str):
            yield from _objects([self._target(node["$ref"])])
        for name in _SAME_VALUE:
            found = node.get(name)
            yield from _objects(found if isinstance(found, list) else [found])

    def _target(self, reference: str) -> object:
        """The part of the schema that a JSON pointer in a fragment names (RFC 6901, section 6)."""
        start, *names = unquote(reference).split("/")
        part: object = self._schema if start == "#" else None
        for name in names:
            name = name.replace("~1", "/").replace("~0", "~")
            if isinstance(part, dict):
                part = part.get(name)
            elif isinstance(part, list) and name.isascii() and name.isdigit() and len(name) < 6:
                part = part[int(name)] if int(name) < len(part) else None
            else:
                part = None
        if not isinstance(part, (dict, bool)):
            raise self._bad("#, or # and a pointer to a part of this schema", "another reference")
        return part

    def _read(self, reader: Callable[[Any], object], value: object) -> None:
        try:
            reader(value)
        except RequestFieldError as error:
            error.within(*self._path)
            raise

    def _bad(self, expected: str, seen: str) -> RequestFieldError:
        return bad(expected, seen).within(*self._path)


def _objects(values: list[Any]) -> Iterator[dict[str, Any]]:
    yield from (value for value in values if isinstance(value, dict))
