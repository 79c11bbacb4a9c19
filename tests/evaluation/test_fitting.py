"""Cutting: how sentences are laid into filler, how tokens are counted, and which cuts are tried first."""

from __future__ import annotations

from itertools import islice

import pytest
from small_tokenizers import reader

from lcbook.evaluation.fitting import PADS, Cut, Fitter, Layout, Measure, _cuts, counted, token_at, write

FILLER = "The sun is low. We rest."
LAYOUT = Layout("Read.\n\n", "\n\nWhat?", "A is 7.", ("B is 3.", "C is 5."), (3, 15), FILLER)


@pytest.mark.parametrize(
    ("cut", "context"),
    [
        (Cut(0, 0, 24), "A is 7. The B is 3. sun is low. C is 5. We rest."),
        (Cut(1, 7, 24), "The B is 3. sun A is 7. is low. C is 5. We rest."),
        (Cut(1, 8, 24), "The B is 3. sun A is 7. is low. C is 5. We rest."),  # after the space: the same text
        (Cut(1, 9, 24), "The B is 3. sun i A is 7. s low. C is 5. We rest."),
        (Cut(0, 7, 24), "The sun A is 7. B is 3. is low. C is 5. We rest."),  # B gives way
        (Cut(2, 7, 24), "The B is 3. sun C is 5. A is 7. is low. We rest."),  # C comes sooner
        (Cut(2, 24, 24), "The B is 3. sun is low. C is 5. We rest. A is 7."),
        (Cut(1, 7, 10), "The B is 3. sun A is 7. is C is 5."),  # C lies at the end of the filler
        (Cut(1, 7, 24, gap="\n"), "The B is 3. sun\nA is 7. is low. C is 5. We rest."),
        (Cut(1, 7, 24, pad="\n"), "The B is 3. sun A is 7. is low. C is 5. We rest.\n"),
        (Cut(0, 0, 0), "A is 7. B is 3. C is 5."),
        (Cut(0, 0, 0, gap=" "), " A is 7. B is 3. C is 5."),
    ],
)
def test_write_by_hand(cut, context):
    written = write(LAYOUT, cut)
    assert written.text == f"Read.\n\n{context}\n\nWhat?"
    assert written.text[slice(*written.context)] == context
    assert written.text[written.needle :].startswith("A is 7.")
    assert [written.text[at : at + 7] for at in written.others] == ["B is 3.", "C is 5."]
    filler = "".join(written.text[at : at + b - a] for a, b, at in written.pieces)
    assert filler == FILLER[: cut.end]


def test_a_window_holds_the_sentences_within_it():
    written = write(LAYOUT, Cut(1, 7, 24))
    assert written.text[written.window(2, 9)] == "e B is 3. sun A is 7. is"[:-1]
    assert written.text[written.window(-5, 99)] == written.text
    assert written.text[written.window(15, 20)].startswith(" C is 5. We")


def test_token_at_by_hand():
    starts = (0, 4, 4, 9, 9, 12)
    assert [token_at(starts, character) for character in (0, 3, 4, 5, 9, 11, 12, 40)] == [
        0,
        0,
        2,
        2,
        4,
        4,
        5,
        5,
    ]
    assert [token_at(starts, character, plain=False) for character in (4, 5, 9, 12)] == [1, 2, 3, 5]


def test_measure_by_hand():
    """Read . | The B is 3 . sun A is 7 . is low . C is 5 . We rest . | What ?  as words and marks."""
    written = write(LAYOUT, Cut(1, 7, 24))
    found = counted(reader("words").encode(written.text).starts, written, "A is 7.")
    assert found == Measure(tokens=24, first=2, context=20, size=4, place=6)


def test_ends_of_words_are_tried_first():
    """Near the n of "sun": after "sun", then inside the word, last the place after a space (the same text)."""
    tried = [at for at, _ in islice(_cuts(FILLER, 6, 0), len(FILLER) + 1)]
    assert tried[0] == 7
    assert tried.index(3) < tried.index(6) < tried.index(4)
    assert sorted(tried) == list(range(len(FILLER) + 1))
    assert len(list(_cuts(FILLER, 6, 20))) == len(PADS) * 5


def test_a_guess_that_is_off_is_mended():
    """From a cut that is 3 words early and an end that is 2 words long, the fitter reaches what is asked for."""
    filler = " ".join(["one two three four five."] * 20)
    encode = reader("words").encode
    layout = Layout("Read.\n\n", "\n\nWhat?", "A is 7.", (), (), filler)
    fitter = Fitter(layout, encode(filler).starts, encode)
    *_, (written, found, exact) = fitter.fit(Cut(0, fitter.character(10), fitter.character(50)), 56, 0.25)
    assert exact
    assert (found.tokens, found.place, found.context) == (56, 12, 52)
    assert "five. A is 7. one" in written.text
