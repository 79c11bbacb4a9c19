"""Items: by hand, answered by a reader of the facts' text, indifferent to distractors, and free of contradictions."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from dataclasses import replace

import pytest

from lcbook.tasks import items, words
from lcbook.tasks.items import ITEMS, MARKS, Fact, Item, Sizes, draw

SEEDS = range(20)
ODD = Sizes(pairs=5, asked=3, values=2, hops=3, votes=7, copied=3, keys=13, numbers=23)
ALL_SIZES = [Sizes(), ODD]


def answer(question: str, texts: list[str]) -> list[str]:
    """Answer a question in words from sentences in words, without a look at the item."""
    text = " ".join(texts)
    codes = defaultdict(list)
    for key, value in re.findall(r"The code for ([a-z ]+) is (\d+)\.", text):
        codes[key].append(value)
    votes = Counter(re.findall(r"Another vote went to (\w+)\.", text))
    if found := re.fullmatch(r"What (?:is the code|are the codes) for (.+)\?", question):
        return [codes[key][0] for key in re.split(", | and ", found[1])]
    if found := re.fullmatch(r"What are all \d+ codes for (\w+)\?", question):
        return codes[found[1]]
    if found := re.fullmatch(r"What number is (\w+) in the end\?", question):
        lets = dict(re.findall(r"Let (\w+) be (\w+)\.", text))
        name = found[1]
        while name in lets:
            name = lets[name]
        return [name]
    if question == "Which of them has the most votes?":
        (first, most), (_, next_most), *_ = votes.most_common()
        assert most > next_most
        return [first]
    if found := re.fullmatch(r"How many votes went to (\w+)\? Answer with a number\.", question):
        return [str(votes[found[1]])]
    if found := re.fullmatch(r"What is the (\w+) of (\w+)\?", question):
        return re.findall(rf"The {found[1]} of {found[2]} is (\w+)\.", text)
    if question.startswith("Summarize all codes"):
        return [value for values in codes.values() for value in values]
    if found := re.fullmatch(r"Which person has been to (\w+)\?", question):
        return [
            who
            for who, where in re.findall(r"(\w+) lives next to the (\w+)\.", text)
            if words.LANDMARKS[where] == found[1]
        ]
    assert question == "What is the list of words, in order?"
    return re.findall(r"The list is (.+?)\.", text)[0].split()


@pytest.mark.parametrize("sizes", ALL_SIZES, ids=["usual", "odd"])
@pytest.mark.parametrize("task", ITEMS)
def test_a_reader_of_the_facts_answers_every_question(task, sizes):
    for seed in SEEDS:
        item = draw(task, seed, sizes)
        assert answer(item.question, [fact.text for fact in item.facts]) == list(item.answers)


@pytest.mark.parametrize("sizes", ALL_SIZES, ids=["usual", "odd"])
@pytest.mark.parametrize("task", ITEMS)
def test_distractors_change_neither_facts_nor_answer(task, sizes):
    for seed in SEEDS:
        without, item = draw(task, seed, sizes), draw(task, seed, sizes, distractors=11)
        assert replace(item, distractors=()) == without
        assert len(item.distractors) == 11
        among = [*item.distractors[:6], *item.facts, *item.distractors[6:]]
        if task == "summary":
            assert not any("code" in fact.text for fact in item.distractors)
        assert answer(item.question, [fact.text for fact in among]) == list(item.answers)


SUBJECT = {
    "tracking": 1,
    "near_duplicate": slice(2),
}  # which terms of a fact say what it is about; else the first


@pytest.mark.parametrize(
    "task", [task for task in ITEMS if task not in ("most_common", "counting", "summary", "copy")]
)
def test_distractors_are_about_no_key_person_or_landmark_of_the_facts(task):
    for seed in SEEDS:
        item = draw(task, seed, ODD, distractors=17)
        about, others = (
            {fact.terms[SUBJECT.get(task, 0)] for fact in facts} for facts in (item.facts, item.distractors)
        )
        assert others
        assert not about & others


@pytest.mark.parametrize("votes", [4, 7])
def test_the_chance_of_counting_is_one_of_the_counts_that_occur(votes):
    """Three candidates have a vote each at least, so none has more than votes - 2: 1 or 2 of four votes."""
    drawn = [draw("counting", seed, replace(ODD, votes=votes)) for seed in range(250)]
    assert {item.answers[0] for item in drawn} == set(words.COUNTS[: votes - 2])
    assert {item.chance for item in drawn} == {1 / (votes - 2)}


def claims(fact: Fact) -> tuple[str, str] | None:
    """What a sentence is about and what it says of it; None where many may say different things."""
    found = re.fullmatch(
        r"The (?:code for|job|pet|drink|sport)(.*) is (\w+)\.|Let (\w+) be (\w+)\.", fact.text
    )
    return found and ((fact.text[:8] + found[1], found[2]) if found[1] else (found[3], found[4]))


@pytest.mark.parametrize("task", [task for task in ITEMS if task != "multi_value"])
def test_no_two_facts_contradict_each_other(task):
    for seed in SEEDS:
        for sizes in (*ALL_SIZES, Sizes(pairs=29)):
            said = [pair for pair in map(claims, draw(task, seed, sizes).facts) if pair]
            assert len(dict(said)) == len(said)


@pytest.mark.parametrize("task", ITEMS)
def test_items_are_well_formed(task):
    for seed in SEEDS:
        item = draw(task, seed, None, distractors=3)
        assert item == draw(task, seed, Sizes(), distractors=3)
        assert item.task == task
        assert len(item.cues) == len(item.answers)
        assert 0 < item.chance < 1
        assert item.intro.endswith(".")
        assert item.prefix[0].isupper()
        for fact in (*item.facts, *item.distractors):
            assert fact.text.endswith(".")
            assert all(term in MARKS or re.search(rf"\b{term}\b", fact.text) for term in fact.terms)
    assert len({draw(task, seed) for seed in SEEDS}) > 10


def test_needle_by_hand():
    """With 4 keys and 2 numbers the facts are few: acorn, amber, anchor or anvil, and 100 or 101."""
    seen = set()
    for seed in range(60):
        item = draw("needle", seed, Sizes(pairs=1, asked=1, values=1, hops=1, copied=1, keys=4, numbers=2))
        ((key, code),) = (fact.terms for fact in item.facts)
        assert item == Item(
            "needle",
            facts=(Fact((key, code), f"The code for {key} is {code}."),),
            distractors=(),
            cues=((key,),),
            answers=(code,),
            intro="The text below holds some codes. Remember them; you will be asked for them.",
            question=f"What is the code for {key}?",
            prefix=f"The code for {key} is",
            chance=1 / 2,
        )
        seen.add((key, code))
    assert seen == {(key, code) for key in ("acorn", "amber", "anchor", "anvil") for code in ("100", "101")}


def test_tracking_by_hand():
    """Three hops: the needle is the last link, and the chain is followed from there to the number."""
    item = draw("tracking", 5, ODD)
    last, middle, first = (fact.terms[1] for fact in item.facts[:3])
    assert [fact.terms[2] for fact in item.facts[:3]] == [middle, first, item.answers[0]]
    assert {fact.terms[0] for fact in item.facts} == {items.IS}
    assert item.cues == ((items.IS, last),)
    assert item.facts[0].text == f"Let {last} be {middle}."
    assert len(item.facts) == 6


def test_sizes_by_hand():
    assert [len(draw(task, 1, ODD).facts) for task in ITEMS] == [1, 3, 5, 2, 5, 5, 6, 7, 7, 4, 3, 5, 1]
    assert [len(draw(task, 1, ODD).answers) for task in ITEMS] == [1, 3, 1, 2, 3, 1, 1, 1, 1, 1, 3, 1, 3]


def test_which_answers_follow_the_text():
    assert [task for task in ITEMS if draw(task, 1).in_text_order] == ["multi_value", "summary"]


def test_near_duplicates_share_a_word_with_the_needle():
    for seed in SEEDS:
        item = draw("near_duplicate", seed, distractors=7)
        adjective, key, _ = item.facts[0].terms
        for fact in (*item.facts[1:], *item.distractors):
            assert (fact.terms[0] == adjective) != (fact.terms[1] == key)


def test_no_word_that_tells_stands_in_question_and_fact():
    """Of the question only "to" stands in a fact, and in all of them alike."""
    for seed in SEEDS:
        item = draw("without_literal_match", seed)
        asked = set(re.findall(r"\w+", item.question))
        assert all(asked & set(re.findall(r"\w+", fact.text)) <= {"to"} for fact in item.facts)


@pytest.mark.parametrize(("task", "kinds"), [("most_common", 10), ("question_answering", 48)])
def test_answers_are_of_many_kinds(task, kinds):
    """Over 250 seeds every candidate wins, and nearly every job, pet, drink and sport is asked for."""
    seen = {draw(task, seed).answers[0] for seed in range(250)}
    assert kinds - 4 <= len(seen) <= kinds


def test_every_word_stands_in_one_list():
    listed = [
        *words.KEYS, *words.ADJECTIVES, *words.PEOPLE, *words.RELATIONS, *sum(words.RELATIONS.values(), ()),
        *words.LANDMARKS, *words.LANDMARKS.values(), *words.CANDIDATES, *words.NUMBERS, *words.COUNTS,
    ]  # fmt: skip
    counts = Counter(word.lower() for word in listed)
    assert {word for word, count in counts.items() if count > 1} == set()
    assert all(re.fullmatch(r"[A-Za-z]+|\d+", word) for word in listed)


def test_bad_input():
    with pytest.raises(ValueError, match="task is 'hay'; allowed is one of needle, multi_needle, "):
        draw("hay", 0)
    with pytest.raises(ValueError, match=r"distractors is -1; allowed is 0 or more\."):
        draw("needle", 0, distractors=-1)
    with pytest.raises(ValueError, match=r"numbers is 2; allowed is at least 3 for 3 codes\."):
        draw("multi_key", 0, Sizes(pairs=3, asked=1, values=1, numbers=2))
    for bad, message in (
        ({"pairs": 0}, "pairs is 0; allowed is 1 to 32"),
        ({"asked": 33}, "asked is 33; allowed is 1 to 32"),
        ({"votes": 21}, "votes is 21; allowed is "),
        ({"keys": 65}, "keys is 65; allowed is 4 to 64"),
        ({"hops": 32}, "hops is 32; allowed is 1 to 31"),
        ({"votes": 3}, "votes is 3; allowed is 4 to 20"),
    ):
        with pytest.raises(ValueError, match=message):
            Sizes(**bad)


def test_near_keys_repeat_in_no_item_and_distractors_shun_them():
    for seed in range(5):
        item = draw("near_duplicate", seed, Sizes(pairs=31), 97)
        names = [fact.terms[:2] for fact in item.facts]
        assert len(set(names)) == 31
        assert not set(names) & {fact.terms[:2] for fact in item.distractors}
        first = names[0]
        assert sum(first[0] == name[0] or first[1] == name[1] for name in names[1:]) == 30


def test_fewer_pairs_than_are_asked_for_are_all_asked_for():
    assert len(draw("multi_query", 1, Sizes(pairs=2)).answers) == 2
