"""The export to Inspect: the prompts of a sweep, and the score that it computes is ours."""

from __future__ import annotations

import sys

import pandas as pd
import pytest

from lcbook.evaluation import inspect
from lcbook.evaluation.sweep import Design, run_sweep
from lcbook.stats.clustered import clustered_recall
from tests.fake_model import Fake, answer

DESIGN = Design(("needle", "multi_query", "copy"), (151,), (0.0, 1.0), samples=3, seed=2)


def reply(prompt: str) -> str:
    """Half a fake's answers: of four codes the last two are missing, and every third needle."""
    if "in order" in prompt:
        return "The list is anvil, needle."
    words = answer(prompt).split()
    return " ".join(words[:2]) if len(words) > 1 or int(words[0]) % 3 else "1"


def test_without_inspect_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "inspect_ai.dataset", None)
    monkeypatch.setitem(sys.modules, "inspect_ai", None)
    with pytest.raises(ValueError, match="allowed is an environment with it: pip install inspect_ai"):
        inspect.inspect_samples(DESIGN, Fake())


def test_samples_are_the_prompts_of_the_sweep(tmp_path):
    pytest.importorskip("inspect_ai")
    model = Fake()
    frame = run_sweep(model, DESIGN, tmp_path, progress=lambda step: None)
    samples = inspect.inspect_samples(DESIGN, Fake())
    assert [sample.input for sample in samples] == [text for call in model.asked for text in call]
    assert [sample.target for sample in samples] == frame["answers"].tolist()
    assert [sample.metadata["needle"] for sample in samples] == frame["needle"].tolist()
    assert len({sample.id for sample in samples}) == len(samples) == 18


def test_the_score_is_ours(tmp_path, monkeypatch):
    inspect_ai = pytest.importorskip("inspect_ai")
    from inspect_ai.model import ModelOutput, ModelUsage, get_model

    class Half(Fake):
        def generate(self, prompts, *, max_tokens):
            for index, given in super().generate(prompts, max_tokens=max_tokens):
                yield index, type(given)(reply(prompts[index]), given.prompt_tokens, 2, 2, 0.0)

    frame = run_sweep(Half(), DESIGN, tmp_path / "ours", progress=lambda step: None)

    def mocked(messages, *_):
        output = ModelOutput.from_content("mockllm/model", reply(messages[0].text))
        output.usage = ModelUsage(input_tokens=7, output_tokens=2)  # else tiktoken would fetch a vocabulary
        return output

    mock = get_model("mockllm/model", custom_outputs=mocked)
    monkeypatch.setenv("INSPECT_DISPLAY", "none")
    (log,) = inspect_ai.eval(
        inspect.inspect_task(DESIGN, Fake()),
        model=mock,
        log_dir=str(tmp_path / "logs"),
        display="none",
    )
    assert log.status == "success", log.error
    theirs = pd.DataFrame(inspect.inspect_counts(log.samples))
    by = ["task", "length", "depth", "sample"]
    both = theirs.merge(frame, on=by, suffixes=("_theirs", "_ours"))
    assert len(both) == 18
    assert (both["correct_theirs"] == both["correct_ours"]).all()
    assert (both["total_theirs"] == both["total_ours"]).all()
    shares = frame["correct"] / frame["total"]
    metrics = {name: metric.value for name, metric in log.results.scores[0].metrics.items()}
    assert metrics["mean"] == pytest.approx(shares.mean())
    assert 0 < shares.mean() < 1
    assert 0 < metrics["stderr"] < 0.5
    ours, exported = (clustered_recall(f, "task").set_index("task").sort_index() for f in (frame, theirs))
    assert exported[["recall", "low", "high"]].equals(ours[["recall", "low", "high"]])
