"""Short ways to ask a model and to change it, for tests that are about what comes out."""

from __future__ import annotations

from typing import Any

from lcbook.experiments.changes import Change, changed
from lcbook.experiments.measures import Depth, Gap, Recall, Together
from lcbook.experiments.spec import Spec
from lcbook.experiments.streaming import Streamed
from lcbook.models.decoder import Decoder
from lcbook.tasks.base import Task
from lcbook.tasks.recall import KeyValueRecall


def recall_rows(
    model: Decoder,
    task: Task,
    length: int,
    questions: int,
    *,
    seed: int,
    by: Gap | Depth | Together = Gap(),  # noqa: B008
    measure: type[Recall] = Recall,
    before: Decoder | None = None,
) -> list[dict[str, Any]]:
    return measure((length,), questions, task, by).rows(model, Spec(), seed=seed, before=before)


def streamed_rows(
    model: Decoder, task: Task, length: int, questions: int, *, seed: int
) -> list[dict[str, Any]]:
    return Streamed((length,), questions, task).rows(model, Spec(), seed=seed)


def after(model: Decoder, *changes: Change, task: Task = KeyValueRecall()) -> Decoder:
    return changed(model, changes, task=task, seed=0)
