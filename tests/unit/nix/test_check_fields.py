"""The check of an engine's fields: what it reads of classes, and that it fails for a new one."""

from __future__ import annotations

import zipfile
from pathlib import Path

import check_fields
import model_fields
import pytest

from confide.protocol.routes.fields import Dropped, Object, Passed, Refused, Tagged
from confide.protocol.routes.kinds import Flag, ListOf, Text, Word

FILES = {
    "engine/__init__.py": "",
    "engine/protocol.py": '''
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal, TypeAlias
from engine.base import Base as _Base
from .parts import Part, shared
from other import Foreign, Unknown
if TYPE_CHECKING:
    from .parts import Late
Choice: TypeAlias = "Literal['a'] | Part"
Parts = list[Choice]

class Options(_Base):
    on: bool = False

class Request(_Base):
    names: ClassVar[set[str]] = set()
    _private: int = 0
    parts: Parts
    options: Annotated[Options | None, "x"] = None
    schema_: dict = Field(default=None, alias="schema")
    late: "list[Late] | None" = None
    package: shared.Shared
    foreign: Foreign | None = None
    unknown: Unknown | None = None
    again: "Request | None" = None
    def method(self) -> None: ...
''',
    "engine/base.py": "class Base(BaseModel):\n    everywhere: int = 0\n",
    "engine/parts/__init__.py": "from .part import Part, Late\nfrom . import shared\n",
    "engine/parts/part.py": '''
class Part(TypedDict, total=False):
    type: Required[Literal["part", "piece"]]
    text: Required[str]
@dataclass
class Late:
    when: int = 0
''',
    "engine/parts/shared.py": "class Shared(TypedDict):\n    all: str\n",
}  # fmt: skip
OTHER = {"other/__init__.py": "from ._foreign import Foreign\n",
         "other/_foreign.py": "class Foreign(Base):\n    far: str\n"}  # fmt: skip


def wheel(path: Path, files: dict[str, str]) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, text in files.items():
            archive.writestr(name, text)
    return path


@pytest.fixture
def request_model(tmp_path: Path) -> model_fields.Model:
    paths = [wheel(tmp_path / "engine.whl", FILES), wheel(tmp_path / "other.whl", OTHER)]
    return model_fields.Sources(paths).model("engine.protocol", "Request")


def test_fields_are_found_through_imports_aliases_and_bases(
    request_model: model_fields.Model,
) -> None:
    assert set(request_model.fields) == {
        "everywhere", "parts", "options", "schema", "late", "package", "foreign", "unknown",
        "again",
    }  # fmt: skip
    inner = {name: [m.name for m in models] for name, models in request_model.fields.items()}
    assert inner["parts"] == ["Part"] and inner["options"] == ["Options"]
    assert inner["late"] == ["Late"] and inner["package"] == ["Shared"]
    assert inner["foreign"] == ["Foreign"] and inner["again"] == ["Request"]
    assert inner["unknown"] == inner["schema"] == []
    (part,) = request_model.fields["parts"]
    assert part.tags == {"type": ("part", "piece")}
    (options,) = request_model.fields["options"]
    assert set(options.fields) == {"on", "everywhere"}


def test_a_class_that_is_not_there(tmp_path: Path) -> None:
    sources = model_fields.Sources([wheel(tmp_path / "engine.whl", FILES)])
    for module, name in (("engine.protocol", "Requests"), ("engine.nothing", "Request")):
        with pytest.raises(model_fields.ModelError):
            sources.model(module, name)


EVERYWHERE = {"everywhere": Dropped()}
PART = Object({"type": Passed(Word("part")), "text": Passed(Text())})


def table(*, parts: Tagged, options: Object) -> Object:
    rest = {name: Refused("no") for name in ("late", "package", "foreign", "unknown", "again")}
    return Object(
        {
            **EVERYWHERE,
            **rest,
            "parts": Passed(ListOf(parts, 4)),
            "options": Passed(options),
            "schema": Dropped(),
        }
    )


def new_fields(model: model_fields.Model, kind: Object) -> list[str]:
    return [path for path, is_new in check_fields.undecided(model, kind) if is_new]


def test_each_field_in_no_list_is_named_by_its_path(request_model: model_fields.Model) -> None:
    parts = Tagged("type", {"part": PART}, {})
    options = Object({**EVERYWHERE, "on": Passed(Flag())})
    assert new_fields(request_model, table(parts=parts, options=options)) == []
    assert new_fields(request_model, table(parts=parts, options=Object(EVERYWHERE))) == [
        "/options/on"
    ]
    less = Tagged("type", {"part": Object({"type": Passed(Word("part"))})}, {})
    assert new_fields(request_model, table(parts=less, options=options)) == ["/parts/text"]
    whole = table(parts=parts, options=options)
    fields = {name: known for name, known in whole.fields.items() if name != "foreign"}
    assert new_fields(request_model, Object(fields)) == ["/foreign"]


def test_what_its_tag_refuses_needs_no_lists(request_model: model_fields.Model) -> None:
    options = Object({**EVERYWHERE, "on": Passed(Flag())})
    other = {"other": Object({})}
    refused = Tagged("type", other, {"part": "no", "piece": "no"})
    assert new_fields(request_model, table(parts=refused, options=options)) == []
    half = Tagged("type", other, {"part": "no"})
    assert new_fields(request_model, table(parts=half, options=options)) == [
        "/parts/type",
        "/parts/text",
    ]


def test_a_new_field_fails_the_check(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """And models of which nothing within is found are an error, not a success."""
    engine = {
        "vllm/entrypoints/openai/chat_completion/protocol.py": "class ChatCompletionRequest:\n"
        "    brand_new: int = 0\n",
        "vllm/entrypoints/openai/completion/protocol.py": "class CompletionRequest:\n    n: int\n",
        "openai/types/chat/completion_create_params.py": "class CompletionCreateParamsStreaming:\n"
        "    n: int\n",
        "openai/types/completion_create_params.py": "class CompletionCreateParamsStreaming:\n"
        "    n: int\n",
    }
    monkeypatch.setenv("wheels", f"engine={wheel(tmp_path / 'vllm.whl', engine)}")
    monkeypatch.setenv("out", str(tmp_path / "out"))
    with pytest.raises(SystemExit, match="the models of engine are not read whole"):
        check_fields.main()
    monkeypatch.setattr(check_fields, "DEEP", frozenset())
    with pytest.raises(SystemExit, match="three lists"):
        check_fields.main()
    said = capsys.readouterr().err
    assert said.startswith("/v1/chat/completions: /brand_new of vllm.entrypoints")
    assert not (tmp_path / "out").exists()
    engine["vllm/entrypoints/openai/chat_completion/protocol.py"] = (
        "class ChatCompletionRequest:\n    n: int\n"
    )
    wheel(tmp_path / "vllm.whl", engine)
    check_fields.main()
    assert (tmp_path / "out").exists()
