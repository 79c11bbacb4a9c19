"""The export: transformers' Llama gives the logits of the decoder, and the tokenizer reads a text back."""

from __future__ import annotations

import json
import math
import socket
import sys

import pytest
import torch

from lcbook.attention.patterns import Window
from lcbook.models.decoder import ModelSpec, build
from lcbook.models.llama import export
from lcbook.models.mixers import LearnedSink
from lcbook.models.positions import Linear, NoPosition, RoPE
from lcbook.tasks import words as lists
from lcbook.tasks.haystacks import Prose
from lcbook.tasks.items import ITEMS, draw

WORDS = (
    "<unk>",
    "<end>",
    "The",
    "code",
    "for",
    "amber",
    "is",
    "472",
    ".",
    ",",
    "?",
    "Über",
    "Answer",
    ":",
    "-",
    "und",
    "x",
)
SPEC = {
    "layers": 2,
    "width": 24,
    "heads": 6,
    "kv_heads": 3,
    "mlp": 11,
    "position": RoPE(),
    "key_shift": False,
    "qk_norm": False,
}


def rough(spec, vocabulary, seed=0):
    """A decoder whose every parameter is away from its symmetric start."""
    model = build(spec, vocabulary, seed)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter += 0.3 * torch.randn(parameter.shape, generator=generator)
    return model


def exported(folder, model=None, words=WORDS, **changes):
    settings = {
        "words": words,
        "unknown": "<unk>",
        "end": "<end>",
        "window": 53,
        "notes": {"made": "by hand"},
    } | changes
    return export(model or rough(ModelSpec(**SPEC), len(words)), folder, **settings)


def loaded(folder):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    return (
        AutoModelForCausalLM.from_pretrained(folder, dtype="auto", local_files_only=True),
        AutoTokenizer.from_pretrained(folder, local_files_only=True),
    )


@pytest.mark.parametrize(
    ("layers", "heads", "kv_heads", "head_dim", "base"),
    [(3, 6, 3, 4, 10_000.0), (1, 5, 0, 4, 500.0), (2, 7, 1, 2, 500.0), (2, 4, 2, 16, 10_000.0)],
)
def test_logits_are_those_of_the_decoder(tmp_path, layers, heads, kv_heads, head_dim, base):
    spec = ModelSpec(
        layers, heads * head_dim, heads, kv_heads, 17, RoPE(base), key_shift=False, qk_norm=False
    )
    ours = rough(spec, len(WORDS))
    llama, _ = loaded(exported(tmp_path / "llama", ours))
    tokens = torch.randint(len(WORDS), (5, 23), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        expected, found = ours(tokens), llama(tokens).logits
    assert found.dtype == torch.float32
    assert expected.std() > 0.1
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=5e-5)
    assert (found.argmax(-1) == expected.argmax(-1)).all()


def test_input_and_output_share_one_table_as_in_the_decoder(tmp_path):
    llama, _ = loaded(exported(tmp_path, rough(ModelSpec(**SPEC), 17)))
    assert llama.lm_head.weight is llama.model.embed_tokens.weight
    ours = rough(ModelSpec(**SPEC), 17)
    torch.testing.assert_close(llama.lm_head.weight, ours.embedding.weight * math.sqrt(24))
    assert llama.num_parameters() == sum(
        p.numel() for n, p in ours.named_parameters() if "log_scale" not in n
    )


def test_config_says_what_the_model_is(tmp_path):
    llama, tokenizer = loaded(exported(tmp_path))
    config = llama.config
    assert (config.max_position_embeddings, config.eos_token_id, config.bos_token_id) == (53, 1, None)
    assert config.rope_parameters["rope_theta"] == 10_000.0
    assert llama.generation_config.eos_token_id == 1
    assert not llama.generation_config.do_sample
    assert (tokenizer.eos_token, tokenizer.unk_token, tokenizer.chat_template) == ("<end>", "<unk>", None)
    assert len(tokenizer) == 17
    assert (tmp_path / "README.md").read_text().endswith("words.\n\n- **made**: by hand\n")


def test_text_is_cut_at_white_space_and_around_punctuation(tmp_path):
    _, tokenizer = loaded(exported(tmp_path))
    text = "The code for amber\n\nis  472.\tÜber-amber, Answer:?"
    found = tokenizer(text, return_offsets_mapping=True)
    pieces = [text[start:stop] for start, stop in found["offset_mapping"]]
    expected = [
        "The",
        "code",
        "for",
        "amber",
        "is",
        "472",
        ".",
        "Über",
        "-",
        "amber",
        ",",
        "Answer",
        ":",
        "?",
    ]
    assert pieces == expected
    assert found["input_ids"] == [WORDS.index(piece) for piece in expected], "no special tokens"


def test_text_reads_back_as_its_words(tmp_path):
    _, tokenizer = loaded(exported(tmp_path))
    ids = tokenizer("The code for amber is 472.<end>")["input_ids"]
    assert ids == [2, 3, 4, 5, 6, 7, 8, 1]
    read = tokenizer.decode(ids, skip_special_tokens=True)
    assert read == "The code for amber is 472 ."
    assert tokenizer(read)["input_ids"] == ids[:-1]
    assert tokenizer("amber is blue")["input_ids"] == [5, 6, 0], "an unknown word"


def test_every_word_of_items_and_prose_is_one_token(tmp_path):
    import re

    texts = [Prose().text(3, 20_000)]
    for task in ITEMS:
        item = draw(task, 5, None, 3)
        texts += [
            item.intro,
            item.question,
            item.prefix,
            *(fact.text for fact in (*item.facts, *item.distractors)),
        ]
    words = ("<unk>", "<end>", *sorted({*re.findall(r"\w+|[^\w\s]", " ".join(texts)), *lists.NUMBERS}))
    _, tokenizer = loaded(exported(tmp_path, rough(ModelSpec(**SPEC), len(words)), words))
    for text in texts:
        ids = tokenizer(text)["input_ids"]
        assert 0 not in ids
        assert [words[i] for i in ids] == re.findall(r"\w+|[^\w\s]", text)


def test_the_same_model_gives_the_same_bytes(tmp_path):
    one, two = exported(tmp_path / "one"), exported(tmp_path / "two")
    names = sorted(path.name for path in one.iterdir())
    assert names == [
        "README.md", "config.json", "generation_config.json", "model.safetensors", "tokenizer.json",
        "tokenizer_config.json",
    ]  # fmt: skip
    assert all((one / name).read_bytes() == (two / name).read_bytes() for name in names)


def test_the_tokenizer_file_is_read_by_the_library_that_defines_it(tmp_path):
    from tokenizers import Tokenizer

    path = exported(tmp_path) / "tokenizer.json"
    told = json.loads(Tokenizer.from_file(str(path)).to_str())
    assert told == json.loads(path.read_text()), "nothing is missing, nothing ignored"


def test_export_needs_no_transformers_and_loading_no_network(tmp_path, monkeypatch):
    import transformers  # noqa: F401
    from huggingface_hub import constants

    def refuse(*_, **__):
        raise AssertionError("the network was asked")

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    with monkeypatch.context() as without:
        without.setitem(sys.modules, "transformers", None)
        without.setitem(sys.modules, "tokenizers", None)
        exported(tmp_path)
    loaded(tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"key_shift": True}, "key_shift is True; allowed in a Llama is False"),
        ({"qk_norm": True}, "qk_norm is True; allowed in a Llama is False"),
        ({"normalizer": "sparsemax"}, "normalizer is sparsemax; allowed in a Llama is softmax"),
        ({"position": NoPosition()}, r"position is NoPosition\(\); allowed in a Llama is RoPE"),
        ({"position": RoPE(scaling=Linear(2.0))}, "allowed in a Llama is RoPE without scaling"),
        ({"pattern": Window(7)}, "pattern is Window"),
        ({"kv_heads": 0, "mixer": LearnedSink(), "position": NoPosition()}, "mixer is LearnedSink"),
        ({"separator": 3}, "separator is 3"),
        ({"mlp": 0}, "mlp is 0; allowed in a Llama is 1 or more"),
    ],
)
def test_specs_that_a_llama_cannot_carry_are_refused(tmp_path, change, message):
    model = build(ModelSpec(**SPEC | change), 17, 0)
    with pytest.raises(ValueError, match=message):
        exported(tmp_path / "no", model)
    assert not (tmp_path / "no").exists()


def test_attention_changed_after_training_is_refused(tmp_path):
    model = build(ModelSpec(**SPEC), 17, 0)
    model.layers[1].attention.temper = 1.5
    with pytest.raises(ValueError, match=r"temper 1\.5"):
        exported(tmp_path, model)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"words": WORDS[:-1]},
            "words has 16 words, 16 of them distinct; allowed is one for each of the 17 tokens",
        ),
        ({"words": (*WORDS[:-1], "is")}, "words has 17 words, 16 of them distinct"),
        ({"words": (*WORDS[:-1], "don't")}, 'words has "don\'t"; allowed'),
        ({"words": (*WORDS[:-1], "two words")}, "words has 'two words'; allowed"),
        ({"words": (*WORDS[:-1], "")}, "words has ''; allowed"),
        ({"unknown": "none"}, "unknown is 'none'; allowed is one of the words"),
        ({"end": "none"}, "end is 'none'; allowed is one of the words"),
        ({"end": "<unk>"}, "end is '<unk>', as unknown"),
        ({"window": 0}, "window is 0; allowed is 1 or more"),
    ],
)
def test_bad_input_is_refused(tmp_path, change, message):
    with pytest.raises(ValueError, match=message):
        exported(tmp_path, build(ModelSpec(**SPEC), 17, 0), **change)
