"""Items as words: the layout of a prompt with its answer behind it, nothing unknown, and the answers as scored."""

import re

import pytest
import torch

from lcbook.tasks.item_texts import END, UNKNOWN, ItemTexts, reply, vocabulary
from lcbook.tasks.items import ITEMS, draw


def written(task, length=211, seed=3, **options):
    batch = ItemTexts((task,), **options).sample(7, length, torch.Generator().manual_seed(seed))
    names = vocabulary()
    return batch, [" ".join(names[token] for token in row) for row in batch.tokens.tolist()]


@pytest.mark.parametrize("competing", [0.0, 1.0])
@pytest.mark.parametrize("task", ITEMS)
def test_no_word_is_unknown_and_the_answer_stands_at_the_end(task, competing):
    batch, texts = written(task, competing=competing)
    for text in texts:
        assert UNKNOWN not in text
        assert text.endswith(f". {END}")
        assert re.search(r"Question : .* Answer : ", text)
    assert (batch.tokens.gather(1, batch.at + 1) == batch.answers).all()
    assert (batch.answers[:, -1] == vocabulary().index(END)).all()


def test_the_answer_is_right():
    for text in written("multi_key", competing=1.0)[1]:
        key, value = re.search(r"Answer : The code for (\w+) is (\d+) \.", text).groups()
        assert f"The code for {key} is {value} ." in text.split("Question")[0]
    for text in written("summary")[1]:
        context, _, answer = text.partition("Question")
        assert re.findall(r"is (\d+) \.", context) == re.findall(r"\d+", answer)


def test_reply_is_what_the_scorer_looks_for():
    assert reply(draw("needle", 1)) == f"{draw('needle', 1).answers[0]}."
    a, b, c = draw("multi_value", 1).answers
    assert reply(draw("multi_value", 1)) == f"{a}, {b} and {c}."
    assert reply(draw("copy", 1)) == " ".join(draw("copy", 1).answers) + "."


def test_gap_points_at_the_needle():
    batch, _ = written("needle")
    the = vocabulary().index("The")
    assert (batch.tokens.gather(1, batch.at - batch.gap) == the).all()


def test_bad_input():
    with pytest.raises(ValueError, match="length is 20; allowed is at least"):
        written("multi_key", length=20)
    with pytest.raises(ValueError, match="tasks is"):
        ItemTexts(("none",))
    with pytest.raises(ValueError, match="competing is 2"):
        ItemTexts(competing=2)
    with pytest.raises(ValueError, match="batch is 0"):
        ItemTexts().sample(0, 99, torch.Generator())
