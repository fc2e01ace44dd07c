"""Objects in an API's request: each field is passed to the engine, dropped or refused.

A field in no list is an error that names it. Null counts as absent.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from confide.protocol.routes.kinds import Anything, Kind, RequestFieldError, Word, bad, name_of


@dataclass(frozen=True)
class Passed:
    """A field that the engine gets."""

    kind: Kind
    required: bool = False


@dataclass(frozen=True)
class Dropped:
    """A field that the API documents and that has no effect here."""

    kind: Kind = field(default_factory=Anything)


@dataclass(frozen=True)
class Refused:
    """A field that is refused by name, and why."""

    why: str


Fields = Mapping[str, Passed | Dropped | Refused]
Rule = Callable[[dict[str, Any]], None]


@dataclass(frozen=True)
class Object(Kind):
    """An object whose fields are in the three lists. `rules` check what was made, as a whole."""

    types = (dict,)
    fields: Fields
    rules: tuple[Rule, ...] = ()

    def _read(self, value: dict[str, Any]) -> dict[str, Any]:
        made: dict[str, Any] = {}
        for name, item in value.items():
            try:
                self._take(name, item, made)
            except RequestFieldError as error:
                error.within(name)
                raise
        for name, kind in self._required.items():
            if name not in made:
                raise _missing(name, kind)
        for rule in self.rules:
            rule(made)
        return made

    @cached_property
    def _required(self) -> dict[str, Kind]:
        passed = {name: known for name, known in self.fields.items() if isinstance(known, Passed)}
        return {name: known.kind for name, known in passed.items() if known.required}

    def _take(self, name: str, value: object, made: dict[str, Any]) -> None:
        match self.fields.get(name):
            case None:
                raise RequestFieldError("unknown-field", "is unknown")
            case _ if value is None:
                pass  # counts as absent
            case Refused(why):
                raise RequestFieldError("refused-field", f"is refused: {why}")
            case Dropped(kind):
                kind.read(value)
            case Passed(kind):
                made[name] = kind.read(value)

    def parts(self) -> Iterator[Kind]:
        """The kinds of the fields that the engine gets."""
        yield from (known.kind for known in self.fields.values() if isinstance(known, Passed))

    def __str__(self) -> str:
        return "an object"


@dataclass(frozen=True)
class Tagged(Kind):
    """One of several objects, told apart by a text in the field `tag`.

    `refused` has the texts that are refused by name, and why.
    """

    types = (dict,)
    tag: str
    objects: Mapping[str, Object]
    refused: Mapping[str, str]

    def _read(self, value: dict[str, Any]) -> dict[str, Any]:
        said = value.get(self.tag)
        known = Word(*self.objects)
        if said is None:
            raise _missing(self.tag, known)
        if type(said) is str and said in self.objects:
            made: dict[str, Any] = self.objects[said].read(value)
            return made
        if type(said) is str and said in self.refused:
            why = f"is refused: {self.refused[said]}"
            raise RequestFieldError("refused-field", why, expected=str(known)).within(self.tag)
        raise bad(str(known), "another text" if type(said) is str else name_of(said)).within(
            self.tag
        )

    def parts(self) -> Iterator[Kind]:
        """The objects."""
        yield from self.objects.values()

    def __str__(self) -> str:
        return f"an object with {self.tag} {Word(*self.objects)}"


def _missing(name: str, kind: Kind) -> RequestFieldError:
    return RequestFieldError("missing-field", "is missing", expected=str(kind)).within(name)
