"""Forms: a trained model answers while the reader types, for what no page can compute.

With a kernel and ipywidgets a form shows its fields and runs the model at each change. Elsewhere it is a still: the
answer to the settings at the start, and how to run it.
"""

from __future__ import annotations

import copy
import html
import itertools
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from lcbook.experiments import streaming
from lcbook.experiments.heads import attention_maps
from lcbook.explorers.controls import Choice, Slider, format_number
from lcbook.explorers.fragment import JS
from lcbook.formats import percent
from lcbook.models import surgery
from lcbook.models.decoder import Decoder
from lcbook.models.positions import draw_positions
from lcbook.tasks.recall import KeyValueRecall

VIEW = "application/vnd.jupyter.widget-view+json"
RUN = "This is a still. To use the form, open the chapter on Colab or with “make lab” and run its cells."
LEAD = 8  # tokens of filler before the needle
FILLER = "·"
SEED = 0  # of the filler and of the texts


@dataclass(frozen=True)
class Field:
    """A line of text that the reader types, `value` at the start."""

    value: str
    label: str


@dataclass(frozen=True)
class Tick:
    """A box that the reader ticks, empty at the start."""

    label: str
    value: bool = False


Entry = Choice | Slider | Field | Tick


@dataclass(frozen=True)
class Form:
    """Fields and what a model answers: `answer` takes their values by name and returns HTML, or raises ValueError
    with a sentence for the reader. `about` describes the form in words.
    """

    about: str
    fields: Mapping[str, Entry]
    answer: Callable[[Mapping[str, Any]], str] = field(repr=False)

    def shown(self, values: Mapping[str, Any]) -> str:
        """Return the HTML for the fields' values: the model's answer, or what is wrong with them."""
        return _figure(self._said(values))

    def still(self) -> str:
        """Return the HTML of the settings at the start, the answer to them, and how to run the form."""
        settings = [
            f"{html.escape(entry.label)}: <b>{html.escape(_written(entry, entry.value))}</b>"
            for entry in self.fields.values()
            if not isinstance(entry, Tick)
        ]
        start = {name: entry.value for name, entry in self.fields.items()}
        return _figure(f"<p>{'; '.join(settings)}.</p>{self._said(start)}<p>{RUN}</p>")

    def _said(self, values: Mapping[str, Any]) -> str:
        try:
            return self.answer(values)
        except ValueError as error:
            return f'<p role="alert">{html.escape(str(error))}</p>'

    def view(self) -> Any:
        """Return the live form, a box of ipywidgets whose last child shows the answer; None without ipywidgets."""
        try:
            import ipywidgets  # optional: a script has no use for it
        except ModuleNotFoundError:
            return None
        inputs = {name: _input(ipywidgets, entry) for name, entry in self.fields.items()}
        answer = ipywidgets.HTML()

        def update(change: Any = None) -> None:
            answer.value = self.shown({name: one.value for name, one in inputs.items()})

        for one in inputs.values():
            one.observe(update, "value")
        update()
        return ipywidgets.VBox([*inputs.values(), answer])

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, Any]:
        bundle = {"text/html": self.still(), "text/plain": f"{self.about} {RUN}"}
        view = self.view()
        live = {"version_major": 2, "version_minor": 0, "model_id": view.model_id} if view else None
        return bundle | ({VIEW: live} if live else {})


def _figure(inner: str) -> str:
    style = "".join((JS / name).read_text(encoding="utf-8") for name in ("explorer.css", "form.css"))
    return f'<figure class="lc-explorer lc-form"><style>{style}</style>{inner}</figure>'


def _written(entry: Entry, value: Any) -> str:
    return format_number(value) + entry.unit if isinstance(entry, Slider) else str(value)


def _input(ipywidgets: Any, entry: Entry) -> Any:
    """Return the input of ipywidgets for an entry; what is typed or dragged counts once it is done."""
    look = {
        "description": entry.label,
        "style": {"description_width": "initial"},
        "layout": {"width": "min(480px, 95%)"},
    }
    match entry:
        case Choice():
            return ipywidgets.Dropdown(options=entry.options, value=entry.value, **look)
        case Slider():
            options = [(_written(entry, x), x) for x in entry.values]
            return ipywidgets.SelectionSlider(
                options=options, index=entry.start, continuous_update=False, **look
            )
        case Field():
            return ipywidgets.Text(value=entry.value, continuous_update=False, **look)
        case Tick():
            return ipywidgets.Checkbox(indent=False, **look)


# The forms ---------------------------------------------------------------------------------------------------


def recall_form(models: Mapping[str, Decoder], task: KeyValueRecall, start: int, longest: int) -> Form:
    """Type pairs, name a key, move its pair back from the question: a model answers and shows where it looks.

    `models` of one task by name; the pair lies `start` tokens back at first, in a text of up to `longest` tokens.
    Raises ValueError for fewer than two models and for a start below 16 or beyond the text.
    """
    fields: dict[str, Entry] = {
        "model": Choice(tuple(models), next(iter(models), ""), "Model"),
        "pairs": Field("k7 v3 k2 v9 k11 v5 k4 v14", "Pairs of a key and its value"),
        "asked": Field("k7", "Key that is asked for"),
        "gap": Slider(16, longest - LEAD - 1, 2**0.5, start, "The pair lies back", log=True, unit=" tokens"),
    }

    def answer(values: Mapping[str, Any]) -> str:
        tokens = _laid_out(_pairs(values["pairs"], task), values["asked"].strip(), values["gap"], task)
        words = [_name(token, task) for token in tokens.tolist()]
        probabilities, maps = _read(models[values["model"]], tokens)
        said = _verdict(probabilities, words[LEAD + 1], words[LEAD], task)
        rows = enumerate(maps[-1][:, -1])
        looks = [_strip(f"Head {h + 1}", words, row, (LEAD, LEAD + 1)) for h, row in rows]
        return f"{said}{''.join(looks)}"

    return Form("A form: pairs to type, a needle to move, and the answer of a trained model.", fields, answer)


def heads_form(model: Decoder, task: KeyValueRecall, longest: int = 64) -> Form:
    """Type a text that ends in a key: the model answers and shows where each head looks; a ticked head is silenced.

    Above the last layer's heads, which look from the question, stand those of the layers below, which look from the
    value asked for. `longest` is the number of tokens allowed.
    """
    sizes = range(model.spec.layers), range(model.spec.heads)
    heads = {f"layer {i + 1}, head {j + 1}": (i, j) for i, j in itertools.product(*sizes)}
    fields: dict[str, Entry] = {
        "text": Field(". k7 v3 . . k2 v9 . k11 v5 . k4 v14 . . k2", "Text (a dot is filler)")
    }
    fields |= {name: Tick(f"Silence {name}") for name in heads}

    def answer(values: Mapping[str, Any]) -> str:
        tokens = _typed(values["text"], task, longest)
        words = [_name(token, task) for token in tokens.tolist()]
        pairs = [i for i in range(len(words) - 2) if words[i] == words[-1] and words[i + 1].startswith("v")]
        needle = (pairs[-1], pairs[-1] + 1) if pairs else ()
        changed = copy.deepcopy(model)
        for name, (layer, head) in heads.items():
            if values[name]:
                surgery.ablate(changed, layer, head)
        probabilities, maps = _read(changed, tokens)
        said = _verdict(probabilities, words[needle[1]] if needle else "", words[-1], task)
        for name, (layer, head) in heads.items():
            at = needle[1] if needle and layer < model.spec.layers - 1 else len(words) - 1
            title = f"{name.capitalize()}{', silenced' * values[name]}, from {words[at]}"
            said += _strip(title, words[: at + 1], maps[layer][head, at, : at + 1], needle)
        return said

    return Form("A form: a text to type, heads to silence, and the model's answer.", fields, answer)


def dilution_form(
    models: Mapping[str, Decoder], haystacks: Mapping[str, KeyValueRecall], shortest: int, longest: int
) -> Form:
    """Lengthen the text and sharpen the scores: the needle's weight against that of all the rest, and the answer.

    `models` by name are of one layer without a position encoding (see `streaming.kinds_of`), `haystacks` by name are
    tasks of theirs; lengths in tokens go from `shortest` to `longest`. Raises ValueError for fewer than two of either.
    """
    fields: dict[str, Entry] = {
        "model": Choice(tuple(models), next(iter(models), ""), "Model"),
        "haystack": Choice(tuple(haystacks), next(iter(haystacks), ""), "Haystack"),
        "length": Slider(shortest, longest, 2, longest, "Length of the text", log=True, unit=" tokens"),
        "factor": Slider(0.5, 4, 0.25, 1, "Scores are multiplied by"),
    }

    def answer(values: Mapping[str, Any]) -> str:
        task, length = haystacks[values["haystack"]], values["length"]
        changed = copy.deepcopy(models[values["model"]])
        surgery.temper(changed, values["factor"])
        text = streaming.draw(task, length, torch.Generator().manual_seed(SEED))
        replies = streaming.answers(streaming.kinds_of(changed), text)
        wanted = text.batch.answers[0].tolist()
        right = sum(int(reply.logits.argmax()) == one for reply, one in zip(replies, wanted, strict=True))
        first, (key, value) = replies[0], (_name(token, task) for token in text.needles[0].tolist())
        head = int(first.log_odds.argmax())
        weight = float(torch.sigmoid(first.log_odds[head]))
        seen = length - 2 * task.queries + 1  # tokens that the first question sees, its own included
        return (
            _verdict(first.logits.softmax(0).cpu(), value, key, task)
            + _strip("Weight", [value, f"{seen - 1:,} others"], torch.tensor([weight, 1 - weight]), (0,))
            + f"<p>The needle's score leads the mean of the others by <b>{float(first.margin[head]):.1f}</b> nats; the "
            f"logarithm of their number is <b>{math.log(seen - 1):.1f}</b>. Of the {len(wanted)} questions about this "
            f"text {right} are answered right.</p>"
        )

    return Form("A form: a text to lengthen, scores to sharpen, and the needle's weight.", fields, answer)


# What the reader types ---------------------------------------------------------------------------------------


def _token(word: str, task: KeyValueRecall) -> int:
    """Return the token called k7 or v7."""
    first, count = (0, task.keys) if word.startswith("k") else (task.keys, task.values)
    if not re.fullmatch(r"[kv](0|[1-9][0-9]{0,5})", word) or int(word[1:]) >= count:
        raise ValueError(
            f"token is {word!r}; allowed are keys k0 to k{task.keys - 1} and values v0 to v{task.values - 1}."
        )
    return first + int(word[1:])


def _name(token: int, task: KeyValueRecall) -> str:
    if token >= task.keys + task.values:
        return FILLER
    return f"k{token}" if token < task.keys else f"v{token - task.keys}"


def _words(text: str) -> list[str]:
    return text.replace(",", " ").split()


def _pairs(text: str, task: KeyValueRecall) -> dict[str, str]:
    """Return the value of each key in a text of pairs."""
    words = _words(text)
    for word in words:
        _token(word, task)
    keys, values = words[::2], words[1::2]
    ordered = all(key.startswith("k") for key in keys) and all(value.startswith("v") for value in values)
    if not words or not ordered or len(words) % 2 or len(set(keys)) < len(keys):
        raise ValueError(
            f"pairs is {text!r}; allowed are a key and its value, again and again, each key once."
        )
    return dict(zip(keys, values, strict=True))


def _filler(length: int, task: KeyValueRecall) -> Int[Tensor, " s"]:
    """Draw filler, the same each time; a longer one begins like a shorter one."""
    drawn = torch.randint(task.filler, (length,), generator=torch.Generator().manual_seed(SEED))
    return drawn + task.keys + task.values


def _laid_out(pairs: dict[str, str], asked: str, gap: int, task: KeyValueRecall) -> Int[Tensor, " s"]:
    """Return a text: filler, the pair asked for at `LEAD`, the others evenly behind it, the question `gap` after it."""
    if asked not in pairs:
        raise ValueError(f"key is {asked!r}; allowed is one of {', '.join(pairs)}.")
    if len(pairs) > gap // 2:
        raise ValueError(f"pairs has {len(pairs)} pairs; allowed are {gap // 2} within {gap} tokens.")
    tokens = _filler(LEAD + gap + 1, task)
    for place, key in enumerate([asked, *(key for key in pairs if key != asked)]):
        at = LEAD + 2 * (place * (gap // 2) // len(pairs))
        tokens[at], tokens[at + 1] = _token(key, task), _token(pairs[key], task)
    tokens[-1] = _token(asked, task)
    return tokens


def _typed(text: str, task: KeyValueRecall, longest: int) -> Int[Tensor, " s"]:
    """Return the tokens of a text that ends in a key."""
    words = _words(text)
    if not 2 <= len(words) <= longest or not words[-1].startswith("k"):
        raise ValueError(f"text has {len(words)} tokens; allowed are 2 to {longest}, the last one a key.")
    tokens = _filler(len(words), task)
    for place, word in enumerate(words):
        tokens[place] = tokens[place] if word == "." else _token(word, task)
    return tokens


# What the model answers --------------------------------------------------------------------------------------


@torch.no_grad()
def _read(
    model: Decoder, tokens: Int[Tensor, " s"]
) -> tuple[Float[Tensor, " v"], list[Float[Tensor, "h s s"]]]:
    """Return the probabilities of the token after the last one, and the attention maps of each layer."""
    device = model.embedding.weight.device
    text, last = tokens[None].to(device), torch.tensor([[len(tokens) - 1]], device=device)
    generator = torch.Generator().manual_seed(SEED)
    positions = draw_positions(model.spec.position, 1, len(tokens), generator, device)
    maps = attention_maps(model, text, positions)
    return model(text, positions, last)[0, 0].softmax(0).cpu(), [one[0].cpu() for one in maps]


def _verdict(probabilities: Float[Tensor, " v"], wanted: str, asked: str, task: KeyValueRecall) -> str:
    """Return the three likeliest answers, and whether the first is the value `wanted` ("": the text has none)."""
    top = probabilities.topk(3)
    names = [_name(token, task).replace(FILLER, "filler") for token in top.indices.tolist()]
    best, *others = (f"{name} ({percent(p)})" for name, p in zip(names, top.values.tolist(), strict=True))
    truth = f"the text says <b>{wanted}</b>" if wanted else "the text does not say"
    mark = "right" if names[0] == wanted else f"wrong, {truth}" if wanted else truth
    return (
        f'<p role="status">Asked for {asked}, the model answers <b>{best}</b>: {mark}. '
        f"Next come {' and '.join(others)}.</p>"
    )


def _strip(name: str, words: Sequence[str], weights: Float[Tensor, " s"], marked: Sequence[int]) -> str:
    """Return a bar for each word, of the height of its weight; a run of filler has one bar for its sum."""
    cells: list[tuple[str, float, bool]] = []
    for filler, run in itertools.groupby(range(len(words)), lambda i: words[i] == FILLER):
        places = list(run)
        if filler:
            count = f"{FILLER} × {len(places)}" if len(places) > 1 else FILLER
            cells.append((count, float(weights[places].sum()), False))
        else:
            cells += [(words[i], float(weights[i]), i in marked) for i in places]
    most = max(cells, key=lambda cell: cell[1])
    said = f"{name}: most on {most[0].replace(FILLER, 'filler')}, {most[1]:.2f}"
    bars = "".join(
        f'<span{" class=lc-needle" * needle}><i style="--w:{weight:.3f}"></i>{word}<br>{weight:.2f}</span>'
        for word, weight, needle in cells
    )
    return f'<p class="lc-name">{said}</p><div class="lc-strip" role="img" aria-label="{said}">{bars}</div>'
