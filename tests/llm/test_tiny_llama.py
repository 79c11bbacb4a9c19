"""The small Llama of the book: that it recalls, where that ends, and that it answers over HTTP as it does here."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import torch

from lcbook import cli
from lcbook.evaluation.files import read_requests
from lcbook.evaluation.sweep import Design, run_sweep
from lcbook.llm import open as real_models
from lcbook.llm.endpoint import Endpoint
from lcbook.models.llama import _check_spec
from lcbook.tasks.item_texts import ItemTexts, vocabulary
from tests.llm.test_endpoint import transformers_serve  # noqa: F401
from tools.tiny_llama import SPEC, STAGES, WINDOW, build, start

NEAR = Design(("needle", "multi_key"), (128, 192), (0.0, 0.5, 1.0), samples=6, reply_tokens=8)


def silent(step) -> None:
    pass


def share(frame) -> float:
    return frame["correct"].sum() / frame["total"].sum()


@pytest.fixture(scope="module")
def llama():
    return real_models.tiny_llama()


def test_it_recalls_within_its_training_length_and_not_far_beyond(llama, tmp_path):
    assert max(length for _, length, _ in STAGES) == 224
    near = run_sweep(llama, NEAR, tmp_path / "near", progress=silent)
    assert (near["prompt_tokens"] + 8).isin([128, 192]).all(), "prompts are exact in this tokenizer"
    assert share(near) > 0.9
    far = Design(("multi_key",), (768,), (0.0, 0.5, 1.0), samples=6, reply_tokens=8)
    assert share(run_sweep(llama, far, tmp_path / "far", progress=silent)) < 0.5


def test_reuse_changes_no_reply_and_saves_what_it_can(llama, tmp_path):
    design = Design(("multi_key",), (192,), tuple(i / 10 for i in range(11)), samples=3, reply_tokens=8)
    anew = run_sweep(real_models.tiny_llama(reuse=False), design, tmp_path / "anew", progress=silent)
    kept = run_sweep(llama, design, tmp_path / "kept", progress=silent)
    assert kept["reply"].tolist() == anew["reply"].tolist()
    assert (anew["computed"] == anew["prompt_tokens"]).all()
    # Samples share their opening words too, so a little more than the ceiling within one of them can be saved.
    assert 0.9 < kept["prompt_tokens"].sum() / kept["computed"].sum() / (11 / 6.5) < 1.05


def test_it_computes_on_one_thread_and_leaves_the_others_to_the_rest(llama):
    before, seen = torch.get_num_threads(), []
    torch.set_num_threads(2)
    hook = llama._model.register_forward_pre_hook(lambda *_: seen.append(torch.get_num_threads()))
    try:
        next(llama.generate(["What is it?"], max_tokens=2))
        assert (seen, torch.get_num_threads()) == ([1, 1], 2)
    finally:
        hook.remove()
        torch.set_num_threads(before)


def test_its_folder_is_small_and_says_how_it_was_made():
    files = {path.name: path.stat().st_size for path in real_models.TINY.iterdir()}
    assert sum(files.values()) < 3_000_000
    told = (real_models.TINY / "README.md").read_text()
    assert "tools/tiny_llama.py" in told
    assert str(WINDOW) in told
    assert re.search(r"224 tokens", told)


@pytest.mark.slow
def test_its_weights_answer_alike_in_the_model_that_was_trained(llama):
    """The texts of training are read in the same way: the words after the prompt of an item are the answer."""
    batch = ItemTexts(("multi_key",)).sample(16, 160, torch.Generator().manual_seed(3))
    words = np.array(vocabulary())
    right = 0
    for row, at, answers in zip(batch.tokens, batch.at, batch.answers, strict=True):
        text = " ".join(words[row[: at[0] + 1].numpy()])
        assert llama.encode(text).ids == tuple(row[: at[0] + 1].tolist())
        reply = next(iter(llama.generate([text], max_tokens=2)))[1].text
        right += reply.split()[:1] == [words[answers[0]]]
    assert right >= 14


def test_the_start_looks_back_and_can_be_exported():
    model = build(SPEC, len(vocabulary()), 0)
    start(model)
    _check_spec(model)
    tokens = torch.randint(len(vocabulary()), (1, 40), generator=torch.Generator().manual_seed(0))
    layer = model.layers[0]
    asked = layer.attention.project(layer.attention_norm(model.embed(tokens)), torch.arange(40)[None])
    q, k = asked.q, asked.k
    scores = (q @ k.mT).masked_fill(torch.ones(40, 40).triu(1).bool(), -1e9) / q.shape[-1] ** 0.5
    for head in range(3):
        assert (scores[0, head, 8:].argmax(-1) == torch.arange(8, 40) - head - 1).float().mean() > 0.6


def test_the_command_asks_it_by_name(tmp_path, capsys):
    asked = ["recall", "--model", "tiny", "--tasks", "needle", "--lengths", "128", "--depths", "2"]
    assert cli.main([*asked, "--samples", "2", "--out", str(tmp_path / "report")]) == 0
    page = (tmp_path / "report" / "index.html").read_text()
    assert "tiny" in page
    assert str(Path(real_models.TINY)) not in page
    assert not re.search(r"""(src|href)=["']?(https?:)?//""", page)
    assert share(read_requests(tmp_path / "report")) == 1


@pytest.mark.slow
def test_scores_are_the_same_over_http(llama, transformers_serve, tmp_path):  # noqa: F811
    here = run_sweep(llama, NEAR, tmp_path / "here", progress=silent)
    endpoint = Endpoint(str(real_models.TINY), transformers_serve, tokenizer=real_models.TINY, chat="never")
    there = run_sweep(endpoint, NEAR, tmp_path / "there", progress=silent)
    columns = ["task", "length", "depth", "sample", "prompt_tokens", "reply", "correct", "total"]
    assert there["error"].isna().all()
    assert there[columns].to_dict("records") == here[columns].to_dict("records")
