"""The tiny model, computed by hand: what it says, whatever it is asked."""

from __future__ import annotations

import importlib.util
import json
import math
import struct
import subprocess
import sys
from hashlib import sha256
from pathlib import Path
from types import ModuleType
from typing import Any

import jinja2
import pytest

SCRIPT = Path(__file__).parents[3] / "nix" / "model-tiny.py"
DIGEST = "4996e6efcc3d4511b24bc48bca3025255e920ab546473716d1f331587f51e5ac"
SENTENCE = (
    "This answer was computed inside a measured machine, "
    "which your proxy verified before it sealed and sent the question."
)


def load() -> ModuleType:
    spec = importlib.util.spec_from_file_location("model_tiny", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


MAKER = load()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The model as the build makes it: by another Python process, isolated."""
    target = tmp_path_factory.mktemp("model")
    subprocess.run([sys.executable, "-I", "-S", SCRIPT, target], check=True)
    return target


def document(folder: Path, name: str) -> Any:
    return json.loads((folder / name).read_bytes())


def tensors(folder: Path) -> dict[str, tuple[list[int], list[float]]]:
    """Read safetensors as its specification says; every byte of data must belong to one tensor."""
    data = (folder / "model.safetensors").read_bytes()
    (length,) = struct.unpack_from("<Q", data)
    header = json.loads(data[8 : 8 + length])
    assert header.pop("__metadata__") == {"format": "pt"}
    body = data[8 + length :]
    result = {}
    end = 0
    for name, entry in sorted(header.items(), key=lambda item: item[1]["data_offsets"]):
        start, stop = entry["data_offsets"]
        assert start == end
        assert entry["dtype"] == "F32"
        count = math.prod(entry["shape"])
        assert stop - start == 4 * count
        result[name] = (entry["shape"], list(struct.unpack_from(f"<{count}f", body, start)))
        end = stop
    assert end == len(body)
    return result


def test_files_and_bits_are_fixed(folder: Path) -> None:
    """A change here is a change of the model disk's root hash, so of the manifest."""
    names = sorted(path.name for path in folder.iterdir())
    assert names == [
        "config.json",
        "expected.json",
        "generation_config.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
    ]
    digests = "".join(sha256((folder / name).read_bytes()).hexdigest() for name in names)
    assert sha256(digests.encode()).hexdigest() == DIGEST
    assert sum((folder / name).stat().st_size for name in names) < 1 << 20


def test_tensors_are_those_of_the_configuration(folder: Path) -> None:
    config = document(folder, "config.json")
    hidden, vocabulary = config["hidden_size"], config["vocab_size"]
    assert config["num_attention_heads"] * config["head_dim"] == hidden
    shapes = {name: shape for name, (shape, _) in tensors(folder).items()}
    layer = "model.layers.0."
    square = [f"self_attn.{x}_proj" for x in "qkvo"] + [
        f"mlp.{x}_proj" for x in ("gate", "up", "down")
    ]
    norms = [layer + "input_layernorm", layer + "post_attention_layernorm", "model.norm"]
    assert shapes == {
        "model.embed_tokens.weight": [vocabulary, hidden],
        "lm_head.weight": [vocabulary, hidden],
        **{f"{layer}{name}.weight": [hidden, hidden] for name in square},
        **{f"{name}.weight": [hidden] for name in norms},
    }


def logits(folder: Path) -> list[list[float]]:
    """For each last token, the logit of each next one. Attention and MLP must add nothing."""
    config = document(folder, "config.json")
    hidden = config["hidden_size"]
    weights = tensors(folder)
    for name in ("self_attn.o_proj", "mlp.down_proj"):
        assert not any(weights[f"model.layers.0.{name}.weight"][1])
    gains = weights["model.norm.weight"][1]

    def rows(name: str) -> list[list[float]]:
        flat = weights[name][1]
        return [flat[i : i + hidden] for i in range(0, len(flat), hidden)]

    head = rows("lm_head.weight")
    table = []
    for state in rows("model.embed_tokens.weight"):
        mean = sum(x * x for x in state) / hidden
        scale = 1 / math.sqrt(mean + config["rms_norm_eps"])
        normed = [x * scale * gain for x, gain in zip(state, gains, strict=True)]
        table.append([sum(map(float.__mul__, normed, row)) for row in head])
    return table


def test_every_last_token_leads_to_the_sentence_and_its_end(folder: Path) -> None:
    tokenizer = document(folder, "tokenizer.json")
    texts = {index: text for text, index in tokenizer["model"]["vocab"].items()}
    end = document(folder, "config.json")["eos_token_id"]
    expected = document(folder, "expected.json")
    assert texts[end] == "<|end|>"
    table = logits(folder)
    following = [row.index(max(row)) for row in table]
    words = {i for i, text in texts.items() if len(text) > 1 and not text.startswith("<|")}
    for last in set(texts) - words:
        answer = []
        token = following[last]
        while token != end:
            answer.append(token)
            token = following[token]
        text = "".join(texts[token] for token in answer).replace("Ġ", " ")
        assert text == SENTENCE == expected["text"]
        assert len(answer) + 1 == expected["completion_tokens"]


def test_no_temperature_changes_a_token(folder: Path) -> None:
    for row in logits(folder):
        best, second = sorted(row, reverse=True)[:2]
        # At the highest temperature that the API takes, e^-150 is what another token would need.
        assert (best - second) / 2.0 > 150


def test_prompts_become_bytes_and_never_words(folder: Path) -> None:
    tokenizer = document(folder, "tokenizer.json")
    model = tokenizer["model"]
    assert model["type"] == "BPE"
    assert model["merges"] == []
    assert sorted(model["vocab"].values()) == list(range(len(model["vocab"])))
    assert set(MAKER.byte_alphabet()) <= set(model["vocab"])
    assert len(set(MAKER.byte_alphabet())) == 256


def test_chat_template_ends_where_the_answer_begins(folder: Path) -> None:
    template = document(folder, "tokenizer_config.json")["chat_template"]
    messages = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Hello?"},
        {"role": "assistant", "content": None},
    ]
    environment = jinja2.Environment(undefined=jinja2.StrictUndefined)
    text = environment.from_string(template).render(messages=messages, add_generation_prompt=True)
    assert text == (
        "<|system|>Be brief.<|end|><|user|>Hello?<|end|><|assistant|><|end|><|assistant|>"
    )
    added = [token["content"] for token in document(folder, "tokenizer.json")["added_tokens"]]
    assert {"<|system|>", "<|user|>", "<|assistant|>", "<|tool|>", "<|end|>"} == set(added)


def test_sentence_with_a_word_twice_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(MAKER, "SENTENCE", "you and you and me")
    with pytest.raises(ValueError, match="twice"):
        MAKER.files()


def test_sentence_too_long_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(MAKER, "SENTENCE", " ".join(f"word{i}" for i in range(32)))
    with pytest.raises(ValueError, match="directions"):
        MAKER.files()


@pytest.mark.parametrize("arguments", [[], ["a", "b"]])
def test_wrong_call(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert MAKER.main(arguments) == 2
    assert "usage" in capsys.readouterr().err
