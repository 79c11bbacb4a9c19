"""Forms: what the model answers to what is typed, the still where no kernel is, and what bad input is told."""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser

from lcbook.experiments import streaming
from lcbook.experiments.heads import attention_maps
from lcbook.explorers.forms import RUN, VIEW, Form, dilution_form, heads_form, recall_form
from lcbook.models.decoder import Decoder, ModelSpec, build
from lcbook.models.positions import Learned, Randomized, RoPE, Sinusoidal, draw_positions
from lcbook.tasks.recall import KeyValueRecall
from tests.fragments import Reader, Shown

# Tokens: keys 0 to 15, values 16 to 31, and one token of filler, 32.
TASK = KeyValueRecall(pairs=4, queries=2, keys=16, values=16, filler=1)
CROWD = replace(TASK, competing=0.5)
MANY = " ".join(f"k{i} v{i}" for i in range(16))


def plain(seed: int = 0, **changes: Any) -> Decoder:
    return build(ModelSpec(**({"width": 16, "heads": 2} | changes)), TASK.vocabulary, seed)


def says_three(layers: int = 1) -> Decoder:
    """A model that looks at all tokens alike, reads nothing from them, and answers v3 to k7."""
    model = plain(layers=layers, heads=1)
    with torch.no_grad():
        for layer in model.layers:
            layer.attention.q.weight.zero_()
            layer.attention.out.weight.zero_()
        model.embedding.weight[16 + 3] = 10 * model.embedding.weight[7]
    return model


def finds_keys() -> Decoder:
    """A model whose query matches, of all tokens, the one after its key best."""
    model = plain(heads=1, qk_scale=2.0)
    attention = model.layers[0].attention
    with torch.no_grad():
        attention.k.weight.copy_(attention.q.weight)
        attention.shift.logit.fill_(-20)
    return model


def forms() -> dict[str, Form]:
    content = {"one": plain(), "two": plain(1)}
    return {
        "recall": recall_form({"RoPE": plain(position=RoPE()), "none": plain()}, TASK, 24, 128),
        "heads": heads_form(plain(layers=2, key_shift=False), TASK),
        "dilution": dilution_form(content, {"filler": TASK, "crowd": CROWD}, 32, 256),
    }


each_form = pytest.mark.parametrize("name", ["recall", "heads", "dilution"])


def bars(text: str) -> list[tuple[str, float]]:
    """The words of the strips and their weights."""
    return [(word, float(weight)) for word, weight in re.findall(r"</i>([^<]*)<br>([\d.]+)<", text)]


def likeliest(model: Decoder, tokens: list[int], positions: Any = None) -> tuple[str, float]:
    """The answer to the last token, and its probability, from a forward pass over all places."""
    with torch.no_grad():
        best = model(torch.tensor([tokens]), positions)[0, -1].softmax(0).max(0)
    token = int(best.indices)
    return ("filler" if token == 32 else f"k{token}" if token < 16 else f"v{token - 16}"), float(best.values)


def answered(text: str) -> tuple[str, float]:
    word, share = re.findall(r"answers <b>(\S+) \(([\d.]+) %\)</b>", text)[0]
    return word, float(share) / 100


@each_form
def test_the_still_is_what_a_page_shows(name: str) -> None:
    bundle = forms()[name]._repr_mimebundle_()
    assert set(bundle) == {"text/html", "text/plain", VIEW}
    assert bundle["text/html"] == forms()[name]._repr_mimebundle_()["text/html"]
    assert Reader(bundle["text/html"]).open == []
    assert RUN in bundle["text/html"]
    assert RUN in bundle["text/plain"]
    assert "<script" not in bundle["text/html"]
    assert "http" not in bundle["text/html"]
    assert 'role="alert"' not in bundle["text/html"]  # the settings at the start are no mistake
    answer = forms()[name].view().children[-1].value
    assert RUN not in answer
    assert bars(answer) == bars(bundle["text/html"]) != []


def test_without_ipywidgets_there_is_the_still_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ipywidgets", None)
    assert set(forms()["heads"]._repr_mimebundle_()) == {"text/html", "text/plain"}


def test_right_and_wrong() -> None:
    view = heads_form(says_three(2), TASK).view()
    text, answer = view.children[0], view.children[-1]
    text.value = "k2 v9 k7 v3 k7"
    assert "<b>v3 (" in answer.value
    assert "</b>: right." in answer.value
    assert bars(answer.value) == [(word, 0.25) for word in ("k2", "v9", "k7", "v3")] + [
        (word, 0.2) for word in ("k2", "v9", "k7", "v3", "k7")
    ]
    text.value = "k7, v3, k7, v5, k7"  # the later pair holds
    assert "wrong, the text says <b>v5</b>" in answer.value
    text.value = ". . . k2 v9 k7"
    assert "the text does not say" in answer.value
    assert bars(answer.value)[:3] == [("· × 3", 0.5), ("k2", 0.17), ("v9", 0.17)]


@dataclass(frozen=True)
class Near:
    """A reader's own encoding: scores fall with the distance."""

    def bias(self, q_positions, k_positions):
        return -0.25 * (q_positions[:, None, :, None] - k_positions[:, None, None]).abs()


def test_recall_moves_the_needle() -> None:
    drawn = Randomized(Sinusoidal(), 64)
    models = {"RoPE": plain(position=RoPE()), "none": plain(3), "randomized": plain(position=drawn)}
    models["own"] = plain(position=Near())
    view = recall_form(models, TASK, 24, 128).view()
    model, pairs, asked, gap, answer = view.children
    pairs.value, asked.value = "k5 v1 k7 v3", "k7"
    for name, index in (("RoPE", 0), ("RoPE", 1), ("none", 1), ("randomized", 0), ("own", 0)):
        model.value, gap.index = name, index
        back = (16, 24)[index]
        # Eight fillers, the pair asked for, the other half way to the question.
        other = 8 + 2 * (back // 4)
        tokens = [32] * (8 + back) + [7]
        tokens[8:10], tokens[other : other + 2] = [7, 16 + 3], [5, 16 + 1]
        generator = torch.Generator().manual_seed(0)
        positions = draw_positions(models[name].spec.position, 1, len(tokens), generator, torch.device("cpu"))
        assert (positions.diff() == 1).all() == (name != "randomized")
        word, share = likeliest(models[name], tokens, positions)
        assert answered(answer.value) == (word, pytest.approx(share, abs=6e-3))
        weights = attention_maps(models[name], torch.tensor([tokens]), positions)[0][0, :, -1]
        heads = bars(answer.value)
        assert [word for word, _ in heads[:3]] == ["· × 8", "k7", "v3"]
        assert heads[2][1] == pytest.approx(float(weights[0, 9]), abs=6e-3)
        assert heads[len(heads) // 2][1] == pytest.approx(float(weights[1, :8].sum()), abs=6e-3)


def test_silenced_heads_write_nothing() -> None:
    model = plain(layers=2, key_shift=False)
    view = heads_form(model, TASK).view()
    text, ticks, answer = view.children[0], view.children[1:-1], view.children[-1]
    assert [tick.description for tick in ticks] == [
        f"Silence layer {i}, head {j}" for i in (1, 2) for j in (1, 2)
    ]
    text.value = "k2 v9 . k7 v3 k2"
    whole = answer.value
    ticks[1].value = ticks[2].value = True
    model_without = plain(layers=2, key_shift=False)
    with torch.no_grad():
        model_without.layers[0].attention.out.weight[:, 8:] = 0  # each head has eight channels
        model_without.layers[1].attention.out.weight[:, :8] = 0
    word, share = likeliest(model_without, [2, 25, 32, 7, 19, 2])
    assert answered(answer.value) == (word, pytest.approx(share, abs=6e-3))
    assert answer.value.count("silenced") == 4  # in the line and in the label of two heads
    ticks[1].value = ticks[2].value = False
    assert answer.value == whole  # the model itself is as it was


def test_dilution_weighs_the_needle() -> None:
    model = finds_keys()
    view = dilution_form({"one": model, "two": plain(1)}, {"filler": TASK, "crowd": CROWD}, 32, 256).view()
    name, haystack, length, factor, answer = view.children
    haystack.value, length.index, factor.value = "crowd", 1, 2
    text = streaming.draw(CROWD, 64, torch.Generator().manual_seed(0))
    tokens = torch.cat([*text.pieces, text.batch.tokens[0, :1]])
    row = attention_maps(model, tokens[None])[0][0, 0, -1]
    needle = int((tokens[:-1] == tokens[-1]).nonzero()[0]) + 1
    sharpened = row**2 / (row**2).sum()  # twice the scores: the weights squared
    assert sharpened[needle] > row[needle] + 0.1
    value = f"v{int(tokens[needle]) - 16}"
    assert bars(answer.value) == [
        (value, pytest.approx(float(sharpened[needle]), abs=6e-3)),
        ("60 others", pytest.approx(1 - float(sharpened[needle]), abs=6e-3)),
    ]
    before = answer.value
    name.value = "two"
    assert answer.value != before


@pytest.mark.parametrize(
    ("name", "place", "value", "sentence"),
    [
        ("recall", 1, "k7 v3 k99 v1", "token is 'k99'; allowed are keys k0 to k15 and values v0 to v15."),
        ("recall", 1, "k7 v3 k2", "pairs is 'k7 v3 k2'; allowed are a key and its value"),
        ("recall", 1, "v3 k7", "pairs is 'v3 k7'; allowed are a key and its value"),
        ("recall", 1, "k7 v3 k7 v4", "each key once."),
        ("recall", 1, " ", "pairs is ' '; allowed are a key and its value"),
        ("recall", 1, MANY, "pairs has 16 pairs; allowed are 12 within 24 tokens."),
        ("recall", 2, "k3", "key is 'k3'; allowed is one of k7, k2, k11, k4."),
        ("heads", 0, "k7 v3 <b> k7", "token is '<b>'; allowed are keys"),
        ("heads", 0, "k7 v3", "text has 2 tokens; allowed are 2 to 64, the last one a key."),
        ("heads", 0, ". " * 64 + "k1", "text has 65 tokens; allowed are 2 to 64"),
        ("heads", 0, "", "text has 0 tokens; allowed are 2 to 64"),
    ],
)
def test_bad_input_is_told_in_the_form(name: str, place: int, value: str, sentence: str) -> None:
    view = forms()[name].view()
    field, answer = view.children[place], view.children[-1]
    before, good = answer.value, field.value
    field.value = value
    told = re.findall(r'<p role="alert">([^<]*)</p>', answer.value)
    assert len(told) == 1
    assert sentence in told[0].replace("&#x27;", "'").replace("&lt;", "<").replace("&gt;", ">")
    assert "answers" not in answer.value
    field.value = good
    assert answer.value == before


def test_a_table_that_ends_is_told_in_the_form() -> None:
    models = {"learned": plain(position=Learned(40)), "none": plain()}
    view = recall_form(models, TASK, 24, 128).view()
    assert answered(view.children[-1].value)
    view.children[3].index = 2
    assert "the learned table&#x27;s length" in view.children[-1].value


def test_bad_forms() -> None:
    with pytest.raises(ValueError, match="at least 2 names"):
        recall_form({}, TASK, 24, 128)
    with pytest.raises(ValueError, match="value is 8"):
        recall_form({"one": plain(), "two": plain()}, TASK, 8, 128)
    with pytest.raises(ValueError, match="at least 2 names"):
        dilution_form({"one": plain(), "two": plain()}, {"filler": TASK}, 32, 256)


@pytest.mark.browser
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_stills_on_a_narrow_page(browser: Browser, tmp_path: Path, theme: str) -> None:
    body = "".join(form.still() for form in forms().values())
    view = {"width": 390, "height": 800}
    with Shown(browser, tmp_path / "forms.html", body, viewport=view, color_scheme=theme) as shown:
        assert shown.page.evaluate("document.documentElement.scrollWidth") <= 390
        assert shown.page.locator(".lc-strip").count() == 2 + 4 + 1
        assert [v["id"] for v in Axe().run(shown.page).response["violations"]] == []
