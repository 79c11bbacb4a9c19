"""Hugging Face models: replies are those of transformers' own generate, with and without reuse of what is shared."""

from __future__ import annotations

import json
import re
import socket
import sys
from functools import partial
from itertools import pairwise

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    GenerationConfig,
    PreTrainedTokenizerFast,
)

from lcbook.llm import huggingface
from lcbook.llm.huggingface import HuggingFace
from lcbook.llm.open import open_model
from lcbook.llm.protocol import LanguageModel
from lcbook.tasks.haystacks import Prose

SIZES = {
    "hidden_size": 32, "intermediate_size": 47, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "max_position_embeddings": 1009,
}  # fmt: skip
KINDS = {
    "llama": SIZES,
    "gpt2": {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 1009},
    "bloom": {"hidden_size": 32, "n_layer": 2, "n_head": 4},
    "mistral": SIZES | {"sliding_window": 13},
    "gemma3_text": SIZES
    | {"sliding_window": 13, "head_dim": 8, "layer_types": ["sliding_attention", "full_attention"]},
    "mamba": {"hidden_size": 32, "num_hidden_layers": 2, "state_size": 5},
    "rwkv": {"hidden_size": 32, "attention_hidden_size": 32, "num_hidden_layers": 2},
    "dynamic": SIZES | {"rope_parameters": {"rope_type": "dynamic", "rope_theta": 10_000.0, "factor": 4.0}},
}
WHOLE = {"llama", "gpt2", "bloom"}  # kinds whose cache can be cut
TEMPLATE = (
    "{% for m in messages %}<|{{ m.role }}|>\n{{ m.content }}<|end|>\n{% endfor %}{{ '<|assistant|>\n' }}"
)
STARTS = ("<|user|>", "<|assistant|>")


def tokenizer(*, start=False, template=None):
    """Byte-level pairs as in GPT-2, learned from prose; `start` puts a token before each text."""
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    special = ["<|end|>", "<|start|>", *STARTS]
    letters = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=409, special_tokens=special, initial_alphabet=letters, show_progress=False
    )
    made.train_from_iterator([Prose().text(0, 20_000)], trainer)
    if start:
        made.post_processor = processors.TemplateProcessing(
            single="<|start|> $A", special_tokens=[("<|start|>", 1)]
        )
    fast = PreTrainedTokenizerFast(
        tokenizer_object=made, eos_token="<|end|>", bos_token="<|start|>", add_bos_token=start
    )
    fast.chat_template = template
    return fast


def save(folder, kind="llama", *, seed=0, ends=0, **options):
    """Write a random model of `kind` with its tokenizer; weights large enough that replies vary."""
    made = tokenizer(**options)
    name = "llama" if kind == "dynamic" else kind
    ids = {"bos_token_id": 1, "eos_token_id": ends, "pad_token_id": 0}
    config = AutoConfig.for_model(name, vocab_size=len(made), **KINDS[kind], **ids)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = AutoModelForCausalLM.from_config(config)
        for weight in model.parameters():
            weight.data += 0.15 * torch.randn_like(weight)
    model.generation_config.do_sample = True
    model.generation_config.temperature = 1.7
    model.generation_config.repetition_penalty = 3.0
    made.save_pretrained(folder)
    model.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """A folder for each kind of model and its options, written when it is first asked for."""
    root, made = tmp_path_factory.mktemp("models"), {}

    def folder(kind="llama", **options):
        name = (kind, *options.items())
        if name not in made:
            made[name] = save(root / f"{len(made)}", kind, **options)
        return made[name]

    return folder


@pytest.fixture
def no_network(monkeypatch):
    """The hub counts as reachable, and whoever asks for it fails."""
    from huggingface_hub import constants

    asked = []

    def refuse(*address, **_):
        asked.append(address)
        raise OSError("the network was asked")

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    return asked


def by_depth(count, words, needle="The code for amber is 472."):
    """Prompts that differ in where among `words` words of haystack the needle lies."""
    hay = Prose().text(1, 40 * words).split()[:words]
    prompts = []
    for depth in np.linspace(0, 1, count):
        at = round(depth * words)
        context = " ".join([*hay[:at], needle, *hay[at:]])
        prompts.append(f"Remember the code.\n\n{context}\n\nQuestion: What is the code?\nAnswer: The code is")
    return prompts


def answered(model, prompts, max_tokens=7):
    """The replies in the order of the prompts."""
    replies = dict(model.generate(prompts, max_tokens=max_tokens))
    assert sorted(replies) == list(range(len(prompts)))
    return [replies[i] for i in range(len(prompts))]


def says(model, *tokens):
    """Make a model say these tokens one after the other."""
    told = [token.replace(" ", "Ġ").replace("\n", "Ċ") for token in tokens]
    script = iter(model._tokenizer.convert_tokens_to_ids(told))

    def say(_, __, out):
        out.logits[0, -1, next(script)] = 1e6

    model._model.register_forward_hook(say)


def tree(model, prompts):
    """How many tokens have to be computed at least: the distinct beginnings of the prompts."""
    told = [model.encode(prompt).ids for prompt in prompts]
    return len({ids[:n] for ids in told for n in range(1, len(ids) + 1)})


def generated(folder, prompts, max_tokens=7):
    """The greedy replies of transformers itself, as texts up to the end token."""
    model = AutoModelForCausalLM.from_pretrained(folder, local_files_only=True)
    reader = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    model.generation_config = GenerationConfig(
        do_sample=False, max_new_tokens=max_tokens, eos_token_id=0, pad_token_id=0
    )
    texts = []
    for prompt in prompts:
        ids = reader(prompt, return_tensors="pt")
        out = model.generate(input_ids=ids["input_ids"], attention_mask=ids["attention_mask"])
        texts.append(reader.decode(out[0, ids["input_ids"].shape[1] :], skip_special_tokens=True))
    return texts


@pytest.mark.parametrize(("kind", "chunk"), [*((kind, 19) for kind in KINDS), ("llama", 2048)])
def test_replies_are_those_of_transformers(folders, monkeypatch, kind, chunk):
    monkeypatch.setattr(huggingface, "CHUNK", chunk)
    prompts = by_depth(4, 50)
    model = HuggingFace(folders(kind), one_line=False)
    assert model.reuse == (kind in WHOLE)
    replies = answered(model, prompts)
    assert [reply.text for reply in replies] == generated(folders(kind), prompts)
    assert {reply.error for reply in replies} == {None}
    assert len({reply.text for reply in replies}) > 1 or kind not in WHOLE, "the needle's place matters"
    computed, total = (sum(getattr(r, n) for r in replies) for n in ("computed", "prompt_tokens"))
    assert computed == (tree(model, prompts) if kind in WHOLE else total)


@pytest.mark.parametrize("seed", [0, 1])
def test_replies_do_not_depend_on_reuse(folders, seed):
    prompts = [
        prompt.replace("amber", key).replace("472", number)
        for key, number in (("amber", "472"), ("cedar", "118"))
        for prompt in by_depth(11, 37)
    ]
    folder = folders(seed=seed)
    with_reuse = answered(HuggingFace(folder, one_line=False), prompts)
    without = answered(HuggingFace(folder, one_line=False, reuse=False), prompts)
    assert [r.text for r in with_reuse] == [r.text for r in without]
    assert len({r.text for r in without}) > 11
    assert [r.completion_tokens for r in with_reuse] == [r.completion_tokens for r in without]
    assert all(r.computed == r.prompt_tokens for r in without)
    assert sum(r.computed for r in with_reuse) < 0.7 * sum(r.computed for r in without)


def test_logits_are_equal_to_within_rounding_after_a_cut(folders):
    model, fresh = HuggingFace(folders()), HuggingFace(folders(), reuse=False)
    seen = {}
    for name, one in (("cut", model), ("fresh", fresh)):
        one._model.register_forward_hook(
            lambda _, __, out, name=name: seen.setdefault(name, []).append(out.logits[0, -1])
        )
        answered(one, by_depth(5, 61), 1)
    cut, whole = torch.stack(seen["cut"]), torch.stack(seen["fresh"])
    assert whole.std() > 0.5
    torch.testing.assert_close(cut, whole, rtol=1e-4, atol=1e-4)


def test_eleven_depths_reach_the_ceiling(folders):
    model, prompts = HuggingFace(folders()), by_depth(11, 330)
    replies = answered(model, prompts, 1)
    total, computed = sum(r.prompt_tokens for r in replies), sum(r.computed for r in replies)
    assert computed == tree(model, prompts), "no token twice, and none that had to be computed left out"
    assert 1.6 < total / computed < 11 / 6.5
    shuffled = [prompts[i] for i in np.random.default_rng(0).permutation(11)]
    assert sum(r.computed for r in answered(model, shuffled, 1)) == computed


def test_what_is_shared_by_hand(folders):
    model = HuggingFace(folders(), chat="never")
    a, b = "The sailor found the boat", "The sailor found the boat near the mill"
    long, short = len(model.encode(b).ids), len(model.encode(a).ids)
    computed = [r.computed for r in answered(model, [b, a, "Nobody", b])]
    assert computed == [long - short, short, len(model.encode("Nobody").ids), 1], (
        "the last token is computed always"
    )


@pytest.mark.parametrize(
    ("one_line", "tokens", "text", "count"),
    [
        (None, (" the", "a", "<|end|>"), "thea", 3),
        (None, (" the", "a", "a", "a", "a"), "theaaaa", 5),
        (None, (" the", "\n"), "the", 2),
        (None, ("\n", "\n", " the", "\n"), "the", 4),
        (None, ("<|end|>",), "", 1),
        (False, (" the", "\n", "a", "\n", "<|end|>"), " the\na\n", 5),
        (True, (" the", "<|user|>", "\n"), "the", 3),
    ],
)
def test_a_reply_ends_at_an_end_token_the_limit_or_its_line(folders, one_line, tokens, text, count):
    model = HuggingFace(folders(), one_line=one_line)
    says(model, *tokens)
    reply = answered(model, ["The"], 5)[0]
    assert (reply.text, reply.completion_tokens, reply.error) == (text, count, None)


def test_every_end_token_of_the_model_counts(folders, tmp_path):
    folder = save(tmp_path, ends=0)
    model = AutoModelForCausalLM.from_pretrained(folder, local_files_only=True)
    ids = AutoTokenizer.from_pretrained(folder, local_files_only=True)("The sailor")["input_ids"]
    token = int(model(torch.tensor([ids])).logits[0, -1].argmax())
    settings = json.loads((folder / "generation_config.json").read_text())
    (folder / "generation_config.json").write_text(json.dumps(settings | {"eos_token_id": [3, token]}))
    reply = answered(HuggingFace(folder, one_line=False), ["The sailor"])[0]
    assert (reply.text, reply.completion_tokens) == ("", 1)


def test_encode_gives_tokens_and_where_they_start(folders):
    model = HuggingFace(folders(start=True))
    text = "The sailor found 東京.\n\nAnswer"
    found = model.encode(text)
    assert found.starts[0] == 0
    assert list(found.starts) == sorted(found.starts)
    assert model._tokenizer.decode(list(found.ids)) == text, "without special tokens"
    assert len(found.ids) == len(found.starts)
    for start, following in pairwise(dict.fromkeys(found.starts)):
        assert text[start:following]
    assert model.encode("").ids == ()


@pytest.mark.parametrize(
    ("options", "chat", "overhead"),
    [
        ({}, "auto", 0),
        ({"start": True}, "auto", 1),
        ({"template": TEMPLATE}, "auto", 6),
        ({"template": TEMPLATE, "start": True}, "always", 6),
        ({"template": TEMPLATE, "start": True}, "never", 1),
    ],
)
def test_overhead_is_what_a_prompt_gains(folders, options, chat, overhead):
    model = HuggingFace(folders(**options), chat=chat)
    assert model.overhead() == overhead
    for prompt in (*by_depth(3, 40), "x"):
        reply = answered(model, [prompt], 1)[0]
        assert reply.prompt_tokens == len(model.encode(prompt).ids) + overhead


def test_the_chat_template_is_used_where_there_is_one(folders):
    folder = folders(template=TEMPLATE)
    written = "<|user|>\nThe boat<|end|>\n<|assistant|>\n"
    for chat, one_line, read in (("auto", None, written), ("never", False, "The boat")):
        reply = answered(HuggingFace(folder, chat=chat, one_line=one_line), ["The boat"])[0]
        assert [reply.text] == generated(folder, [read])
    for chat, text in (("auto", " the\na"), ("never", "the")):
        model = HuggingFace(folder, chat=chat)
        says(model, " the", "\n", "a", "<|end|>")
        assert answered(model, ["The boat"])[0].text == text, "the first line alone but in a chat"


def test_a_prompt_beyond_the_window_is_an_error_and_the_others_are_answered(folders):
    model = HuggingFace(folders())
    assert model.window == 1009
    short, long = "The boat", "The boat " * 700
    tokens = len(model.encode(long).ids)
    replies = answered(model, [long, short, ""], 5)
    assert (replies[0].text, replies[0].computed, replies[0].prompt_tokens) == ("", 0, tokens)
    assert replies[0].error == (
        f"The prompt has {tokens} tokens and the reply up to 5; the model's window is 1009."
    )
    assert replies[1].error is None
    assert replies[2].error == "The prompt has no tokens."


def test_the_window_holds_prompt_and_reply(folders):
    model = HuggingFace(folders("gpt2"), one_line=False)
    prompt = "~" * 1000  # prose has none, so each is a token
    assert len(model.encode(prompt).ids) == 1000
    fits, beyond = (answered(model, [prompt], limit)[0] for limit in (9, 10))
    assert (fits.error, fits.completion_tokens) == (None, 9)
    assert "1000 tokens and the reply up to 10" in beyond.error


@pytest.mark.parametrize(("kind", "window"), [("bloom", None), ("mamba", None), ("gpt2", 1009)])
def test_the_window_is_what_the_model_says(folders, kind, window):
    assert HuggingFace(folders(kind)).window == window


def test_a_failure_in_the_model_costs_one_prompt(folders, monkeypatch):
    model, prompts = HuggingFace(folders()), by_depth(5, 30)
    expected = [reply.text for reply in answered(model, prompts)]
    count = iter(range(100))
    continued = model._continued

    def sometimes(*arguments):
        reply = continued(*arguments)
        if next(count) == 2:
            raise torch.OutOfMemoryError("CUDA out of memory.\nTried to allocate 7 TiB.")
        return reply

    monkeypatch.setattr(model, "_continued", sometimes)
    replies = answered(model, prompts)
    bad = [i for i, reply in enumerate(replies) if reply.error]
    assert len(bad) == 1
    size = replies[bad[0]].prompt_tokens
    assert replies[bad[0]].error == f"The model failed at a prompt of {size} tokens (CUDA out of memory)."
    assert [r.text for i, r in enumerate(replies) if i not in bad] == [
        text for i, text in enumerate(expected) if i not in bad
    ]


def test_it_is_a_language_model_by_name(folders):
    model = open_model(f"hf:{folders()}", chat="never")
    assert isinstance(model, HuggingFace)
    assert isinstance(model, LanguageModel)
    assert model.name == f"hf:{folders()}"


def test_dtype_and_device_can_be_chosen(folders):
    model = HuggingFace(folders(), dtype="bfloat16", device="cpu")
    assert {p.dtype for p in model._model.parameters()} == {torch.bfloat16}
    assert answered(model, ["The boat"], 2)[0].error is None


def test_a_folder_never_touches_the_network(folders, no_network, monkeypatch):
    assert answered(HuggingFace(folders()), ["The boat"])[0].error is None
    assert not no_network
    monkeypatch.setattr("time.sleep", lambda _: None)  # between attempts
    with pytest.raises(ValueError, match="path is somebody/else, which cannot be loaded"):
        HuggingFace("somebody/else")
    assert no_network, "while a name on the hub does"


def test_nothing_is_left_in_inference_mode(folders):
    replies = HuggingFace(folders()).generate(["The boat", "The mill"], max_tokens=2)
    next(replies)
    assert not torch.is_inference_mode_enabled()
    assert torch.ones(1, requires_grad=True).sum().requires_grad


def test_a_missing_folder_is_named(tmp_path, no_network):
    with pytest.raises(ValueError, match=r"path is .*/none, where there is no folder; allowed is"):
        HuggingFace(tmp_path / "none")
    with pytest.raises(ValueError, match=r"path is \./none, where there is no folder"):
        HuggingFace("./none")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match=r"a folder without config\.json"):
        HuggingFace(tmp_path / "empty")
    assert not no_network


def broken(folder, how):
    if how == "weights missing":
        (folder / "model.safetensors").unlink()
    elif how == "weights cut":
        path = folder / "model.safetensors"
        path.write_bytes(path.read_bytes()[:1000])
    elif how == "a weight missing":
        from safetensors.torch import load_file, save_file

        weights = load_file(folder / "model.safetensors")
        del weights["model.layers.1.mlp.up_proj.weight"]
        save_file(weights, folder / "model.safetensors", {"format": "pt"})
    elif how == "unknown kind":
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps(config | {"model_type": "none"}))
    elif how == "tokenizer missing":
        (folder / "tokenizer.json").unlink()
    elif how == "own code":
        config = json.loads((folder / "config.json").read_text()) | {"model_type": "own"}
        own = {"AutoConfig": "own.Config", "AutoModelForCausalLM": "own.Model"}
        (folder / "config.json").write_text(json.dumps(config | {"auto_map": own}))
        (folder / "own.py").write_text(f"open({str(folder / 'ran')!r}, 'w')")


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("weights missing", "which cannot be loaded"),
        ("weights cut", "which cannot be loaded"),
        ("a weight missing", r"which lacks weights \(model\.layers\.1\.mlp\.up_proj\.weight\)"),
        ("unknown kind", "which cannot be loaded"),
        ("tokenizer missing", "which"),
        ("own code", "which cannot be loaded"),
    ],
)
def test_a_broken_folder_is_named(tmp_path, no_network, how, message):
    folder = save(tmp_path)
    broken(folder, how)
    with pytest.raises(ValueError, match=message) as caught:
        HuggingFace(folder)
    assert re.fullmatch(r"path is [^\n]*\.", str(caught.value)), "one line"
    assert not (folder / "ran").exists(), "the code in the folder"
    assert not no_network


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            partial(HuggingFace, chat="sometimes"),
            "chat is 'sometimes'; allowed is 'auto', 'always' or 'never'",
        ),
        (partial(HuggingFace, chat="always"), "chat is 'always', but .* has no chat template; allowed"),
        (partial(HuggingFace, dtype="float23"), "dtype is 'float23'; allowed"),
        (partial(HuggingFace, device="nowhere"), "device is 'nowhere', which cannot hold the model"),
    ],
)
def test_bad_settings_are_refused(folders, make, message):
    with pytest.raises(ValueError, match=message):
        make(folders())


def test_a_template_that_fails_is_named(folders):
    with pytest.raises(ValueError, match=r"chat template of .* fails \(no system\)"):
        HuggingFace(folders(template="{{ raise_exception('no system') }}"))


def test_max_tokens_below_one_is_refused_before_the_first_request(folders):
    with pytest.raises(ValueError, match="max_tokens is 0; allowed is 1 or more"):
        HuggingFace(folders()).generate(["The boat"], max_tokens=0)


def test_a_missing_library_is_named(folders, monkeypatch):
    folder = folders()
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(ValueError, match=r"need transformers: pip install 'lcbook\[llm\]'"):
        HuggingFace(folder)
