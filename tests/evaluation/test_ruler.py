"""RULER's prompts against lm-eval's own, by stored digests; solved by oracles; scores; and bad input."""

from __future__ import annotations

import hashlib
import json
import random
import re
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from lcbook.evaluation import ruler, ruler_texts
from lcbook.evaluation.ruler import generate, score
from lcbook.evaluation.ruler_texts import NEEDLES, Hyphenated, dictionary, hyphenated


def pieces(text: str) -> int:
    """Words and punctuation marks: a tokenizer without a file."""
    return len(re.findall(r"\w+|[^\w\s]", text))


def capped(text: str) -> int:
    """A tokenizer that truncates."""
    return min(pieces(text), 101)


def quarters(text: str) -> int:
    return (len(text) + 3) // 4


PARITY = json.loads((Path(__file__).parent / "ruler_parity.json").read_text(encoding="utf8"))


def digest(told: object) -> str:
    return hashlib.sha256(json.dumps(told).encode()).hexdigest()


# ---- what lm-eval's own generators made once: ruler_parity.json says how


@pytest.mark.parametrize(
    "case", PARITY["prompts"], ids=lambda case: "-".join(map(str, list(case.values())[:4]))
)
@pytest.mark.filterwarnings("ignore:.* do not fit in")
def test_prompts_are_lm_evals(case):
    told = {name: case[name] for name in ("task", "haystack", "length", "samples", "seed")}
    told["count"] = {"pieces": pieces, "quarters": quarters}[case["count"]]
    if not case["fit"]:
        with pytest.raises(ValueError, match="length is"):
            generate(**told)
    else:
        shown = [[one.input, one.prefix, list(one.answers), one.length] for one in generate(**told)]
        assert (len(shown), digest(shown)) == (case["fit"], case["digest"])


@pytest.mark.parametrize("task", NEEDLES)
def test_settings_of_needles_are_lm_evals(task):
    asked = PARITY["settings"][task]
    number = {name: asked.get(f"num_needle_{name}", 1) for name in "kvq"}
    assert NEEDLES[task] == ruler_texts.Needles(
        asked["type_haystack"], max(number["k"], number["q"]), number["v"], number["q"],
        asked["type_needle_k"], asked["type_needle_v"],
    )  # fmt: skip


def test_lm_evals_list_of_pairs_is_the_same():
    pairs = hyphenated()
    assert len(pairs) == PARITY["pairs"]["number"]
    places = [*range(0, len(pairs), 997), len(pairs) - 1]
    assert digest([pairs[i] for i in places]) == PARITY["pairs"]["every_997th"]


@pytest.mark.parametrize("case", PARITY["whole_runs"], ids=lambda case: case["task"])
def test_a_whole_run_of_lm_eval_asks_the_same_prompts(case):
    """From the command's seeds to what the model is given, the task's files and its delimiter included."""
    told = {name: case[name] for name in ("length", "samples")}
    mine = generate(case["task"], count=pieces, seed=0, numpy_seed=1234, **told)
    assert digest([sample.prompt for sample in mine]) == case["digest"]


# ---- what the prompts say


@pytest.mark.parametrize("haystack", ruler.FILLERS)
@pytest.mark.parametrize("task", NEEDLES)
def test_needles_are_found_by_reading(task, haystack):
    spec = NEEDLES[task]
    for sample in generate(task, count=pieces, length=709, samples=3, haystack=haystack):
        told = re.findall(
            r"^One of the special magic (\w+) for (.+) is: (\S+)\.$", sample.input, re.MULTILINE
        )
        assert {kind for kind, _, _ in told} == {spec.value}
        if haystack == "repeat":
            assert len(told) == spec.keys * spec.values
        query = re.fullmatch(
            r"What .* for (.+) mentioned in the provided text\?", sample.input.splitlines()[-1]
        )
        asked = re.split(", and |, ", query[1])
        right = [value for key in asked for _, k, value in told if k == key]
        assert len(asked) == spec.queries
        assert sorted(right) == sorted(sample.answers)
        assert len(right) == spec.queries * spec.values
        assert score(task, [" ".join(right)], [sample.answers]) == 100
        assert sample.prefix.endswith(("is", "are")[spec.queries * spec.values > 1])
        assert sample.length == pieces(sample.input) + 128 <= 709


def test_wording_by_hand():
    one = generate("niah_multikey_3", count=pieces, length=709, samples=1)[0]
    opening = (
        "A special magic uuid is hidden within the following text. Make sure to memorize it. "
        "I will quiz you about the uuid afterwards.\nOne of the special magic uuids for "
    )
    assert one.input.startswith(opening)
    assert one.prompt == f"{one.input} {one.prefix}"
    assert re.search(r"text\? The special magic uuid for \S+ mentioned in the provided text is$", one.prompt)


def test_variables_are_tracked_by_following_them():
    for sample in generate("ruler_vt", count=pieces, length=1103, samples=5):
        example, text = sample.input.split("\n\n\n\n")
        for shown_text, names in ((example, example.split("they are: ")[1].split()), (text, sample.answers)):
            value = re.search(r"assigned the value (\d{5}) in", shown_text)[1]
            steps = re.findall(r"VAR ([A-Z]+) = (?:VAR )?(\w+)", shown_text)
            holding = {value}
            for name, source in steps:  # in the order of the text
                if source in holding:
                    holding.add(name)
            assert holding - {value} == set(names)
            assert len(names) == 5
        assert f"the value {value}, they are:" in sample.prompt
        assert sample.prompt.endswith("they are:")
        assert sample.length <= 1103


def test_each_sample_of_variable_tracking_has_its_own_example():
    samples = generate("ruler_vt", count=pieces, length=1103, samples=5)
    openings = [sample.input.split("\n\n\n\n")[0] for sample in samples]
    assert len(set(openings)) == 5
    assert len({re.sub(r"\b[A-Z]{3}\b", "", opening) for opening in openings}) == 1


@pytest.mark.parametrize(("length", "often", "seldom"), [(1201, 6, 1), (4099, 30, 3)])
def test_common_words_are_found_by_counting(length, often, seldom):
    for sample in generate("ruler_cwe", count=pieces, length=length, samples=3):
        lines = sample.input.splitlines()
        counted = Counter(re.split(r" ?\d+\. ", lines[1])[1:])
        assert {word for word, times in counted.items() if times == often} == set(sample.answers)
        assert set(counted.values()) == {often, seldom}
        assert len(sample.answers) == 10
        assert sample.prompt.endswith(f"{lines[-1]}\n\n{sample.prefix}")
        assert sample.length <= length


def test_frequent_words_are_found_by_counting():
    for sample in generate("ruler_fwe", count=pieces, length=1511, samples=3):
        counted = Counter(re.search(r"coded words\. (.*)\nQuestion", sample.input)[1].split())
        (most, _), *rest = counted.most_common(4)
        assert most == "..."
        assert [word for word, _ in rest] == list(sample.answers)
        number = (
            counted["..."] * np.pi**2 / 6
        )  # the k-th word comes number / (k^2 zeta(2)) times, rounded down
        assert [times for _, times in rest] == pytest.approx(
            [number / k**2 * 6 / np.pi**2 for k in (2, 3, 4)], abs=1
        )
        assert 1300 < pieces(sample.prompt) <= 1511
        assert sample.length == pieces(sample.prompt) + 50


def test_more_samples_begin_as_fewer_and_seeds_differ():
    few, more = (generate("ruler_fwe", count=pieces, length=701, samples=n) for n in (2, 5))
    assert more[:2] == few
    assert [sample.index for sample in more] == [0, 1, 2, 3, 4]
    assert generate("ruler_fwe", count=pieces, length=701, samples=2, seed=43)[0].input != few[0].input
    values = [generate("ruler_vt", count=pieces, length=1103, samples=1, numpy_seed=n)[0] for n in (42, 1234)]
    assert [value.answers for value in values] == [values[0].answers] * 2
    assert values[0].prefix != values[1].prefix


@pytest.mark.parametrize("task", ["niah_multikey_3", "ruler_vt", "ruler_fwe"])
def test_the_global_streams_play_no_part(task):
    drawn = []
    for seed in (5, 7):
        random.seed(seed)
        np.random.seed(seed)
        drawn.append(generate(task, count=pieces, length=1103, samples=2))
        assert np.random.random() == np.random.RandomState(seed).random()
    assert drawn[0] == drawn[1]


# ---- words


def test_pairs_are_those_of_a_sorted_set():
    adjectives = ["blue", "ad hoc", "blue-eyed", "ad", "zany", "blue-eyed-red", "bluer", "blue"]
    nouns = ["fish", "eyed-fish", "cod", "zebra", "a", "fish", "eyed-red-a", "red-a"]
    pairs = Hyphenated(adjectives, nouns)
    expected = sorted({f"{adjective}-{noun}" for adjective in adjectives for noun in nouns})
    assert len(expected) < len(set(adjectives)) * len(set(nouns))  # two ways to one pair
    assert [pairs[i] for i in range(len(pairs))] == expected
    with pytest.raises(IndexError):
        pairs[len(pairs)]


def test_without_wonderwords(monkeypatch):
    monkeypatch.setitem(sys.modules, "wonderwords", None)
    for cached in (dictionary, hyphenated):
        cached.cache_clear()
    for task in ("niah_single_1", "ruler_cwe"):
        with pytest.raises(ValueError, match=r"wonderwords: pip install 'lcbook\[llm\]'"):
            generate(task, count=pieces, length=701, samples=1)
    assert len(generate("niah_multikey_3", count=pieces, length=701, samples=1)) == 1


# ---- scores


def test_scores_by_hand():
    replies, answers = ["1111111 and 2222222", "none"], [["1111111", "3333333"], ["4444444"]]
    assert score("niah_multivalue", replies, answers) == 25
    assert score("ruler_qa_squad", replies, answers) == 50
    with pytest.raises(ValueError, match="task is 'niah'; allowed is one of niah_single_1"):
        score("niah", replies, answers)


# ---- bad input


@pytest.mark.parametrize(
    ("task", "changed", "message"),
    [
        ("niah_single_2", {}, r"haystack is 'essay' \(the essays need a download\) for niah_single_2; allowed"),
        ("niah_single_1", {"haystack": "hay"}, "haystack is 'hay' for niah_single_1; allowed is 'repeat' or"),
        ("ruler_vt", {"haystack": "repeat"}, "haystack is 'repeat' for ruler_vt; allowed is None"),
        ("ruler_qa_squad", {}, r"task is 'ruler_qa_squad' \(question answering needs a download\); allowed"),
        ("vt", {}, "task is 'vt'; allowed is one of niah_single_1"),
        ("ruler_vt", {"samples": 0}, "samples is 0; allowed is 1 or more"),
        ("ruler_vt", {"length": 0}, "length is 0; allowed is 1 or more"),
        ("niah_multikey_3", {"length": 151}, "length is 151 for niah_multikey_3; allowed is one that holds"),
        ("ruler_vt", {"length": 701}, "length is 701 for ruler_vt; allowed is one that holds"),
        ("ruler_vt", {"count": len}, "length is 500 for ruler_vt's solved example, whose size RULER fixes"),
        ("ruler_fwe", {"length": 199}, "length is 199; allowed for ruler_fwe is 200 or more"),
        ("ruler_fwe", {"length": 211, "count": len}, "length is 211 for ruler_fwe; allowed"),
        ("ruler_fwe", {"count": lambda _: 0}, "count is 0 for a sentence of 19 words; allowed is one token or more"),
        ("niah_multikey_3", {"length": 307, "count": capped}, "count is 101 for 310 sentences or words; allowed"),
        ("ruler_vt", {"count": capped}, "count is 101 for 505 sentences or words; allowed is one for each"),
        ("ruler_fwe", {"count": capped}, "count is less than 1103 for 2223 words; allowed is one or more a word"),
    ],
)  # fmt: skip
def test_bad_input(task, changed, message):
    with pytest.raises(ValueError, match=message):
        generate(task, **{"count": pieces, "length": 1103, "samples": 1, **changed})


def test_too_short_for_common_words():
    with pytest.raises(ValueError, match="length is 401 for ruler_cwe"):
        generate("ruler_cwe", count=pieces, length=401, samples=1)


def test_a_seed_that_names_two_variables_alike():
    def twice(seed: int) -> bool:
        return len(set(ruler_texts.codes(random.Random(seed), "ABCDEFGHIJKLMNOPQRSTUVWXYZ", 3, 5))) < 5

    seed = next(seed for seed in range(20_000) if twice(seed))
    with pytest.raises(ValueError, match="seed draws one name twice"):
        generate("ruler_vt", count=pieces, length=1103, samples=1, seed=seed)


def test_samples_left_out_are_told():
    lengths = []

    def rising(text: str) -> int:
        lengths.append(pieces(text))
        return lengths[-1] if len(lengths) < 12 else 9999

    with pytest.warns(UserWarning, match=r"of 9 samples of niah_multikey_3 do not fit in 503 tokens"):
        found = generate("niah_multikey_3", count=rising, length=503, samples=9)
    assert 1 <= len(found) < 9
