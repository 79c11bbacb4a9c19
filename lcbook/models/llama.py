"""A Decoder as a Llama in Hugging Face form: a folder that any program for such models loads, with its tokenizer.

A Llama scales no embedding on input. The table is written multiplied by sqrt(width), as it enters the first layer; the
norm before the logits is divided by it in turn, so that input and output keep sharing one table and the logits stay.
"""

from __future__ import annotations

import json
import math
import string
import unicodedata
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save as pack
from torch import Tensor

from lcbook.attention.patterns import Full
from lcbook.formats import at_least
from lcbook.models.decoder import Decoder, ModelSpec
from lcbook.models.layers import Attention
from lcbook.models.mixers import Softmax
from lcbook.models.positions import RoPE
from lcbook.store import write_bytes

HEAD = "A decoder of lcbook as a Llama in Hugging Face form, with float32 weights and a tokenizer of whole words."
# Names of a layer's weights: here, and in a Llama.
NAMES = {
    "attention.q": "self_attn.q_proj",
    "attention.k": "self_attn.k_proj",
    "attention.v": "self_attn.v_proj",
    "attention.out": "self_attn.o_proj",
    "mlp.gate": "mlp.gate_proj",
    "mlp.up": "mlp.up_proj",
    "mlp.down": "mlp.down_proj",
    "attention_norm": "input_layernorm",
    "mlp_norm": "post_attention_layernorm",
}


def export(
    model: Decoder,
    folder: Path,
    *,
    words: Sequence[str],
    unknown: str,
    end: str,
    window: int,
    notes: dict[str, Any],
) -> Path:
    """Write `model` to `folder` as a Llama in Hugging Face form, and return the folder.

    Token i is the word `words[i]`; text is cut at white space and around every punctuation mark, and what then is no
    word becomes `unknown`. A text reads back as its words with a space between them ("472 ."), without `unknown` and
    `end`, the word at which a reply ends. There is no chat template. `window` is the longest text in tokens.
    Weights are float32, so that the logits are those of `model` but for rounding: in half precision near ties, and
    with them answers, would fall otherwise. `notes` (what -> how made) become README.md.

    Raises ValueError for a spec that a Llama cannot carry, a window below 1, or words that are not one for each
    token, not distinct, or not cut as one piece; OSError where the folder cannot be written.
    """
    _check_spec(model)
    _check_words(words, model.embedding.num_embeddings, unknown, end)
    at_least(1, window=window)
    ends = list(words).index(end)
    files = {
        "config.json": _json(_config(model.spec, len(words), window, ends)),
        "generation_config.json": _json({"do_sample": False, "eos_token_id": ends}),
        "tokenizer.json": _json(_tokenizer(words, unknown, end)),
        "tokenizer_config.json": _json(
            {
                "tokenizer_class": "PreTrainedTokenizerFast",
                "unk_token": unknown,
                "eos_token": end,
                "model_max_length": window,
                "clean_up_tokenization_spaces": False,
            }
        ),
        "README.md": "\n".join(
            [HEAD, "", *(f"- **{name}**: {value}" for name, value in notes.items()), ""]
        ).encode(),
        "model.safetensors": pack(_weights(model), {"format": "pt"}),
    }
    for name, data in files.items():
        write_bytes(folder / name, data)
    return folder


def _check_spec(model: Decoder) -> None:
    """Raise ValueError for what a Llama cannot carry."""
    spec = model.spec
    fixed = {
        "key_shift": False, "qk_norm": False, "normalizer": "softmax", "mixer": Softmax(), "pattern": Full(),
        "separator": None,
    }  # fmt: skip
    for name, allowed in fixed.items():
        if getattr(spec, name) != allowed:
            raise ValueError(f"{name} is {getattr(spec, name)}; allowed in a Llama is {allowed}.")
    if not isinstance(spec.position, RoPE) or spec.position.scaling is not None:
        raise ValueError(f"position is {spec.position}; allowed in a Llama is RoPE without scaling.")
    if not spec.mlp:
        raise ValueError("mlp is 0; allowed in a Llama is 1 or more.")
    for part in model.modules():
        if isinstance(part, Attention) and (part.temper != 1 or part.form is not None):
            raise ValueError(
                f"attention has temper {part.temper} and form {part.form}; allowed in a Llama are 1 and None."
            )


def _check_words(words: Sequence[str], vocabulary: int, unknown: str, end: str) -> None:
    if len(words) != vocabulary or len(set(words)) != len(words):
        raise ValueError(
            f"words has {len(words)} words, {len(set(words))} of them distinct; "
            f"allowed is one for each of the {vocabulary} tokens."
        )
    for name, word in (("unknown", unknown), ("end", end)):
        if word not in words:
            raise ValueError(f"{name} is {word!r}; allowed is one of the words.")
    if unknown == end:
        raise ValueError(f"end is {end!r}, as unknown; allowed is another word.")
    for word in words:
        cut = any(char.isspace() for char in word) or (len(word) > 1 and any(map(_mark, word)))
        if not word or (cut and word not in (unknown, end)):
            raise ValueError(
                f"words has {word!r}; allowed are single punctuation marks and words without any."
            )


def _mark(char: str) -> bool:
    """Return whether the tokenizer cuts around a character."""
    return char in string.punctuation or unicodedata.category(char).startswith("P")


def _json(value: dict[str, Any]) -> bytes:
    return json.dumps(value, indent=1, ensure_ascii=False).encode() + b"\n"


def _config(spec: ModelSpec, vocabulary: int, window: int, end: int) -> dict[str, Any]:
    assert isinstance(spec.position, RoPE)
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "dtype": "float32",
        "vocab_size": vocabulary,
        "hidden_size": spec.width,
        "intermediate_size": spec.mlp,
        "num_hidden_layers": spec.layers,
        "num_attention_heads": spec.heads,
        "num_key_value_heads": spec.kv_heads or spec.heads,
        "head_dim": spec.width // spec.heads,
        "hidden_act": "silu",
        "attention_bias": False,
        "mlp_bias": False,
        "rms_norm_eps": 1e-6,
        "tie_word_embeddings": True,
        "max_position_embeddings": window,
        "rope_theta": spec.position.base,
        "rope_parameters": {"rope_type": "default", "rope_theta": spec.position.base},
        "bos_token_id": None,
        "eos_token_id": end,
        "pad_token_id": None,
    }


def _weights(model: Decoder) -> dict[str, Tensor]:
    """Return the weights under a Llama's names."""
    ours = {name: value.detach().cpu().double() for name, value in model.state_dict().items()}
    scale = math.sqrt(model.spec.width)
    theirs = {
        "model.embed_tokens.weight": ours["embedding.weight"] * scale,
        "model.norm.weight": ours["norm.weight"] / scale,
    }
    for layer in range(model.spec.layers):
        for mine, their in NAMES.items():
            theirs[f"model.layers.{layer}.{their}.weight"] = ours[f"layers.{layer}.{mine}.weight"]
    return {name: value.to(torch.float32).contiguous() for name, value in theirs.items()}


def _tokenizer(words: Sequence[str], unknown: str, end: str) -> dict[str, Any]:
    """Return the tokenizer.json of a word level model."""
    special = [
        {
            "id": token, "content": word, "single_word": False, "lstrip": False, "rstrip": False,
            "normalized": False, "special": True,
        }
        for token, word in enumerate(words)
        if word in (unknown, end)
    ]  # fmt: skip
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": special,
        "normalizer": None,
        "pre_tokenizer": {
            "type": "Sequence",
            "pretokenizers": [{"type": "WhitespaceSplit"}, {"type": "Punctuation", "behavior": "Isolated"}],
        },
        "post_processor": None,
        "decoder": None,
        "model": {
            "type": "WordLevel",
            "vocab": {word: token for token, word in enumerate(words)},
            "unk_token": unknown,
        },
    }
