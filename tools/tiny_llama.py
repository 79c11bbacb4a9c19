"""Train the small Llama that comes with the book, and write lcbook/tiny_llama: python tools/tiny_llama.py FOLDER"""

from __future__ import annotations

import math
import sys
import time
from dataclasses import replace
from pathlib import Path

import torch

from lcbook.experiments.train import TrainSpec, train
from lcbook.models.decoder import Decoder, ModelSpec, build
from lcbook.models.layers import Attention
from lcbook.models.llama import export
from lcbook.models.positions import RoPE
from lcbook.tasks.item_texts import END, UNKNOWN, ItemTexts, vocabulary
from lcbook.tasks.items import ITEMS, Sizes

SPEC = ModelSpec(
    layers=4,
    width=64,
    heads=4,
    kv_heads=4,
    mlp=128,
    position=RoPE(base=500_000.0),
    key_shift=False,
    qk_norm=False,
)


SHARP, SIZE = (
    7.0,
    4.0,
)  # how narrowly the first heads look; the norm of an embedding as it enters the first layer


def start(model: Decoder) -> None:
    """Let the model start out with heads that look back and heads that look for what is alike.

    The first three heads of the first layer look one, two and three tokens back and pass on what they see in one
    subspace. The heads of the other layers compare that subspace, in the coordinates that RoPE turns slowly, and pass
    on a quarter each of what they find. Every embedding gets one coordinate of the same size, from which the first
    heads make queries and keys that differ in position alone; with shared embeddings it adds the same to all logits.
    After Trockman and Kolter 2023, arXiv 2305.09828.
    """
    width, heads = model.spec.width, model.spec.heads
    head = width // heads
    turn = SPEC.position.base ** (-torch.arange(head // 2) * 2 / head)  # type: ignore[union-attr]  # radians a token
    slow = (turn * 64 < 2 * math.pi).repeat(2)[:, None]
    generator = torch.Generator().manual_seed(0)
    basis = torch.linalg.qr(torch.randn(width - 1, width - 1, generator=generator))[0]
    basis = torch.nn.functional.pad(basis, (1, 0))  # leaves the shared coordinate alone
    alike = basis[:head]
    attentions = [part for part in model.modules() if isinstance(part, Attention)]
    first, *others = attentions
    with torch.no_grad():
        model.embedding.weight[:, 0] = SIZE / width**0.5
        level = SIZE / math.sqrt(2 * SIZE**2 / width)  # what the norm makes of the shared coordinate
        for number in range(3):
            rows = slice(number * head, (number + 1) * head)
            back = turn * (number + 1)
            first.q.weight[rows], first.k.weight[rows] = 0, 0
            first.q.weight[rows, 0] = torch.cat([torch.cos(back), -torch.sin(back)]) * SHARP / level
            first.k.weight[rows, 0] = (
                torch.cat([torch.ones(head // 2), torch.zeros(head // 2)]) * SHARP / level
            )
            first.v.weight[rows], first.out.weight[:, rows] = alike, alike.T
        for attention in others:
            for number in range(heads):
                rows = slice(number * head, (number + 1) * head)
                mixed = slow * (torch.linalg.qr(torch.randn(head, head, generator=generator))[0] @ alike)
                part = basis[number * head : (number + 1) * head] if number < 3 else basis[-head:]
                attention.q.weight[rows], attention.k.weight[rows] = mixed, mixed
                attention.v.weight[rows], attention.out.weight[:, rows] = part, part.T


LOOKUPS = ("multi_key", "near_duplicate", "question_answering")
STAGES = (  # what is trained on, tokens a text, updates
    (ItemTexts(LOOKUPS, Sizes(pairs=5, keys=32, numbers=64), restated=1.0), 112, 200),
    (ItemTexts(sizes=Sizes(pairs=5), restated=0.8), 112, 600),
    (ItemTexts(competing=0.25, restated=0.5), 160, 1000),
    (ItemTexts(competing=0.25, restated=0.25), 224, 1600),
)
RECIPE = TrainSpec(batch=16, lr=3e-3, betas=(0.8, 0.95), warmup=0.02)
WINDOW = 1024


def main(folder: Path) -> None:
    """Train all stages on one thread, and write the model."""
    torch.set_num_threads(1)
    model, started = build(SPEC, len(vocabulary()), 0), time.perf_counter()
    start(model)
    for number, (task, length, updates) in enumerate(STAGES):
        train(model, task, replace(RECIPE, length=length, updates=updates), seed=number)
        print(
            f"stage {number}, {time.perf_counter() - started:.0f} s: {recalls(model, task.sizes, length)}",
            flush=True,
        )
    save(model, folder)


def save(model: Decoder, folder: Path) -> None:
    """Write `model` in Hugging Face form, with a README that says how it was made and what it recalls."""
    found = ", ".join(
        f"{name} {100 * share:.0f}" for name, share in recalls(model, Sizes(), STAGES[-1][1]).items()
    )
    notes = {
        "made by": "tools/tiny_llama.py, on one thread of a CPU in about a quarter of an hour, from seed 0",
        "starts with": "heads that look one to three tokens back and heads that match what is alike (mimetic "
        "initialization, arXiv 2305.09828)",
        "trained on": "the thirteen tasks of lcbook.tasks.items in prose, in a quarter of the later texts among "
        "competing facts; lookups first: "
        + ", ".join(f"{updates:,} updates at {length} tokens" for _, length, updates in STAGES)
        + f", {RECIPE.batch} texts each",
        "window": f"{WINDOW} tokens, of which training saw {STAGES[-1][1]}",
        "recall of the first answer word": f"in 64 texts of {STAGES[-1][1]} tokens a task, in %: {found}",
        "licence": "MIT, as the code of the book",
    }
    export(model, folder, words=vocabulary(), unknown=UNKNOWN, end=END, window=WINDOW, notes=notes)


def recalls(model: Decoder, sizes: Sizes, length: int) -> dict[str, float]:
    """Return the share of first answer words that are right, by task, in 64 texts of `length` tokens."""
    found = {}
    for name in ITEMS:
        batch = ItemTexts((name,), sizes).sample(64, length, torch.Generator().manual_seed(1))
        with torch.no_grad():
            right = model(batch.tokens, None, batch.at).argmax(-1) == batch.answers
        found[name] = float(right[:, 0].float().mean())
    return found


if __name__ == "__main__":
    main(Path(sys.argv[1]))
