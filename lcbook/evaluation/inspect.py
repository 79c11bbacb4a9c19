"""A sweep's prompts as a task of Inspect (inspect_ai): the same texts, answers and scores, asked by its models."""

from __future__ import annotations

import importlib
from typing import Any

from lcbook.evaluation.scorers import SCORERS
from lcbook.evaluation.sweep import Design, prompt
from lcbook.llm.protocol import LanguageModel
from lcbook.tasks.haystacks import open_haystack


def inspect_samples(design: Design, model: LanguageModel) -> list[Any]:
    """Return an inspect_ai Sample for each request of `design`, in its order.

    `input` is the prompt, exact in the tokenizer of `model` (of which only that is used); `target` has the answers.
    `metadata` has the columns by which a sweep is told apart: task, length, depth, sample, and tokens, needle, chance,
    scorer. Raises ValueError if inspect_ai is missing or the facts do not fit into a length.
    """
    dataset, around, samples = _inspect("dataset"), open_haystack(design.haystack), []
    for at in design.places():
        task, length, depth, sample = at
        built = prompt(model, design, at, around)
        told: dict[str, Any] = {"task": task, "length": length, "depth": depth, "sample": sample}
        told |= {name: getattr(built, name) for name in ("tokens", "needle", "chance", "scorer")}
        name = f"{task}-{length}-{depth}-{sample}"
        samples.append(dataset.Sample(input=built.text, target=list(built.answers), id=name, metadata=told))
    return samples


def recall_scorer() -> Any:
    """Return an inspect_ai scorer: the share of a sample's answers that the reply holds, by our own scorers.

    Its metrics are the mean, and the standard error over samples as clusters. Raises ValueError if inspect_ai is
    missing.
    """
    scoring = _inspect("scorer")

    @scoring.scorer(metrics=[scoring.mean(), scoring.stderr(cluster="sample")], name="recall")
    def recall() -> Any:
        async def score(state: Any, target: Any) -> Any:
            right, asked = SCORERS[state.metadata["scorer"]](state.output.completion, list(target))
            return scoring.Score(
                value=right / asked, answer=state.output.completion, metadata={"right": right, "asked": asked}
            )

        return score

    return recall()


def inspect_task(design: Design, model: LanguageModel, *, name: str = "recall") -> Any:
    """Return `design` as an inspect_ai Task: `inspect_samples`, greedy replies, `recall_scorer`.

    Use: `inspect_ai.eval(inspect_task(design, model), model="openai/...")`. A model that thinks before it answers needs
    more `design.reply_tokens`. Raises ValueError as `inspect_samples`.
    """
    samples = inspect_samples(design, model)
    return _inspect("").Task(
        dataset=_inspect("dataset").MemoryDataset(samples, name=name),
        solver=[_inspect("solver").generate()],
        scorer=recall_scorer(),
        config=_inspect("model").GenerateConfig(temperature=0.0, max_tokens=design.reply_tokens),
        name=name,
    )


def _inspect(part: str) -> Any:
    """Return inspect_ai or one of its modules. Raises ValueError if it is not installed."""
    try:
        return importlib.import_module(f"inspect_ai.{part}" if part else "inspect_ai")
    except ImportError as error:
        raise ValueError(
            f"inspect_ai cannot be imported ({error}); allowed is an environment with it: pip install inspect_ai."
        ) from error
