"""Prompts: exact length and depth in five kinds of tokenizer, whole sentences, a shared prefix, and bad input."""

from __future__ import annotations

import re
import time
from bisect import bisect_left, bisect_right
from collections import Counter
from itertools import pairwise, takewhile

import pytest
from small_tokenizers import TOKENIZERS, Reader, reader, subwords

from lcbook.evaluation.prompts import Prompt, build
from lcbook.llm.protocol import LanguageModel
from lcbook.tasks.haystacks import NOISE, Competing, Files, Noise, Prose
from lcbook.tasks.items import ITEMS, Sizes, draw

REPLY = 11
HAYSTACKS = {"noise": Noise(), "prose": Prose(), "competing": Competing()}
DEPTHS = (0, 0.1, 0.37, 0.5, 0.83, 0.98, 1)


def shortest(item, model: LanguageModel) -> int:
    """The least length that the message of `build` names."""
    with pytest.raises(ValueError, match="length is 20; allowed is at least") as error:
        build(item, Noise(), model=model, length=20, depth=0, reply_tokens=REPLY, seed=0)
    return int(re.search(r"at least (\d+)", str(error.value)).group(1))


def needle_tokens(item, prompt: Prompt, model: LanguageModel) -> tuple[int, int, int]:
    """Count again, on the text alone: tokens before the context, of the context, and of the needle."""
    starts, sentence = model.encode(prompt.text).starts, item.facts[0].text
    begin, end = len(item.intro) + 2, prompt.text.rindex("\n\nQuestion: ")
    first = max(bisect_right(starts, begin) - 1, 0)
    at = [match.start() for match in re.finditer(re.escape(sentence), prompt.text)]
    place = next(place for place in at if bisect_right(starts, place) - 1 == prompt.needle)
    return first, bisect_left(starts, end) - first, bisect_left(starts, place + len(sentence)) - prompt.needle


def check(item, prompt: Prompt, model: LanguageModel, depth: float) -> None:
    """Assert what holds for every prompt, at every length."""
    first, context, size = needle_tokens(item, prompt, model)
    assert prompt.tokens == len(model.encode(prompt.text).ids) + model.overhead()
    assert prompt.context == context
    assert prompt.needle - first == round(depth * (context - size))
    assert prompt.text.startswith(f"{item.intro}\n\n")
    assert prompt.text.endswith(f"\n\nQuestion: {item.question}\nAnswer: {item.prefix}")
    for sentence, count in Counter(fact.text for fact in item.facts).items():
        assert prompt.text.count(sentence) == count


def test_by_hand_in_words():
    """56 tokens: 17 of the head, 16 of the tail, 3 of overhead, 9 of reply: 11 of context, 7 of them the needle."""
    item, model = draw("needle", 3), reader("words")
    key, code = item.facts[0].terms
    needle = f"The code for {key} is {code}."
    assert (item.intro, item.question, item.prefix) == (
        "The text below holds some codes. Remember them; you will be asked for them.",
        f"What is the code for {key}?",
        f"The code for {key} is",
    )
    head = len(model.encode(item.intro).ids)  # 7 words and a stop, 9 words, a semicolon and a stop
    tail = len(model.encode(f"Question: {item.question} Answer: {item.prefix}").ids)
    assert (head, tail) == (17, 16)
    for depth, context in (
        (0, f"{needle} The grass is green"),
        (0.5, f"The grass {needle} is green"),
        (1, f"The grass is green {needle}"),
    ):
        prompt = build(item, Noise(), model=model, length=56, depth=depth, reply_tokens=9, seed=0)
        assert prompt.text == f"{item.intro}\n\n{context}\n\nQuestion: {item.question}\nAnswer: {item.prefix}"
        assert (prompt.tokens, prompt.context, prompt.needle) == (47, 11, 17 + round(4 * depth))
        assert (prompt.answers, prompt.scorer, prompt.depth) == ((code,), "all", depth)


@pytest.mark.parametrize("task", ITEMS)
@pytest.mark.parametrize("kind", TOKENIZERS)
def test_length_and_depth_are_exact(kind, task):
    model = reader(kind)
    begin = list(ITEMS).index(task) + len(kind)
    for turn, depth in [(turn, DEPTHS[turn % 7]) for turn in range(begin, begin + 4)]:
        name = sorted(HAYSTACKS)[turn % 3]
        item = draw(task, turn, distractors=53 if name == "competing" else 0)
        length = shortest(item, model) + (0, 1, 2, 5, 59, 307)[turn % 6]
        if kind == "crossing":
            length += 61  # too tight for merges that cross every joint
        prompt = build(
            item, HAYSTACKS[name], model=model, length=length, depth=depth, reply_tokens=REPLY, seed=turn
        )
        check(item, prompt, model, depth)
        assert prompt.tokens + REPLY == length


@pytest.mark.parametrize("kind", TOKENIZERS)
def test_every_token_of_the_context_can_be_the_needle_s_place(kind):
    """Depths one token apart give places one token apart, through other sentences and to the very end."""
    model, item = reader(kind), draw("multi_value", 5)
    length = shortest(item, model) + 61
    prompt = build(item, Prose(), model=model, length=length, depth=0, reply_tokens=REPLY, seed=2)
    _, context, size = needle_tokens(item, prompt, model)
    free = context - size
    for place in {*range(0, free, 11), free - 3, free - 2, free - 1, free}:
        depth = place / free
        prompt = build(item, Prose(), model=model, length=length, depth=depth, reply_tokens=REPLY, seed=2)
        check(item, prompt, model, depth)
        assert prompt.tokens + REPLY == length


def test_never_over_where_no_cut_reaches_the_length():
    """A tokenizer of pairs of letters leaves a token over here and there: the prompt is then shorter, not longer."""
    model = Reader(subwords(900, crossing=True))
    below = 0
    for seed in range(2):
        item = draw("needle", seed)
        least = shortest(item, model)
        for length in range(least, least + 5):
            prompt = build(
                item, Prose(), model=model, length=length, depth=0.5, reply_tokens=REPLY, seed=seed
            )
            check(item, prompt, model, 0.5)
            assert length - 5 <= prompt.tokens + REPLY <= length
            below += prompt.tokens + REPLY < length
    assert below


@pytest.mark.parametrize("kind", ["words", "subwords", "trimmed", "bytes"])
def test_files_with_letters_of_several_bytes(kind, tmp_path):
    path = tmp_path / "text.txt"
    text = "Über den Wolken, so sagt man, ist 中文 alles frei.\n\nA part with no   end: 12 apples! "
    path.write_text(text * 9, "utf-8")
    model, item = reader(kind), draw("multi_key", 2)
    length = shortest(item, model) + 97
    for depth in DEPTHS:
        prompt = build(
            item, Files((str(path),)), model=model, length=length, depth=depth, reply_tokens=REPLY, seed=3
        )
        assert prompt.tokens + REPLY == length
        assert all(prompt.text.count(fact.text) == 1 for fact in item.facts)


@pytest.mark.parametrize("kind", ["words", "subwords", "bytes"])
def test_the_least_length_is_enough_for_every_depth(kind):
    model = reader(kind)
    for task in ("needle", "multi_key", "tracking", "counting"):
        item = draw(task, 7)
        least = shortest(item, model)
        with pytest.raises(ValueError, match=f"length is {least - 1}; allowed is at least {least} .* {task}"):
            build(item, Noise(), model=model, length=least - 1, depth=0, reply_tokens=REPLY, seed=1)
        for depth in (0, 0.29, 0.71, 1):
            prompt = build(item, Noise(), model=model, length=least, depth=depth, reply_tokens=REPLY, seed=1)
            check(item, prompt, model, depth)
            assert prompt.tokens + REPLY == least


@pytest.mark.parametrize("kind", TOKENIZERS)
def test_prompts_share_their_beginning_up_to_the_earlier_needle(kind):
    """In tokens: all but five at the joint, where a word may be cut, and the sentence that gave way to the needle."""
    model = reader(kind)
    for task in ("needle", "multi_key"):
        item = draw(task, 4)
        length = shortest(item, model) + 211
        longest = (
            max(len(model.encode(f" {fact.text}").ids) for fact in item.facts[1:]) if task != "needle" else 0
        )
        prompts = [
            build(item, Prose(), model=model, length=length, depth=i / 10, reply_tokens=REPLY, seed=6)
            for i in range(11)
        ]
        orders = {
            tuple(sorted(item.facts[1:], key=lambda fact: prompt.text.index(fact.text))) for prompt in prompts
        }
        assert len(orders) == 1
        for before, after in pairwise(prompts):
            ids = zip(*(model.encode(prompt.text).ids for prompt in (before, after)), strict=False)
            shared = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], ids))
            assert shared >= before.needle - longest - 5


def test_without_the_needle_the_haystack_is_the_same():
    """Prose with the needle taken out is the prose itself, up to its end, whatever the depth."""
    model, item = reader("subwords"), draw("needle", 8)
    whole = Prose().text(5, 3000)
    for depth in DEPTHS:
        prompt = build(item, Prose(), model=model, length=307, depth=depth, reply_tokens=REPLY, seed=5)
        context = prompt.text[len(item.intro) + 2 : prompt.text.rindex("\n\nQuestion: ")]
        before, after = re.split(rf"\s*{re.escape(item.facts[0].text)}\s*", context)
        assert whole.replace(" ", "").startswith(f"{before}{after}".replace(" ", "").replace("\n", ""))


def test_the_same_arguments_give_the_same_text():
    model, item = reader("subwords"), draw("multi_query", 1)
    texts = {
        build(item, Prose(), model=model, length=401, depth=0.3, reply_tokens=REPLY, seed=seed).text
        for seed in (1, 1, 2)
    }
    assert len(texts) == 2


def test_other_facts_lie_uniformly():
    """The mean place of the other facts over seeds is the middle, and their order changes."""
    model, item = reader("words"), draw("multi_key", 1, Sizes(pairs=2, asked=2))
    places = []
    for seed in range(60):
        prompt = build(item, Prose(), model=model, length=509, depth=0, reply_tokens=0, seed=seed)
        starts = model.encode(prompt.text).starts
        places.append(
            (bisect_left(starts, prompt.text.index(item.facts[1].text)) - prompt.needle) / prompt.context
        )
    assert abs(sum(places) / 60 - 0.5) < 4 * (1 / 12 / 60) ** 0.5
    assert min(places) < 0.15
    assert max(places) > 0.85


def test_competing_text_is_distractors_only():
    item, model = draw("multi_key", 2, distractors=200), reader("subwords")
    prompt = build(item, Competing(), model=model, length=601, depth=0.5, reply_tokens=REPLY, seed=0)
    context = prompt.text[len(item.intro) + 2 : prompt.text.rindex("\n\nQuestion: ")]
    terms = {term for fact in item.facts + item.distractors for term in fact.terms}
    whole = re.sub(
        r"\S*$", "", context.replace(item.facts[0].text, "| |")
    )  # without the last word, which is cut
    beside = re.sub(r"\S*\s*\| \|\s*\S*", "", whole)  # nor those that the needle may have cut
    assert set(re.findall(r"\w+", beside)) <= {"The", "code", "for", "is", *terms}
    assert sum(context.count(fact.text) for fact in item.distractors) > 20
    with pytest.raises(ValueError, match="sentences is empty"):
        build(draw("needle", 2), Competing(), model=model, length=601, depth=0, reply_tokens=1, seed=0)


def test_distractors_are_planted_in_other_haystacks():
    item, model = draw("needle", 2, distractors=5), reader("words")
    prompt = build(item, Noise(), model=model, length=307, depth=0.5, reply_tokens=REPLY, seed=0)
    check(item, prompt, model, 0.5)
    assert all(prompt.text.count(fact.text) == 1 for fact in item.distractors)
    assert prompt.text.count(NOISE.split(".")[0]) > 5


def test_answers_asked_in_the_order_of_the_text_stand_in_it():
    model, item = reader("words"), draw("summary", 3)
    for depth in (0, 0.5, 1):
        prompt = build(item, Prose(), model=model, length=307, depth=depth, reply_tokens=REPLY, seed=1)
        assert sorted(prompt.answers) == sorted(item.answers)
        places = [prompt.text.index(f"is {answer}.") for answer in prompt.answers]
        assert places == sorted(places)


def test_a_long_prompt_costs_a_few_encodings():
    """16 384 tokens: the text is encoded about three times in all, whatever the number of cuts that are tried."""
    model = Reader(subwords(1500))
    item = draw("multi_key", 1)
    for depth in (0, 0.37, 1):
        model.characters = 0
        prompt = build(item, Prose(), model=model, length=16_384, depth=depth, reply_tokens=REPLY, seed=1)
        assert prompt.tokens + REPLY == 16_384
        assert model.characters < 5 * len(prompt.text)


@pytest.mark.slow
def test_a_prompt_of_131072_tokens_is_built_in_seconds():
    model, item = Reader(subwords(1500)), draw("multi_key", 1)
    build(item, Prose(), model=model, length=16_384, depth=0.5, reply_tokens=REPLY, seed=1)
    start = time.perf_counter()
    prompt = build(item, Prose(), model=model, length=131_072, depth=0.5, reply_tokens=REPLY, seed=1)
    assert prompt.tokens + REPLY == 131_072
    assert time.perf_counter() - start < 10


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({"depth": 1.01}, r"depth is 1.01; allowed is a share from 0 to 1\."),
        ({"depth": -0.1}, r"depth is -0.1; allowed is a share from 0 to 1\."),
        ({"reply_tokens": -1}, r"reply_tokens is -1; allowed is 0 or more\."),
        ({"seed": -3}, r"seed is -3; allowed is 0 or more\."),
        ({"length": 13}, r"length is 13; allowed is at least 54 for this item of the task needle"),
    ],
)
def test_bad_input(bad, message):
    given = {"length": 101, "depth": 0.5, "reply_tokens": REPLY, "seed": 0} | bad
    with pytest.raises(ValueError, match=message):
        build(draw("needle", 0), Noise(), model=reader("words"), **given)
