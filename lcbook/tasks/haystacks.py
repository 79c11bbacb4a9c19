"""Haystacks: the text in which facts lie. Repeated noise, seeded prose, the reader's own files, or distractors."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lcbook.formats import at_least

NOISE = "The grass is green. The sky is blue. The sun is yellow. Here we go. There and back again."

# The words of synthetic prose; none of them stands in lcbook.tasks.words, so that prose never holds a key or an answer.
WHEN = tuple(
    """in the morning|after the rain|before noon|late in autumn|at the end of the week|during the storm|on the first day
    |in early spring|without a sound|as everyone knew|for many years|once again""".replace("\n", "").split(
        "|"
    )
)
WHO = tuple(
    """captain sailor merchant stranger widow neighbor cousin shepherd printer clerk traveler gardener
    pilgrim watchman miner potter fisherman librarian innkeeper ferryman""".split()
)
LIKE = tuple(
    "patient tired careful cheerful curious gentle honest lonely nervous proud silent stubborn young tall".split()
)
DID = tuple(
    """carried forgot repaired borrowed painted noticed described mentioned found returned
    moved examined sold watched hid kept brought sketched""".split()
)
WHAT = tuple(
    """barrel blanket chair coat curtain door fence gate letter map boat rope shelf stone table
    wagon wheel window clock bench""".split()
)
WHERE = tuple(
    """bridge river market station mill forest valley shore garden courtyard tower village
    barn hill road chapel""".split()
)
HOW = tuple("slowly quickly calmly gladly rarely often quietly soon twice eagerly".split())
FORMS = (
    "The {1} {2} {3} the {4} near the {5}.",
    "{0}, the {2} {3} the {7} {6}.",
    "The {2} from the {5} {3} the {4}, and the {7} stood by the {8}.",
    "{0}, the {4} lay behind the {5}.",
    "Beside the {5} the {1} {2} {6} {3} the {7}.",
    "The {2} {3} the {4} and walked {6} to the {8}.",
    "Nobody at the {5} asked why the {1} {2} {3} the {4}.",
)
SLOTS = (tuple(phrase.strip().capitalize() for phrase in WHEN), LIKE, WHO, DID, WHAT, WHERE, HOW, WHAT, WHERE)


def _repeated(text: str, characters: int, joint: str) -> str:
    """Return `text` as often as it takes to fill `characters`."""
    return joint.join([text] * (1 + characters // len(text)))


@dataclass(frozen=True)
class Noise:
    """The five sentences that RULER repeats as noise [Hsieh et al. 2024]; the same for every seed."""

    def text(self, seed: int, characters: int) -> str:
        """Return at least `characters` characters, ended by a whole sentence."""
        at_least(0, characters=characters, seed=seed)
        return _repeated(NOISE, characters, " ")


@dataclass(frozen=True)
class Prose:
    """Plain sentences from a small grammar: endless, different for each seed, without any word of `words`."""

    def text(self, seed: int, characters: int) -> str:
        """Return at least `characters` characters, ended by a whole sentence; a longer text begins as a shorter one."""
        at_least(0, characters=characters, seed=seed)
        rng = np.random.default_rng([seed, 1])
        sentences: list[str] = []
        size = -1
        while size < characters or not sentences:
            drawn = rng.integers(2**31, size=(64, 1 + len(SLOTS)))
            forms = drawn[:, 0] % len(FORMS)
            picks = (drawn[:, 1:] % [len(slot) for slot in SLOTS]).tolist()
            for form, row in zip(forms.tolist(), picks, strict=True):
                sentence = FORMS[form].format(*(slot[i] for slot, i in zip(SLOTS, row, strict=True)))
                sentences.append(sentence)
                size += 1 + len(sentence)
        return " ".join(sentences)


@functools.lru_cache(maxsize=4)
def _read(path: str, size: int, changed: int) -> str:
    """Return a file's text; size and time of change are there so that a changed file is read anew."""
    try:
        return Path(path).read_bytes().decode().removeprefix("\ufeff").strip()
    except UnicodeDecodeError as error:
        raise ValueError(
            f"paths has {path}, which is no UTF-8 at byte {error.start}; allowed are text files in UTF-8."
        ) from None


@dataclass(frozen=True)
class Files:
    """The reader's own text files, one after the other, from a place that the seed draws, repeated if too short.

    A folder stands for the .txt files in it, in the order of their names. `text` raises ValueError for a path that is
    missing or cannot be read, is empty, or holds no UTF-8.
    """

    paths: tuple[str, ...]

    def __post_init__(self) -> None:
        if not self.paths:
            raise ValueError("paths is empty; allowed is one or more text files.")

    def text(self, seed: int, characters: int) -> str:
        """Return `characters` characters, from the start of a word (or where none starts within 100 characters)."""
        at_least(0, characters=characters, seed=seed)
        ring = "\n\n".join([*map(self._file, self._listed()), ""])
        start = int(np.random.default_rng([seed, 2]).integers(len(ring)))
        for at in range(start, max(start - 100, -1), -1):
            if not ring[at].isspace() and (at == 0 or ring[at - 1].isspace()):
                start = at
                break
        return (ring * (1 + (start + characters) // len(ring)))[start : start + characters]

    def _listed(self) -> list[Path]:
        listed: list[Path] = []
        for name in self.paths:
            path = Path(name)
            inside = sorted(path.glob("*.txt")) if path.is_dir() else [path]
            if not inside:
                raise ValueError(f"paths has {name}, a folder without .txt files; allowed are text files.")
            listed += inside
        return listed

    def _file(self, path: Path) -> str:
        try:
            about = path.stat()
            text = _read(str(path), about.st_size, about.st_mtime_ns)
        except OSError as error:
            raise ValueError(
                f"paths has {path}, which cannot be read ({error.strerror}); allowed are text files."
            ) from None
        if not text:
            raise ValueError(f"paths has {path}, which is empty; allowed are text files that hold text.")
        return text


@dataclass(frozen=True)
class Competing:
    """Nothing but sentences of the facts' own form: the item's distractors, in their order, repeated if too few."""

    def text(self, sentences: Sequence[str], characters: int) -> str:
        """Return at least `characters` characters, ended by a whole sentence. Raises ValueError without a sentence."""
        at_least(0, characters=characters)
        if not sentences:
            raise ValueError(
                "sentences is empty; allowed are one or more, from an item drawn with distractors."
            )
        written, size = [], -1
        for sentence in itertools.cycle(sentences):
            written.append(sentence)
            size += 1 + len(sentence)
            if size >= characters:
                break
        return " ".join(written)


Haystack = Noise | Prose | Files | Competing
HAYSTACKS: dict[str, Haystack] = {"noise": Noise(), "prose": Prose(), "competing": Competing()}


def open_haystack(name: str) -> Haystack:
    """Return the haystack that `name` names: noise, prose, competing or files:PATH[,PATH] (text files or folders).

    Raises ValueError for any other name.
    """
    kind, _, paths = name.partition(":")
    if kind == "files" and paths:
        return Files(tuple(paths.split(",")))
    if name not in HAYSTACKS:
        raise ValueError(f"haystack is {name!r}; allowed is {', '.join(HAYSTACKS)} or files:PATH.")
    return HAYSTACKS[name]
