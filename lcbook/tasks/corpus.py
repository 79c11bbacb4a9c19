"""A small corpus: readable sentences in packed documents, and a knob for how far a fact lies from where it is needed.

far    ¶ this is Ada Quinn . this is Ben Thorne . the old duck sees the stones . [...] here comes Ben Thorne .
near   ¶ this is Ben Thorne . here comes Ben Thorne . the old duck sees the stones . [...] this is Ada Quinn .

Both documents hold the same sentences and hence the same words in the same pairs; their order alone differs.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from lcbook.tasks.base import Batch, distinct, require_room

NAMES = """Ada Ben Cora Dan Edith Finn Greta Hugo Ida Jonas Kira Leo Mona Nils Olga Paul Queenie Rosa Sam Tilda Udo
Vera Willem Xenia Yara Zeno Alma Boris Clara Dora Emil Flora""".split()
SURNAMES = """Abbott Archer Barlow Bishop Carver Collins Dalton Draper Ellis Emerson Fletcher Foster Garner Grant Harper
Holloway Irving Jensen Keller Lambert Mercer Norton Osborne Parker Quinn Reeves Sawyer Thorne Underwood Vance Walker
Yates""".split()
NOUNS = """baker bear bird boat bridge cat clerk cloud cook dog duck farmer field garden girl guard hill horse house
king lamp nurse owl painter river road ship sister stone tailor tower tree""".split()
VERBS = """call cover draw feed find follow greet guide hear help keep know leave lift love meet move need paint pull
see stop trust want""".split()
ADJECTIVES = """bright brown calm clever cold dark deep dry famous gentle grey hidden huge kind late lonely new old poor
proud quiet small tired young""".split()
ASIDES = """again almost also always around away back below between down early ever far home inside later long near now
often once out over perhaps slowly soon then there twice up well yet""".split()

SEPARATOR = 0  # opens a document
FUNCTION = ["¶", ".", "this", "is", "here", "comes", "the", "by", "and"]
WORDS = [
    *FUNCTION, *NAMES, *SURNAMES, *NOUNS, *(noun + "s" for noun in NOUNS),
    *VERBS, *(verb + "s" for verb in VERBS), *ADJECTIVES, *ASIDES,
]  # fmt: skip
STOP, THIS, IS, HERE, COMES, THE, BY, AND = range(1, len(FUNCTION))
FIRST_NAME = len(FUNCTION)
FIRST_SURNAME = FIRST_NAME + len(NAMES)
FIRST_NOUN = FIRST_SURNAME + len(SURNAMES)
FIRST_VERB = FIRST_NOUN + 2 * len(NOUNS)  # verbs have the plural first: they see, she sees
FIRST_ADJECTIVE = FIRST_VERB + 2 * len(VERBS)
FIRST_ASIDE = FIRST_ADJECTIVE + len(ADJECTIVES)

STATEMENT, QUESTION, LOCAL = range(3)  # kinds of sentence
TOLD = 5  # tokens of a statement and of a question
CELLS = 9  # tokens of the longest local sentence; the shortest has 6
LIKES = 4  # words of each kind that a word goes with


@functools.lru_cache(maxsize=8)
def preferences(lexicon: int) -> dict[str, Int[Tensor, "words likes"]]:
    """Return which words go with which, drawn from the seed `lexicon`: LIKES of them (two for asides) for each word.

    These are the verbs and the adjectives of a noun, the objects of a verb, and the asides that may follow an aside.
    """
    generator = torch.Generator().manual_seed(lexicon)
    ring = torch.randperm(len(ASIDES), generator=generator)
    return {
        "verbs": distinct(len(NOUNS), len(VERBS), LIKES, generator),
        "adjectives": distinct(len(NOUNS), len(ADJECTIVES), LIKES, generator),
        "objects": distinct(len(VERBS), len(NOUNS), LIKES, generator),
        "asides": torch.stack([ring.roll(-1), ring.roll(-3)], dim=1)[ring.argsort()],
    }


def text(tokens: Int[Tensor, " s"]) -> str:
    """Return tokens as words, a paragraph to each document. Raises ValueError for a token that is no word."""
    if len(tokens) and not 0 <= int(tokens.min()) <= int(tokens.max()) < len(WORDS):
        raise ValueError(
            f"tokens has {tokens.min()} to {tokens.max()}; allowed are words from 0 to {len(WORDS) - 1}."
        )
    joined = " ".join(WORDS[token] for token in tokens.tolist())
    return joined.replace(" .", ".").replace(" ¶", "\n\n¶")


@dataclass(frozen=True)
class Corpus:
    """Text of documents packed into sequences, in which persons are introduced and come back by their full name.

    A document has `document` sentences in the mean, half to one and a half times as many. `facts` of them introduce a
    person ("this is Ada Quinn."), `questions` let one of these come back ("here comes Ada Quinn."): her surname can be
    told from the introduction alone. The others are local: of subject, verb and object that agree in number, or
    asides, walks in which each word has two equally likely successors. In a share `far` of the documents all persons
    are introduced at the start and come back at the end; in the others each comes back in the next sentence. The
    sentences are the same, so neither words nor pairs of words tell the two kinds of document apart. `lexicon` is
    the seed of which words go together.

    Documents open with SEPARATOR and are packed from the end of the sequence; the first is cut where the sequence
    begins, and has local sentences alone. A Batch asks for the surnames of those who come back in the last document;
    with `asked` that document is far whatever `far` is, so that recall at a distance can be measured. `gap` counts from
    the surname stated to the surname asked for. Names are drawn anew for every document.
    Raises ValueError for sizes that leave a document impossible, `sample` for a sequence that it may not fit in.
    """

    text: ClassVar[bool] = True  # local context foretells tokens: see `predictable`
    far: float | int = 0.5
    document: int = 16
    facts: int = 4
    questions: int = 4
    asked: bool = False
    lexicon: int = 0

    def __post_init__(self) -> None:
        most = min(len(NAMES), len(SURNAMES))
        if not 0 <= self.far <= 1:
            raise ValueError(f"far is {self.far}; allowed is a share from 0 to 1.")
        if not 1 <= self.facts <= most:
            raise ValueError(f"facts is {self.facts}; allowed is 1 to the number of names ({most}).")
        if not 1 <= self.questions <= self.facts:
            raise ValueError(f"questions is {self.questions}; allowed is 1 to facts ({self.facts}).")
        told = self.facts + self.questions
        if self.sizes[0] < told:
            raise ValueError(
                f"document is {self.document}; allowed is {2 * told - 1} or more with {told} that tell or ask."
            )

    @property
    def sizes(self) -> tuple[int, int]:
        """Sentences of the shortest and of the longest document."""
        return self.document - self.document // 2, self.document + self.document // 2

    @property
    def longest(self) -> int:
        """Tokens that the longest document can have."""
        told = self.facts + self.questions
        return 1 + TOLD * told + CELLS * (self.sizes[1] - told)

    @property
    def vocabulary(self) -> int:
        """Number of word types, the separator and the stop included."""
        return len(WORDS)

    @property
    def chance(self) -> float:
        """A guess among the surnames that the document has stated and not asked for yet."""
        return sum(1 / (self.facts - i) for i in range(self.questions)) / self.questions

    def sample(self, batch: int, length: int, generator: torch.Generator) -> Batch:
        """Draw `batch` sequences of `length` tokens. Raises ValueError if the longest document does not fit."""
        require_room(batch, length, self.longest)
        slots = length // TOLD + 2  # sentences enough for any sequence, counted from its end
        document, start, far = self._documents(batch, slots, generator)
        row, within = torch.arange(batch)[:, None], torch.arange(slots) - start
        asked = distinct(batch * far.shape[1], self.facts, self.questions, generator)
        fact = torch.cat([torch.arange(self.facts).expand(len(asked), -1), asked], dim=1).view(*far.shape, -1)
        fact = fact[row, document, within.clamp(max=self.facts + self.questions - 1)]
        kind = torch.where(within < self.facts, STATEMENT, QUESTION)
        kind[within >= self.facts + self.questions] = LOCAL
        local = _local(batch, slots, preferences(self.lexicon), generator)
        kind = torch.where(_fits(kind, document, local, length), kind, LOCAL)
        names, surnames = (
            distinct(far.numel(), len(words), self.facts, generator).view(*far.shape, -1)[row, document, fact]
            for words in (NAMES, SURNAMES)
        )
        cells = _sentences(kind, names + FIRST_NAME, surnames + FIRST_SURNAME, local)
        order = _order(kind, document, start + fact, far, generator)
        cells = cells.gather(1, order[..., None].expand(-1, -1, CELLS + 1))
        opens = document.gather(1, order).diff(dim=1, prepend=torch.full((batch, 1), -1)) != 0
        cells[..., 0] = torch.where(opens, SEPARATOR, -1)
        return self._packed(cells, order.argsort(dim=1), asked.view(*far.shape, -1)[:, 0], length)

    def _documents(
        self, batch: int, slots: int, generator: torch.Generator
    ) -> tuple[Int[Tensor, "b slots"], Int[Tensor, "b slots"], Bool[Tensor, "b documents"]]:
        """Draw for each slot the number of its document and the slot where that starts; and which documents are far.

        Slots and documents are counted from the end of the sequence.
        """
        count = slots // self.sizes[0] + 1
        sizes = torch.randint(self.sizes[0], self.sizes[1] + 1, (batch, count), generator=generator)
        ends = sizes.cumsum(1)
        document = torch.searchsorted(ends, torch.arange(slots).expand(batch, -1).contiguous(), right=True)
        far = torch.rand(batch, count, generator=generator) < self.far
        far[:, 0] |= self.asked
        return document, (ends - sizes).gather(1, document), far

    def _packed(
        self,
        cells: Int[Tensor, "b slots cells"],
        where: Int[Tensor, "b slots"],
        asked: Int[Tensor, "b q"],
        length: int,
    ) -> Batch:
        """Return the last `length` tokens of the sentences; `where` tells the place that each slot has come to."""
        flat = cells.flatten(1)
        place = (flat >= 0).cumsum(1)
        place = place - place[:, -1:] + length - 1
        tokens = flat[(flat >= 0) & (place >= 0)].view(len(cells), length)
        place, row = place.view(cells.shape), torch.arange(len(cells))[:, None]
        at, order = place[row, where[:, self.facts : self.facts + self.questions], 3].sort(dim=1)
        stated = place[row, where.gather(1, asked), 4].gather(1, order)
        return Batch(tokens, at, tokens.gather(1, at + 1), at + 1 - stated)

    def distances(self, tokens: Int[Tensor, "b s"]) -> Int[Tensor, "b s"]:
        """Return for each surname that an introduction told how many tokens before it that was; for all others 0.

        Introductions count within the document alone, and only those that `tokens` holds.
        """
        name, before = tokens.roll(1, 1) - FIRST_NAME, tokens.roll(2, 1)
        place = torch.arange(tokens.shape[1], device=tokens.device).expand_as(tokens)
        surname = (tokens >= FIRST_SURNAME) & (tokens < FIRST_NOUN) & (place >= 2)
        surname &= (name >= 0) & (name < len(NAMES))
        person = (tokens == SEPARATOR).cumsum(1) * len(NAMES) + name.clamp(0, len(NAMES) - 1)
        told = torch.full((len(tokens), int(person.max()) + 1), -1, device=tokens.device)
        row, column = (surname & (before == IS)).nonzero(as_tuple=True)
        told[row, person[row, column]] = column
        told = told.gather(1, person)
        return (place - told).where(surname & (before == COMES) & (told >= 0), torch.zeros_like(place))

    def predictable(self, tokens: Int[Tensor, "b s"]) -> Bool[Tensor, "b s-1"]:
        """True where the sentence so far foretells the next token as well as the whole text could.

        These are all words but names, surnames and the first of a sentence: which sentence comes next, and who comes,
        depends on the document.
        """
        after = tokens[:, 1:]
        inside = (tokens[:, :-1] != SEPARATOR) & (tokens[:, :-1] != STOP)
        return inside & ((after < FIRST_NAME) | (after >= FIRST_NOUN))

    def with_pairs(self, pairs: int) -> Corpus:
        """Return the same corpus with so many facts, and no more questions than facts (for curricula)."""
        return replace(self, facts=pairs, questions=min(self.questions, pairs))


def _local(
    batch: int, slots: int, likes: dict[str, Tensor], generator: torch.Generator
) -> Int[Tensor, "b slots cells"]:
    """Draw a local sentence for each slot, -1 where a cell is empty. One in three is an aside.

    the duck by the stones sees the owl. | the [old] duck sees the [grey] owl. | and soon then up again [out [yet]].
    """

    def draw(count: int) -> Int[Tensor, "b slots"]:
        return torch.randint(count, (batch, slots), generator=generator)

    def maybe(word: Int[Tensor, "b slots"], when: Bool[Tensor, "b slots"]) -> Int[Tensor, "b slots"]:
        return torch.where(when, word, -1)

    subject, plural = draw(len(NOUNS)), draw(2)
    verb = likes["verbs"][subject, draw(LIKES)]
    object_ = likes["objects"][verb, draw(LIKES)]
    adjectives = [likes["adjectives"][noun, draw(LIKES)] + FIRST_ADJECTIVE for noun in (subject, object_)]
    noun = FIRST_NOUN + subject + plural * len(NOUNS)
    verb = FIRST_VERB + verb + (1 - plural) * len(VERBS)
    object_ = FIRST_NOUN + object_ + draw(2) * len(NOUNS)
    beside = FIRST_NOUN + draw(2 * len(NOUNS))
    walk = [draw(len(ASIDES))]
    for _ in range(5):
        walk.append(likes["asides"][walk[-1], draw(2)])
    walk = [word + FIRST_ASIDE for word in walk]
    longer, form = draw(3), draw(3)
    kinds: tuple[list[Tensor | int], ...] = (
        [THE, noun, BY, THE, beside, verb, THE, object_, STOP],
        [
            THE,
            maybe(adjectives[0], draw(2) == 0),
            noun,
            verb,
            THE,
            maybe(adjectives[1], draw(2) == 0),
            object_,
            STOP,
        ],
        [AND, *walk[:4], maybe(walk[4], longer > 0), maybe(walk[5], longer > 1), STOP],
    )
    cells = torch.full((3, batch, slots, CELLS), -1)
    for which, words in enumerate(kinds):
        for i, word in enumerate(words):
            cells[which, :, :, i] = word
    return cells.gather(0, form[None, ..., None].expand(-1, -1, -1, CELLS))[0]


def _fits(
    kind: Int[Tensor, "b slots"],
    document: Int[Tensor, "b slots"],
    local: Int[Tensor, "b slots cells"],
    length: int,
) -> Bool[Tensor, "b slots"]:
    """Return for each sentence whether its document fits whole into `length` tokens, and all later ones with it."""
    count = int(document.max()) + 1
    size = torch.where(kind == LOCAL, (local >= 0).sum(2), TOLD)
    total = torch.zeros(len(kind), count, dtype=torch.long).scatter_add(1, document, size).cumsum(1)
    return (total + 1 + torch.arange(count) <= length).gather(1, document)


def _sentences(
    kind: Int[Tensor, "b slots"],
    name: Int[Tensor, "b slots"],
    surname: Int[Tensor, "b slots"],
    local: Int[Tensor, "b slots cells"],
) -> Int[Tensor, "b slots cells+1"]:
    """Return each sentence, -1 where a cell is empty; the first cell is left for a separator."""
    cells = torch.cat([torch.full_like(local[..., :1], -1), local], dim=2)
    cells[kind != LOCAL] = -1
    for which, words in ((STATEMENT, (THIS, IS)), (QUESTION, (HERE, COMES))):
        for i, word in enumerate([*map(torch.tensor, words), name, surname, torch.tensor(STOP)]):
            cells[..., i + 1] = torch.where(kind == which, word, cells[..., i + 1])
    return cells


def _order(
    kind: Int[Tensor, "b slots"],
    document: Int[Tensor, "b slots"],
    stated: Int[Tensor, "b slots"],
    far: Bool[Tensor, "b documents"],
    generator: torch.Generator,
) -> Int[Tensor, "b slots"]:
    """Return the slots in the order of the text: documents from the last to the first, sentences as `far` says.

    A document opens with a statement. `stated` is the slot in which a question's fact is stated.
    """
    key = torch.rand(kind.shape, generator=generator, dtype=torch.float64)
    first = document.diff(dim=1, prepend=torch.full((len(kind), 1), -1)) != 0
    early = key.masked_fill(first & (kind == STATEMENT), -1)
    near = early.gather(1, torch.where(kind == QUESTION, stated, torch.arange(kind.shape[1])))
    distant = key + (kind == QUESTION).double() - (kind == STATEMENT).double()
    return (torch.where(far.gather(1, document), distant, near) - 4 * document).argsort(dim=1, stable=True)
