"""RULER's prompts against lm-eval's own, live and by digest; solved by oracles; scores; and bad input."""

from __future__ import annotations

import hashlib
import importlib
import random
import re
import sys
from collections import Counter
from importlib.metadata import version
from types import SimpleNamespace

import numpy as np
import pytest

from lcbook.evaluation import ruler, ruler_texts
from lcbook.evaluation.ruler import RulerSample, generate, score
from lcbook.evaluation.ruler_texts import NEEDLES, Hyphenated, dictionary, hyphenated


def pieces(text: str) -> int:
    """Words and punctuation marks: a tokenizer without a file."""
    return len(re.findall(r"\w+|[^\w\s]", text))


def capped(text: str) -> int:
    """A tokenizer that truncates."""
    return min(pieces(text), 101)


def quarters(text: str) -> int:
    return (len(text) + 3) // 4


def shown(samples: list[RulerSample]) -> list[tuple[str, str, list[str], int]]:
    return [(sample.input, sample.prefix, list(sample.answers), sample.length) for sample in samples]


# task, haystack, length, seed -> SHA-256 of repr([(input, gen_prefix, outputs, length), ...]) of three samples by
# lm-eval 0.4.13 with wonderwords 3.0.1, `pieces` as its tokenizer, in a fresh process after random.seed(seed) and
# numpy.random.seed(seed): prepare_niah.generate_samples (template and settings of niah_utils),
# vt_utils.sys_vartrack_w_noise_random, cwe_utils.sys_word_pair_random, fwe_utils.sys_kwext; `theirs` below calls them.
DIGESTS = {
    ("niah_single_1", None, 701, 42): "19ae6185498208b67b27f47a82d195bea1c2a7f4c5ea9c4bdab4f257695eb333",
    ("niah_single_3", "repeat", 701, 7): "2427502c2199e75ce2f6b486e2eb90f29353771a1a9aac62cdff33fa7034a50e",
    ("niah_multikey_1", "repeat", 503, 7): "54c41ca55325ed21010af0da292c3451c8a0af4a200f178c5d235a63e5d20aec",
    ("niah_multikey_2", None, 701, 0): "d9f4675c41eee6e7d0c95c7ce99b59c8669c4d558db7cc1797e50f8f45ce0721",
    ("niah_multikey_3", None, 1103, 42): "2cc76c7835159ea2d6e0dc28b4f687d2577efb0ebbd81ef9e353a56428f98f06",
    (
        "niah_multivalue",
        "needle",
        701,
        42,
    ): "0c0cb2e71a84815880708fc0c73ec72280a547f1a1fb679ca15ab50f50cdcf0b",
    (
        "niah_multiquery",
        "repeat",
        4099,
        3,
    ): "bf4816b3f299f48854fe34b2876d23f25835d55007ed53c77b381febbf9222ff",
    ("ruler_vt", None, 1103, 42): "4f6584c8d1d2b892ad49c6a14fd3bddccae095b4a026909ee7ff3e239e5a6e27",
    ("ruler_vt", None, 4099, 5): "27dc51eeff452d1ef16b24807c57749bb158429781000518408a5184da3a5cd3",
    # The first chain that is drawn for the solved example has one name twice: lm-eval tries a shorter one.
    ("ruler_vt", None, 1103, 8716): "b8656b07f81e25c3aa200685f386769c998ccbd0f56a64d08e753df753d11a1f",
    ("ruler_cwe", None, 1201, 42): "03778e03adc8c107e9809f4f9f8b99584eb12876c97dc053bd670522ea3814ec",
    ("ruler_cwe", None, 4099, 0): "6c12248d4e40b2bd3af26c72967f560c574f0a23255323555e3d79b73ce0ca4d",
    ("ruler_fwe", None, 1009, 42): "07219b5bfa8930a13047f37ef25ed824606096fc79e22c0d740a5a15c74df84b",
    ("ruler_fwe", None, 2003, 1): "d57cfbf930b662019405d7db9e843635e7e9116bbb63b41a2727323375358666",
}


def needs_words(task: str) -> bool:
    """Return whether a task takes words from wonderwords; skip the test if it does and they are missing."""
    needed = task == "ruler_cwe" or (task in NEEDLES and NEEDLES[task].key == "words")
    if needed:
        pytest.importorskip("wonderwords")
    return needed


@pytest.mark.parametrize("case", DIGESTS, ids=lambda case: f"{case[0]}-{case[2]}-{case[3]}")
def test_prompts_are_lm_evals_by_digest(case):
    task, haystack, length, seed = case
    if needs_words(task) and version("wonderwords") != "3.0.1":
        pytest.skip("other lists of words than those of wonderwords 3.0.1")
    samples = generate(task, count=pieces, length=length, samples=3, seed=seed, haystack=haystack)
    assert hashlib.sha256(repr(shown(samples)).encode()).hexdigest() == DIGESTS[case]


# ---- lm-eval itself, where it is installed


@pytest.fixture(scope="module")
def harness():
    """lm-eval's generators. Importing them downloads NLTK's sentence splitter, for essays, if it is not found."""
    pytest.importorskip("lm_eval")
    nltk = pytest.importorskip("nltk")
    pytest.importorskip("wonderwords")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(nltk.data, "find", lambda *_: None)
        names = ("prepare_niah", "niah_utils", "vt_utils", "cwe_utils", "fwe_utils")
        return SimpleNamespace(
            **{name: importlib.import_module(f"lm_eval.tasks.ruler.{name}") for name in names}
        )


def theirs(harness, task, count, length, samples, seed, haystack):
    """Return lm-eval's samples as `shown` does."""

    def tokenizer(text):
        return SimpleNamespace(input_ids=range(count(text)))

    random.seed(seed)
    np.random.seed(seed)
    if task in NEEDLES:
        spec, niah = NEEDLES[task], harness.prepare_niah
        kind = haystack or spec.haystack
        found = niah.generate_samples(
            niah.get_haystack(kind), tokenizer, max_seq_length=length, type_haystack=kind, num_samples=samples,
            template=harness.niah_utils.TEMPLATE, type_needle_k=spec.key, type_needle_v=spec.value,
            num_needle_k=spec.keys, num_needle_v=spec.values, num_needle_q=spec.queries,
        )  # fmt: skip
    elif task == "ruler_vt":
        write = harness.vt_utils.sys_vartrack_w_noise_random
        example = write(tokenizer, 1, 500, incremental=5)[0]
        found = write(tokenizer, samples, length, icl_example=example)
    elif task == "ruler_cwe":
        importlib.reload(harness.cwe_utils)  # it shuffles with a generator of its own, which goes on
        found = harness.cwe_utils.sys_word_pair_random(samples, length, tokenizer)
    else:
        found = harness.fwe_utils.sys_kwext(tokenizer, length, samples)
    return [(one["input"], one["gen_prefix"], list(one["outputs"]), one["length"]) for one in found]


@pytest.mark.slow
@pytest.mark.parametrize("task", ruler.TASKS)
def test_prompts_are_lm_evals(harness, task):
    for haystack in ruler.HAYSTACKS if task in NEEDLES else (None,):
        for length, seed, count in ((1103, 42, pieces), (2053, 0, quarters), (4099, 1_234_567, pieces)):
            mine = shown(generate(task, count=count, length=length, samples=5, seed=seed, haystack=haystack))
            assert mine == theirs(harness, task, count, length, 5, seed, haystack), (haystack, length)


@pytest.mark.slow
@pytest.mark.parametrize("task", NEEDLES)
def test_settings_of_needles_are_lm_evals(harness, task, monkeypatch):
    asked = {}
    monkeypatch.setattr(harness.niah_utils, "generate_samples", lambda _, **settings: asked.update(settings))
    monkeypatch.setattr(harness.niah_utils, "get_haystack", lambda **_: None)
    monkeypatch.setattr(harness.niah_utils, "get_tokenizer", lambda _: None)
    monkeypatch.setattr(harness.niah_utils, "download_dataset", list)
    getattr(harness.niah_utils, task)()
    number = {name: asked.get(f"num_needle_{name}", 1) for name in "kvq"}
    assert NEEDLES[task] == ruler_texts.Needles(
        asked["type_haystack"], max(number["k"], number["q"]), number["v"], number["q"],
        asked["type_needle_k"], asked["type_needle_v"],
    )  # fmt: skip


@pytest.mark.slow
def test_the_same_samples_are_left_out(harness):
    fits = Counter()
    for length in range(180, 300, 7):
        try:
            expected = theirs(harness, "niah_multiquery", pieces, length, 5, length, "needle")
        except ValueError:  # none fits
            expected = None
            with pytest.raises(ValueError, match="length is"):
                generate(
                    "niah_multiquery", count=pieces, length=length, samples=5, seed=length, haystack="needle"
                )
        else:
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(ruler.warnings, "warn", lambda *_, **__: None)
                mine = generate(
                    "niah_multiquery", count=pieces, length=length, samples=5, seed=length, haystack="needle"
                )
            assert shown(mine) == expected
        fits[len(expected or ())] += 1
    assert fits[0]
    assert fits[5]


@pytest.mark.slow
def test_lm_evals_list_of_pairs_is_the_same(harness):
    pairs, listed = hyphenated(), harness.prepare_niah.WORDS
    assert len(pairs) == len(listed)
    places = [*range(0, len(listed), 997), len(listed) - 1]
    assert [pairs[i] for i in places] == [listed[i] for i in places]


@pytest.mark.slow
@pytest.mark.parametrize(("task", "length"), [("ruler_vt", 1103), ("niah_multikey_3", 801)])
def test_a_whole_run_of_lm_eval_asks_the_same_prompts(harness, task, length, tmp_path):
    """From the command's seeds to what the model is given, the task's files and its delimiter included.

    rich draws one number from the global stream when it is imported, which scikit-learn may do after the seeding.
    """
    pytest.importorskip("sklearn.preprocessing")
    import lm_eval
    from transformers import PreTrainedTokenizerFast

    small = importlib.import_module("small_tokenizers")
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=small.words(), unk_token="[UNK]")
    tokenizer.save_pretrained(tmp_path)
    ran = lm_eval.simple_evaluate(
        model="dummy", tasks=[task], limit=2, log_samples=True, bootstrap_iters=0,
        metadata={"tokenizer": str(tmp_path), "max_seq_lengths": [length]},
    )  # fmt: skip
    asked = [sample["arguments"][0][0] for sample in ran["samples"][task]]
    mine = generate(
        task,
        count=lambda text: len(tokenizer(text).input_ids),
        length=length,
        samples=2,
        seed=0,
        numpy_seed=1234,
    )
    assert [sample.prompt for sample in mine] == asked


# ---- what the prompts say


@pytest.mark.parametrize("haystack", ruler.HAYSTACKS)
@pytest.mark.parametrize("task", NEEDLES)
def test_needles_are_found_by_reading(task, haystack):
    needs_words(task)
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
    pytest.importorskip("wonderwords")
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
    pytest.importorskip("wonderwords")
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
