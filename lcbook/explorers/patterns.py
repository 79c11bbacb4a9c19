"""The explorer of attention patterns: what one layer sees of 64 tokens, and what some layers can pass on."""

from __future__ import annotations

from collections.abc import Callable

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

from lcbook.attention.patterns import (
    BigBird,
    Chunked,
    Full,
    Static,
    Strided,
    Window,
    pattern_mask,
    random_blocks,
)
from lcbook.explorers.controls import Choice, Control, Slider
from lcbook.explorers.fragment import BLUE, ORANGE, Explorer, live, script

LENGTH, MOST_GLOBALS = 64, 4
FADE = 0.85  # a layer more makes a cell this much paler
# A kind in the menu -> its pattern from window, stride and globals; js/pattern.js has the same kinds.
KINDS: dict[str, Callable[[int, int, int], Static]] = {
    "full": lambda window, stride, first: Full(),
    "window": lambda window, stride, first: Window(window, globals_at=tuple(range(first))),
    "dilated window": lambda window, stride, first: Window(window, stride, globals_at=tuple(range(first))),
    "window + stride": lambda window, stride, first: Strided(window, stride),
    "blocks": lambda window, stride, first: Chunked(window),
    "BigBird": lambda window, stride, first: BigBird(window, window=2, random=1, globals=first),
}


def pattern_of(kind: str, window: int, stride: int, first: int) -> Static:
    """Return the pattern that the explorer draws at this setting of its controls.

    `window` is the window or the block, `stride` the dilation or the stride, and `first` tokens (for BigBird, blocks)
    at the start are global; each kind takes what it has. BigBird sees the block before its own and one at random.
    Raises ValueError for another kind.
    """
    if kind not in KINDS:
        raise ValueError(f"kind is {kind!r}; allowed are {', '.join(KINDS)}.")
    return KINDS[kind](window, stride, first)


def layers_needed(pattern: Static, length: int = LENGTH) -> np.ndarray:
    """Return the fewest layers through which a query can be told of a key, int [query, key]; 0 where none suffice.

    One layer reaches what the mask M shows, l layers what the boolean power M^l does: the keys from which a path of l
    visible steps leads to the query. A query always sees itself, so that more layers never reach less.
    """
    step = pattern_mask(pattern, length).numpy().astype(np.float32)
    needed, found = step.astype(int), step
    for layers in range(2, length):
        wider = np.minimum(found @ step, 1)
        if (wider == found).all():
            break
        needed[wider > found] = layers
        found = wider
    return needed


def pattern_explorer(kind: str = "window", window: int = 8, layers: int = 4) -> Explorer:
    """What a pattern costs and how far it hears: the cells one layer sees, and those that more layers reach.

    Raises ValueError for a kind or number that the controls do not have.
    """
    firsts = range(MOST_GLOBALS + 1)
    tables = [random_blocks(BigBird(1, window=2, random=1, globals=n), LENGTH) for n in firsts]
    controls: dict[str, Control] = {
        "kind": Choice(tuple(KINDS), kind, "Pattern"),
        "window": Slider(1, 32, 1, window, "Window or block"),
        "stride": Slider(1, 16, 1, 4, "Dilation or stride"),
        "globals": Slider(0, MOST_GLOBALS, 1, 0, "Global at the start"),
        "layers": Slider(1, 8, 1, layers, "Layers"),
    }
    return live(
        script("pattern.js", drawn=tables),
        controls,
        alt="Attention patterns over 64 tokens: a window sees a narrow band, at a fraction of the cost of full "
        "attention, and each further layer lets the last token be told of window - 1 tokens more, so that a stack of "
        "layers reaches far where one layer does not.",
        fallback=_picture(pattern_of(kind, window, 4, 0), layers),
        height=380,
        panels=2,
    )


def _picture(pattern: Static, layers: int) -> Figure:
    figure, (left, right) = plt.subplots(1, 2, figsize=(7.6, 4.1), layout="constrained")
    needed = layers_needed(pattern)
    _raster(left, np.where(needed == 1, 1.0, 0.0), "One layer sees")
    within = (needed > 0) & (needed <= layers)
    _raster(right, np.where(within, FADE ** (needed - 1.0), 0.0), f"{layers} layers can pass on")
    far = int(within[-1].argmax())
    right.plot([far, far], [far, LENGTH], "--", color=ORANGE)
    right.text(far + 2, far - 1, f"{LENGTH - 1 - far} back", fontsize=10)
    for layer in range(layers):
        right.plot(LENGTH - 3 * (layers - layer), 12, "s", ms=8, color=_tint(BLUE, FADE**layer))
        right.text(LENGTH - 3 * (layers - layer), 17, layer + 1, ha="center", fontsize=10)
    right.text(LENGTH - 1, 8, "layers needed", ha="right", fontsize=10)
    return figure


def _tint(tone: str, shade: np.ndarray | float) -> np.ndarray:
    """Return a tone on white in `shade` from 0 (white) to 1, RGB in the last axis."""
    return 1 - np.asarray(shade)[..., None] * (1 - np.array(to_rgb(tone)))


def _raster(ax: Axes, shade: np.ndarray, title: str) -> None:
    """Draw a square of cells, its last row in orange."""
    image = _tint(BLUE, shade)
    image[-1] = _tint(ORANGE, shade[-1])
    ax.imshow(image, extent=(0, LENGTH, LENGTH, 0), interpolation="none")
    ax.set_title(title, loc="left", fontweight="bold", fontsize=12)
    ax.set(xlabel="place of the key", ylabel="place of the query")
    ax.set(xticks=range(0, 65, 16), yticks=range(0, 65, 16))
