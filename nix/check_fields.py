"""Check that each field of the locked engines' own models is in the table of routes.

So a new version of vLLM cannot bring a field that nobody has looked at. OpenAI's own parameters are
checked, too: what an SDK can send has a known answer. Reads the environment:
wheels ("ENGINE=FILE ..."), out.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from model_fields import Model, Sources

from confide.protocol.routes.fields import Object, Passed, Tagged
from confide.protocol.routes.kinds import Kind
from confide.protocol.routes.table import SEALED, Route

CHAT, COMPLETION = SEALED["/v1/chat/completions"], SEALED["/v1/completions"]
MODELS: tuple[tuple[str, str, Route], ...] = (
    ("vllm.entrypoints.openai.chat_completion.protocol", "ChatCompletionRequest", CHAT),
    ("vllm.entrypoints.openai.completion.protocol", "CompletionRequest", COMPLETION),
    ("openai.types.chat.completion_create_params", "CompletionCreateParamsStreaming", CHAT),
    ("openai.types.completion_create_params", "CompletionCreateParamsStreaming", COMPLETION),
)
DEEP = frozenset(
    {
        "/messages/content/text",
        "/messages/tool_calls/function/arguments",
        "/tools/function/parameters",
        "/response_format/json_schema/schema",
        "/structured_outputs/choice",
        "/stream_options/include_usage",
    }
)
"""Fields that are found only if annotations, imports and aliases are followed."""


def undecided(model: Model, kind: Kind) -> Iterator[tuple[str, bool]]:
    """Each field of the model as a path, and whether it is in none of the lists of `kind`."""
    yield from _undecided(model, list(_objects(kind)), "", frozenset())


def _undecided(
    model: Model, objects: list[Object | Tagged], path: str, above: frozenset[int]
) -> Iterator[tuple[str, bool]]:
    if not objects or id(model) in above or _is_refused(model, objects):
        return
    plain = list(_plain(objects))
    for name, inner in model.fields.items():
        here = f"{path}/{name}"
        lists = [each.fields[name] for each in plain if name in each.fields]
        yield here, not lists
        kinds = [known.kind for known in lists if isinstance(known, Passed)]
        within = [found for kind in kinds for found in _objects(kind)]
        for part in inner:
            yield from _undecided(part, within, here, above | {id(model)})


def _objects(kind: Kind) -> Iterator[Object | Tagged]:
    """The nearest objects within a kind."""
    if isinstance(kind, (Object, Tagged)):
        yield kind
    else:
        for part in kind.parts():
            yield from _objects(part)


def _plain(objects: Iterable[Object | Tagged]) -> Iterator[Object]:
    for each in objects:
        yield from [each] if isinstance(each, Object) else each.objects.values()


def _is_refused(model: Model, objects: Iterable[Object | Tagged]) -> bool:
    """Whether each text that the model's tag may have is one that is refused by name."""
    for each in objects:
        tags = model.tags.get(each.tag, ()) if isinstance(each, Tagged) else ()
        if isinstance(each, Tagged) and tags and set(tags) <= set(each.refused):
            return True
    return False


def report(wheels: Iterable[Path], say: Callable[[str], None]) -> set[str]:
    """The fields of the models in these wheels. `say` gets each that is in no list.

    The wheels are those of one engine: vLLM, openai, openai-harmony. Raises ModelError.
    """
    sources, seen = Sources(wheels), set()
    for module, name, route in MODELS:
        assert route.body is not None
        for found, is_new in dict.fromkeys(undecided(sources.model(module, name), route.body)):
            seen.add(found)
            if is_new:
                say(f"{route.path}: {found} of {module}")
    return seen


def main() -> None:
    """Check each engine's wheels: `wheels` has those of one engine after another."""
    engines: dict[str, list[Path]] = {}
    for item in os.environ["wheels"].split():
        engine, _, path = item.partition("=")
        engines.setdefault(engine, []).append(Path(path))
    unknown: list[str] = []
    for engine, paths in engines.items():
        if missing := DEEP - report(paths, unknown.append):
            raise SystemExit(f"the models of {engine} are not read whole: no {sorted(missing)}")
    if unknown:
        print("\n".join(unknown), file=sys.stderr)
        raise SystemExit("py/confide/protocol/routes/ has three lists: put each field into one")
    Path(os.environ["out"]).touch()


if __name__ == "__main__":
    main()
