#!/usr/bin/env python3
"""Make the tiny model: a Llama that can say one sentence, from the standard library alone.

    python3 model-tiny.py OUTPUT_DIRECTORY

It is what the demonstration and the end-to-end tests serve, so its answer is legible (a person sees
that the right thing came out) and exact (a test compares the text). Same bits on every machine.

How it works. Every token's embedding is one-hot. Attention and MLP weights are zero, so the hidden
state reaches the output head unchanged: the network is a table from the last token to the next one.
Byte tokens and special tokens share direction 0, which leads to the first word; word k (from 0) has
direction k + 1, which leads to word k + 1; the last word leads to the end token. All other logits
are 0 and the right one is above 300, so no temperature that the API takes (at most 2) changes it.

The tokenizer is byte-level without merges: a prompt costs one token a UTF-8 byte (usage counts are
real), and the word tokens cannot come from a prompt. Words are whole tokens only on the way out.
"""

import json
import struct
import sys
from pathlib import Path

SENTENCE = (
    "This answer was computed inside a measured machine, "
    "which your proxy verified before it sealed and sent the question."
)
SPECIAL_TOKENS = ("<|end|>", "<|system|>", "<|user|>", "<|assistant|>", "<|tool|>")
END_TOKEN = SPECIAL_TOKENS[0]
CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{{ '<|' + message['role'] + '|>' + (message['content'] or '') + '<|end|>' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)
HIDDEN = 32  # one head of this size: the smallest that vLLM's CPU attention takes
CONTEXT_TOKENS = 8192
HEAD_WEIGHT = 64.0  # times sqrt(HIDDEN), the norm's gain on a one-hot state: a logit of about 362

Rows = list[list[float]]


def byte_alphabet() -> list[str]:
    """The 256 characters that stand for bytes in a byte-level tokenizer, in byte order.

    A printable Latin-1 byte stands for itself; the other 68 take the code points from 256 on.
    """
    printable = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    others = (value for value in range(256) if value not in printable)
    moved = {value: 256 + index for index, value in enumerate(others)}
    return [chr(moved.get(value, value)) for value in range(256)]


def answer_words() -> list[str]:
    """The text of each answer token; all but the first begin with a space."""
    first, *rest = SENTENCE.split(" ")
    return [first, *(" " + word for word in rest)]


def vocabulary() -> list[str]:
    """Token texts in the byte alphabet, by id: special tokens, then bytes, then words."""
    alphabet = byte_alphabet()
    words = ["".join(alphabet[byte] for byte in word.encode()) for word in answer_words()]
    tokens = [*SPECIAL_TOKENS, *alphabet, *words]
    if len(set(tokens)) != len(tokens):
        raise ValueError("a word occurs twice or is a single byte: it needs a token of its own")
    return tokens


def one_hot(index: int, value: float = 1.0) -> list[float]:
    """A vector of HIDDEN numbers, all 0 but one."""
    return [value if column == index else 0.0 for column in range(HIDDEN)]


def weights() -> dict[str, Rows | list[float]]:
    """Every tensor by its Llama name: a matrix as rows [out][in], a norm's gains as one list."""
    word_count = len(answer_words())
    if word_count + 1 > HIDDEN:
        raise ValueError(f"{word_count} words need {word_count + 1} directions, there are {HIDDEN}")
    prompt_tokens = len(vocabulary()) - word_count
    word_rows = range(1, word_count + 1)
    zeros = [[0.0] * HIDDEN for _ in range(HIDDEN)]
    ones = [1.0] * HIDDEN

    head = [[0.0] * HIDDEN for _ in range(prompt_tokens)]
    head[SPECIAL_TOKENS.index(END_TOKEN)] = one_hot(word_count, HEAD_WEIGHT)
    head += [one_hot(row - 1, HEAD_WEIGHT) for row in word_rows]

    layer = "model.layers.0"
    projections = [f"self_attn.{name}_proj" for name in "qkvo"]
    projections += [f"mlp.{name}_proj" for name in ("gate", "up", "down")]
    return {
        "model.embed_tokens.weight": [one_hot(0)] * prompt_tokens + [one_hot(k) for k in word_rows],
        **{f"{layer}.{name}.weight": zeros for name in projections},
        f"{layer}.input_layernorm.weight": ones,
        f"{layer}.post_attention_layernorm.weight": ones,
        "model.norm.weight": ones,
        "lm_head.weight": head,
    }


def safetensors(tensors: dict[str, Rows | list[float]]) -> bytes:
    """The safetensors file: u64le header length, JSON header padded to 8 bytes, F32 data."""
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    data = bytearray()
    for name, tensor in sorted(tensors.items()):
        shape = [len(tensor)]
        flat: list[float] = []
        for row in tensor:
            if isinstance(row, list):
                flat += row
            else:
                flat.append(row)
        if len(flat) != len(tensor):
            shape.append(len(flat) // len(tensor))
        start = len(data)
        data += struct.pack(f"<{len(flat)}f", *flat)
        header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [start, len(data)]}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text + data


def config() -> dict[str, object]:
    """config.json: the architecture."""
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "dtype": "float32",
        "vocab_size": len(vocabulary()),
        "hidden_size": HIDDEN,
        "intermediate_size": HIDDEN,
        "num_hidden_layers": 1,
        "num_attention_heads": 1,
        "num_key_value_heads": 1,
        "head_dim": HIDDEN,
        "hidden_act": "silu",
        "rms_norm_eps": 1e-6,
        "max_position_embeddings": CONTEXT_TOKENS,
        "rope_theta": 10000.0,
        "attention_bias": False,
        "mlp_bias": False,
        "tie_word_embeddings": False,
        "bos_token_id": None,
        "eos_token_id": SPECIAL_TOKENS.index(END_TOKEN),
        "pad_token_id": SPECIAL_TOKENS.index(END_TOKEN),
    }


def generation_config() -> dict[str, object]:
    """generation_config.json: where an answer ends."""
    return {"eos_token_id": SPECIAL_TOKENS.index(END_TOKEN), "do_sample": False}


def tokenizer() -> dict[str, object]:
    """tokenizer.json: byte-level BPE without a single merge, so that text becomes its bytes."""
    byte_level = {
        "type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False,
    }  # fmt: skip
    special = {
        "single_word": False, "lstrip": False, "rstrip": False, "normalized": False,
        "special": True,
    }  # fmt: skip
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [
            {"id": index, "content": text, **special} for index, text in enumerate(SPECIAL_TOKENS)
        ],
        "normalizer": None,
        "pre_tokenizer": byte_level,
        "post_processor": None,
        "decoder": byte_level,
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": False,
            "byte_fallback": False,
            "ignore_merges": False,
            "vocab": {text: index for index, text in enumerate(vocabulary())},
            "merges": [],
        },
    }


def tokenizer_config() -> dict[str, object]:
    """tokenizer_config.json: special tokens and the chat template."""
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": None,
        "eos_token": END_TOKEN,
        "pad_token": END_TOKEN,
        "clean_up_tokenization_spaces": False,
        "model_max_length": CONTEXT_TOKENS,
        "chat_template": CHAT_TEMPLATE,
    }


def expected() -> dict[str, object]:
    """What a test may rely on: the answer's text and what an answer in full costs, end included."""
    return {"text": SENTENCE, "completion_tokens": len(answer_words()) + 1}


def files() -> dict[str, bytes]:
    """Every file of the model directory, name to content."""
    documents = {
        "config.json": config(),
        "generation_config.json": generation_config(),
        "tokenizer.json": tokenizer(),
        "tokenizer_config.json": tokenizer_config(),
        "expected.json": expected(),
    }
    encoded = {
        name: json.dumps(document, indent=1, sort_keys=True).encode() + b"\n"
        for name, document in documents.items()
    }
    return {**encoded, "model.safetensors": safetensors(weights())}


def main(arguments: list[str]) -> int:
    """Write the model directory; 2 if called wrongly."""
    if len(arguments) != 1:
        print("usage: model-tiny.py OUTPUT_DIRECTORY", file=sys.stderr)
        return 2
    output = Path(arguments[0])
    output.mkdir(parents=True, exist_ok=True)
    for name, content in files().items():
        (output / name).write_bytes(content)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
