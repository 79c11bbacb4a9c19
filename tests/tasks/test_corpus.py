"""The corpus: who reads it can answer, near and far documents hold the same sentences, and all is grammatical."""

from __future__ import annotations

import itertools
from collections import Counter
from dataclasses import replace

import pytest
import torch
from scipy import stats as distributions

from lcbook.tasks.corpus import (
    ADJECTIVES,
    ASIDES,
    COMES,
    FIRST_NAME,
    FIRST_NOUN,
    FIRST_SURNAME,
    IS,
    NAMES,
    NOUNS,
    SEPARATOR,
    STOP,
    SURNAMES,
    VERBS,
    WORDS,
    Corpus,
    preferences,
    text,
)

SMALL = Corpus(document=11, facts=3, questions=2)
LENGTH = 211
WORD = {word: i for i, word in enumerate(WORDS)}


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def documents(tokens):
    """The documents of one sequence as lists of sentences, each a list of words; what was cut at the start first."""
    found = [[]]
    sentence = []
    for token in tokens.tolist():
        if token == SEPARATOR:
            found.append([])
        elif token == STOP:
            found[-1].append(sentence)
            sentence = []
        else:
            sentence.append(WORDS[token])
    return found


def named(sentences, opening):
    return [(i, s[2], s[3]) for i, s in enumerate(sentences) if s[:2] == opening]


def tokens_of(words):
    return torch.tensor([[WORD[word] for word in words.split()]])


@pytest.mark.parametrize("far", [0.0, 0.4, 1.0])
@pytest.mark.parametrize("asked", [False, True])
def test_a_reader_of_the_last_document_answers_all(far, asked):
    corpus = replace(SMALL, far=far, asked=asked)
    batch = corpus.sample(37, LENGTH, generator())
    assert batch.tokens.shape == (37, LENGTH)
    for row in range(37):
        line = batch.tokens[row].tolist()
        start = max(i for i, token in enumerate(line) if token == SEPARATOR)
        told = {
            line[i]: i + 1 for i in range(start, LENGTH - 1) if line[i - 1] == IS
        }  # name -> place of its surname
        assert len(told) == 3
        places = [i for i in range(start, LENGTH) if line[i - 1] == COMES]
        assert batch.at[row].tolist() == places, "the place of the name, after which its surname is asked for"
        assert batch.answers[row].tolist() == [line[told[line[i]]] for i in places]
        assert batch.gap[row].tolist() == [i + 1 - told[line[i]] for i in places]


def test_a_guess_among_those_stated_and_not_asked_for_is_right_by_chance():
    corpus = replace(SMALL, asked=True)
    right, total = 0, 0
    draw = generator(7)
    for seed in range(5):
        batch = corpus.sample(200, LENGTH, generator(seed))
        for row in range(200):
            (*_, last) = documents(batch.tokens[row])
            left = [surname for _, _, surname in named(last, ["this", "is"])]
            for answer in batch.answers[row].tolist():
                right += left[int(torch.randint(len(left), (1,), generator=draw))] == WORDS[answer]
                total += 1
                left.remove(WORDS[answer])
    assert corpus.chance == pytest.approx((1 / 3 + 1 / 2) / 2)
    assert abs(right / total - corpus.chance) < 5 * (0.25 / total) ** 0.5


def test_near_and_far_documents_hold_the_same_sentences():
    near, far = (replace(SMALL, far=share).sample(23, LENGTH, generator(3)).tokens for share in (0.0, 1.0))
    assert not torch.equal(near, far)
    for row in range(23):
        pairs = zip(documents(near[row])[1:], documents(far[row])[1:], strict=True)
        for one, other in pairs:
            assert Counter(map(tuple, one)) == Counter(map(tuple, other))


def test_in_near_documents_who_is_asked_for_comes_next_and_in_far_ones_last():
    for share in (0.0, 1.0):
        batch = replace(SMALL, far=share).sample(29, LENGTH, generator(1))
        for row in range(29):
            for sentences in documents(batch.tokens[row])[1:]:
                told, asked = named(sentences, ["this", "is"]), named(sentences, ["here", "comes"])
                assert len(told) == 3
                assert len(asked) == 2
                assert sentences[0][:2] == ["this", "is"], "a document opens with a person"
                assert len({name for _, name, _ in told}) == len({surname for *_, surname in told}) == 3
                if share:
                    assert [i for i, *_ in told] == [0, 1, 2]
                    assert [i for i, *_ in asked] == [len(sentences) - 2, len(sentences) - 1]
                else:
                    before = {i + 1: person for i, *person in told}
                    assert all(before[i] == person for i, *person in asked)


def test_sizes_and_the_share_of_far_documents_are_as_asked():
    corpus = replace(SMALL, far=0.3)
    batch = corpus.sample(400, LENGTH, generator(2))
    whole = list(itertools.chain.from_iterable(documents(row)[1:] for row in batch.tokens))
    sizes = Counter(map(len, whole))
    assert set(sizes) <= set(range(6, 17))
    assert corpus.sizes == (6, 16)
    last = [documents(row)[-1] for row in batch.tokens]  # those that fit are not chosen by their size
    counts = Counter(map(len, last))
    assert distributions.chisquare([counts[n] for n in range(6, 17)]).pvalue > 1e-3
    far = sum(
        all(s[:2] == ["here", "comes"] for s in one[-2:]) and one[2][:2] == ["this", "is"] for one in last
    )
    assert distributions.binomtest(far, 400, 0.3).pvalue > 1e-3


def test_what_was_cut_at_the_start_is_local():
    batch = SMALL.sample(50, LENGTH, generator(4))
    for row in batch.tokens:
        first = list(itertools.takewhile(lambda token: token != SEPARATOR, row.tolist()))
        assert not any(FIRST_NAME <= token < FIRST_NOUN for token in first)
    assert (batch.tokens[:, -1] == STOP).all(), "packed from the end"


def test_sentences_are_grammatical():
    likes = preferences(0)
    plural = {f"{noun}s" for noun in NOUNS}
    kinds = Counter()
    for row in SMALL.sample(60, LENGTH, generator(5)).tokens:
        for sentence in itertools.chain.from_iterable(documents(row)[1:]):
            if sentence[0] == "and":
                kinds["aside"] += 1
                for one, other in itertools.pairwise(sentence[1:]):
                    assert ASIDES.index(other) in likes["asides"][ASIDES.index(one)].tolist()
            elif sentence[0] == "the":
                kinds["local"] += 1
                nouns = [word for word in sentence if word in NOUNS or word in plural]
                verb = next(
                    word for word in sentence if word in VERBS or (word[:-1] in VERBS and word not in plural)
                )
                subject, object_ = nouns[0], nouns[-1]
                assert (verb in VERBS) == (subject in plural), sentence
                noun = NOUNS.index(subject.removesuffix("s") if subject in plural else subject)
                which = VERBS.index(verb if verb in VERBS else verb[:-1])
                assert which in likes["verbs"][noun].tolist()
                thing = NOUNS.index(object_[:-1] if object_ in plural else object_)
                assert thing in likes["objects"][which].tolist()
                for i, word in enumerate(sentence):
                    if word in ADJECTIVES:
                        about = sentence[i + 1]
                        about = NOUNS.index(about[:-1] if about in plural else about)
                        assert ADJECTIVES.index(word) in likes["adjectives"][about].tolist()
    assert distributions.binomtest(kinds["aside"], kinds.total(), 1 / 3).pvalue > 1e-3


def test_preferences_are_distinct_and_belong_to_the_lexicon():
    one, other = preferences(0), preferences(1)
    assert {name: tuple(value.shape) for name, value in one.items()} == {
        "verbs": (len(NOUNS), 4), "adjectives": (len(NOUNS), 4), "objects": (len(VERBS), 4), "asides": (len(ASIDES), 2)
    }  # fmt: skip
    assert all(len(set(row)) == len(row) for value in one.values() for row in value.tolist())
    assert all(i not in row for i, row in enumerate(one["asides"].tolist())), "no aside follows itself"
    assert not torch.equal(one["verbs"], other["verbs"])


def test_distances_worked_by_hand():
    words = "here comes Ada Quinn . ¶ this is Ada Quinn . this is Ben Yates . here comes Ada Quinn . ¶ "
    words += "here comes Ada Quinn ."
    found = SMALL.distances(tokens_of(words))[0].tolist()
    place = [i for i, word in enumerate(words.split()) if word == "Quinn"]
    assert len(place) == 4
    assert {i: d for i, d in enumerate(found) if d} == {place[2]: place[2] - place[1]}, (
        "within its document alone"
    )
    assert found[place[2]] == 10


def test_predictable_words_worked_by_hand():
    words = "¶ this is Ada Quinn . the old duck sees the stones . and out ever ."
    found = SMALL.predictable(tokens_of(words))[0].tolist()
    listed = words.split()
    told = [listed[i + 1] for i, yes in enumerate(found) if yes]
    assert told == ["is", ".", "old", "duck", "sees", "the", "stones", ".", "out", "ever", "."]


def test_text_is_words():
    assert text(tokens_of("this is Ada Quinn . ¶ the duck sees the stones .")[0]) == (
        "this is Ada Quinn.\n\n¶ the duck sees the stones."
    )
    assert text(torch.zeros(0, dtype=torch.long)) == ""
    with pytest.raises(
        ValueError, match=f"tokens has 3 to {len(WORDS)}; allowed are words from 0 to {len(WORDS) - 1}"
    ):
        text(torch.tensor([3, len(WORDS)]))


def test_words_are_distinct_and_counted():
    assert len(set(WORDS)) == len(WORDS) == SMALL.vocabulary
    assert WORDS[FIRST_SURNAME : FIRST_SURNAME + len(SURNAMES)] == SURNAMES
    assert WORDS[FIRST_NAME : FIRST_NAME + len(NAMES)] == NAMES


def test_the_generator_alone_decides():
    one, same, other = (SMALL.sample(5, LENGTH, generator(seed)) for seed in (5, 5, 6))
    for field in ("tokens", "at", "answers", "gap"):
        assert torch.equal(getattr(one, field), getattr(same, field))
    assert not torch.equal(one.tokens, other.tokens)


def test_the_longest_document_just_fits():
    corpus = Corpus(document=5, facts=1, questions=1)
    assert corpus.longest == 1 + 2 * 5 + 5 * 9
    corpus.sample(300, corpus.longest, generator())
    with pytest.raises(
        ValueError, match=rf"length is {corpus.longest - 1}; allowed is .* length >= {corpus.longest}"
    ):
        corpus.sample(2, corpus.longest - 1, generator())


def test_fewer_facts_ask_no_more_than_there_are():
    assert SMALL.with_pairs(1) == replace(SMALL, facts=1, questions=1)


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"far": 1.1}, "far is 1.1; allowed is a share from 0 to 1"),
        ({"far": float("nan")}, "far is nan"),
        ({"facts": 0}, "facts is 0; allowed is 1 to"),
        ({"facts": 99, "questions": 1}, "facts is 99; allowed is 1 to"),
        ({"questions": 0}, r"questions is 0; allowed is 1 to facts \(4\)"),
        ({"questions": 5}, r"questions is 5; allowed is 1 to facts \(4\)"),
        ({"document": 14}, "document is 14; allowed is 15 or more with 8 that tell or ask"),
    ],
)
def test_impossible_corpora_are_named(wrong, named):
    with pytest.raises(ValueError, match=named):
        Corpus(**wrong)
