"""The export to Inspect: the prompts of a sweep, and the score that it computes is ours.

inspect_log.json is what inspect_ai 0.3.285 itself made of the task, with its own mock of a model. It is written by
`python -m tests.evaluation.test_inspect` in an environment with inspect_ai; the tests need none.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest

from lcbook.evaluation import inspect
from lcbook.evaluation.sweep import Design, run_sweep
from lcbook.stats.clustered import clustered_recall
from tests.fake_model import Fake, answer

DESIGN = Design(("needle", "multi_query", "copy"), (151,), (0.0, 1.0), samples=3, seed=2)
LOG = Path(__file__).parent / "inspect_log.json"


def reply(prompt: str) -> str:
    """Half a fake's answers: of four codes the last two are missing, and every third needle."""
    if "in order" in prompt:
        return "The list is anvil, needle."
    words = answer(prompt).split()
    return " ".join(words[:2]) if len(words) > 1 or int(words[0]) % 3 else "1"


class Half(Fake):
    def generate(self, prompts, *, max_tokens):
        for index, given in super().generate(prompts, max_tokens=max_tokens):
            yield index, type(given)(reply(prompts[index]), given.prompt_tokens, 2, 2, 0.0)


def digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def write_log(folder: str) -> None:
    """Run the task in Inspect and keep what it logs of each sample."""
    import inspect_ai
    from inspect_ai.model import ModelOutput, ModelUsage, get_model

    def mocked(messages, *_):
        output = ModelOutput.from_content("mockllm/model", reply(messages[0].text))
        output.usage = ModelUsage(input_tokens=7, output_tokens=2)  # else tiktoken would fetch a vocabulary
        return output

    model = get_model("mockllm/model", custom_outputs=mocked)
    task = inspect.inspect_task(DESIGN, Fake())
    (log,) = inspect_ai.eval(task, model=model, log_dir=folder, display="none")
    assert log.status == "success", log.error
    kept = [
        {
            "id": one.id, "input": digest(one.input), "target": one.target, "metadata": one.metadata,
            "output": one.output.completion, "recall": one.scores["recall"].model_dump(include={"value", "metadata"}),
        }
        for one in log.samples
    ]  # fmt: skip
    told = {
        "inspect_ai": version("inspect_ai"),
        "config": log.plan.config.model_dump(exclude_none=True),
        "metrics": {name: metric.value for name, metric in log.results.scores[0].metrics.items()},
    }
    lines = ",\n".join(f"  {json.dumps(one)}" for one in kept)
    LOG.write_text(f'{json.dumps(told, indent=1)[:-2]},\n "samples": [\n{lines}\n ]\n}}\n', encoding="utf8")


@pytest.fixture
def log(monkeypatch) -> dict:
    """What Inspect made of the task; meanwhile its classes are values that keep what they are given."""
    told = {
        "dataset": SimpleNamespace(Sample=SimpleNamespace, MemoryDataset=lambda samples, name: samples),
        "scorer": SimpleNamespace(
            scorer=lambda **_: lambda made: made,
            mean=str,
            stderr=lambda cluster: cluster,
            Score=SimpleNamespace,
        ),
        "solver": SimpleNamespace(generate=str),
        "model": SimpleNamespace(GenerateConfig=SimpleNamespace),
    }
    monkeypatch.setitem(sys.modules, "inspect_ai", SimpleNamespace(Task=SimpleNamespace))
    for name, module in told.items():
        monkeypatch.setitem(sys.modules, f"inspect_ai.{name}", module)
    return json.loads(LOG.read_text(encoding="utf8"))


def test_without_inspect_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "inspect_ai.dataset", None)
    monkeypatch.setitem(sys.modules, "inspect_ai", None)
    with pytest.raises(ValueError, match="allowed is an environment with it: pip install inspect_ai"):
        inspect.inspect_samples(DESIGN, Fake())


def test_what_inspect_asked_is_the_sweep(log, tmp_path):
    model = Fake()
    frame = run_sweep(model, DESIGN, tmp_path, progress=lambda step: None)
    task = inspect.inspect_task(DESIGN, Fake())
    assert [sample.input for sample in task.dataset] == [text for call in model.asked for text in call]
    assert [sample.target for sample in task.dataset] == frame["answers"].tolist()
    assert [sample.metadata["needle"] for sample in task.dataset] == frame["needle"].tolist()
    assert vars(task.config) == log["config"]
    logged = {one["id"]: one for one in log["samples"]}
    assert len(logged) == len(task.dataset) == 18
    for sample in task.dataset:
        told = [logged[sample.id][name] for name in ("input", "target", "metadata")]
        assert told == [digest(sample.input), sample.target, sample.metadata]


def test_the_score_is_ours(log, tmp_path):
    frame = run_sweep(Half(), DESIGN, tmp_path, progress=lambda step: None)
    score, logged = inspect.recall_scorer(), []
    for one in log["samples"]:
        state = SimpleNamespace(metadata=one["metadata"], output=SimpleNamespace(completion=one["output"]))
        with ThreadPoolExecutor(1) as thread:  # the browser of other tests may keep the loop of this one
            found = thread.submit(asyncio.run, score(state, one["target"])).result()
        assert (found.value, found.metadata) == (one["recall"]["value"], one["recall"]["metadata"])
        told = one["recall"]["metadata"]
        logged.append(one["metadata"] | {"correct": told["right"], "total": told["asked"]})
    theirs = pd.DataFrame(logged)
    both = theirs.merge(frame, on=["task", "length", "depth", "sample"], suffixes=("_theirs", "_ours"))
    assert len(both) == 18
    for name in ("correct", "total"):
        assert (both[f"{name}_theirs"] == both[f"{name}_ours"]).all()
    shares = frame["correct"] / frame["total"]
    assert log["metrics"]["mean"] == pytest.approx(shares.mean())
    assert 0 < shares.mean() < 1
    # stderr(cluster="sample"): sums over the clusters of deviations from the mean.
    sums = (shares - shares.mean()).groupby(frame["sample"]).sum()
    assert log["metrics"]["stderr"] == pytest.approx((3 / 2 * (sums**2).sum()) ** 0.5 / 18)
    ours, exported = (clustered_recall(f, "task").set_index("task").sort_index() for f in (frame, theirs))
    assert exported[["recall", "low", "high"]].equals(ours[["recall", "low", "high"]])


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as logs:
        write_log(logs)
