"""Haystacks: noise as RULER has it, prose without a word of the items, files that are no text, and competing facts."""

from __future__ import annotations

import re

import pytest

from lcbook.tasks import words
from lcbook.tasks.haystacks import (
    FORMS,
    HAYSTACKS,
    NOISE,
    SLOTS,
    Competing,
    Files,
    Noise,
    Prose,
    open_haystack,
)

LISTED = (
    words.KEYS, words.ADJECTIVES, words.PEOPLE, tuple(words.RELATIONS), *words.RELATIONS.values(),
    tuple(words.LANDMARKS), tuple(words.LANDMARKS.values()), words.CANDIDATES, words.NUMBERS, words.COUNTS,
)  # fmt: skip


def spoken(text: str) -> set[str]:
    return set(re.findall(r"\w+", text.lower()))


def test_noise_is_ruler_s():
    assert Noise().text(3, 0) == NOISE
    assert Noise().text(3, len(NOISE)) == f"{NOISE} {NOISE}"
    assert NOISE == (
        "The grass is green. The sky is blue. The sun is yellow. Here we go. There and back again."
    )


@pytest.mark.parametrize("haystack", [Noise(), Prose()])
def test_text_is_long_enough_and_ends_with_a_sentence(haystack):
    for seed in range(7):
        for characters in (0, 1, 89, 1009, 20_011):
            text = haystack.text(seed, characters)
            assert len(text) >= characters
            assert text.endswith(".")
            assert text == haystack.text(seed, characters)


def test_prose_goes_on_as_a_shorter_text_began_and_differs_by_seed():
    for seed in range(5):
        assert Prose().text(seed, 20_011).startswith(Prose().text(seed, 101))
    assert len({Prose().text(seed, 101)[:40] for seed in range(11)}) > 5


def test_prose_holds_no_word_of_the_items():
    """Not one key, name, number or answer in a text that uses the whole grammar."""
    listed = {word.lower() for part in LISTED for word in part}
    text = Prose().text(1, 200_003)
    assert spoken(text) == spoken(" ".join([*FORMS, *(phrase for slot in SLOTS for phrase in slot)])) - set(
        "012345678"
    )
    assert not spoken(text) & listed
    assert 120 <= len(spoken(text)) <= 180


def test_prose_is_made_of_its_forms():
    """Every sentence opens with a capital, matches one of the forms, and no form is missing."""
    patterns = [
        re.sub(r"\{\d\}", "[A-Za-z ]+?", re.escape(form).replace(r"\{", "{").replace(r"\}", "}"))
        for form in FORMS
    ]
    seen = set()
    for sentence in re.split(r"(?<=\.) ", Prose().text(2, 20_011)):
        assert sentence[0].isupper()
        matches = {i for i, pattern in enumerate(patterns) if re.fullmatch(pattern, sentence)}
        assert matches
        seen |= matches
    assert seen == set(range(len(FORMS)))


def test_files_are_read_in_order_from_a_drawn_word(tmp_path):
    first, second = tmp_path / "first.txt", tmp_path / "second.txt"
    first.write_text("\ufeffone two three\n", "utf-8")
    second.write_text("four fünf\n\n", "utf-8")
    files = Files((str(first), str(second)))
    ring = "one two three\n\nfour fünf\n\n" * 9
    starts = set()
    for seed in range(40):
        text = files.text(seed, 101)
        assert len(text) == 101
        assert text in ring
        starts.add(text.split()[0])
        assert text == files.text(seed, 101)
    assert starts == {"one", "two", "three", "four", "fünf"}


def test_a_folder_stands_for_its_text_files(tmp_path):
    for name in ("b.txt", "a.txt", "c.md"):
        (tmp_path / name).write_text(f"from {name}", "utf-8")
    parts = (str(tmp_path / "a.txt"), str(tmp_path / "b.txt"))
    for seed in range(5):
        assert Files((str(tmp_path),)).text(seed, 53) == Files(parts).text(seed, 53)


def test_a_changed_file_is_read_anew(tmp_path):
    path = tmp_path / "text.txt"
    path.write_text("before", "utf-8")
    assert "before" in Files((str(path),)).text(0, 10)
    path.write_text("afterwards", "utf-8")
    assert "afterwards" in Files((str(path),)).text(0, 10)


def test_bad_files(tmp_path):
    empty, latin, bare = tmp_path / "empty.txt", tmp_path / "latin.txt", tmp_path / "bare"
    empty.write_text(" \n")
    latin.write_bytes("\ufeffseven gr\u00fc".encode()[:-2] + b"\xfc\xdf")
    bare.mkdir()
    for paths, message in (
        ((), r"paths is empty; allowed is one or more text files\."),
        ((str(empty),), rf"paths has {empty}, which is empty; allowed"),
        (
            (str(tmp_path / "no.txt"),),
            r"no\.txt, which cannot be read \(No such file or directory\); allowed",
        ),
        ((str(latin),), rf"paths has {latin}, which is no UTF-8 at byte 11; allowed are text files in UTF-8"),
        ((str(bare),), rf"paths has {bare}, a folder without \.txt files; allowed"),
    ):
        with pytest.raises(ValueError, match=message):
            Files(paths).text(0, 10)


def test_competing_repeats_its_sentences():
    assert Competing().text(["A is 7.", "B is 3."], 16) == "A is 7. B is 3. A is 7."
    assert Competing().text(["A is 7.", "B is 3."], 15) == "A is 7. B is 3."
    assert Competing().text(["A is 7."], 0) == "A is 7."
    with pytest.raises(ValueError, match="sentences is empty; allowed are one or more"):
        Competing().text([], 5)


@pytest.mark.parametrize("haystack", [Noise(), Prose(), Files(("no.txt",))])
def test_negative_numbers_are_refused(haystack):
    with pytest.raises(ValueError, match=r"characters is -1; allowed is 0 or more\."):
        haystack.text(0, -1)
    with pytest.raises(ValueError, match=r"seed is -2; allowed is 0 or more\."):
        haystack.text(-2, 5)


def test_haystacks_have_names():
    assert [open_haystack(name) for name in HAYSTACKS] == [Noise(), Prose(), Competing()]
    assert open_haystack("files:a/b c.txt") == Files(("a/b c.txt",))
    for name in ("hay", "files:", "files", "", "noise:x"):
        with pytest.raises(ValueError, match="allowed is noise, prose, competing or files:PATH"):
            open_haystack(name)
