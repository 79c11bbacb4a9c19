"""The explorer of a decoder's costs at inference: work, time and memory against the length of the text.

A product of [m, k] and [k, n] counts 2 m k n operations, as in `lcbook.models.costs`. A causal mask halves the pairs of
full attention: n^2 / 2 for n tokens, the diagonal left out. The embedding and the output layer are not counted.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import matplotlib.pyplot as plt
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullLocator

from lcbook.attention.costs import kv_cache_bytes
from lcbook.explorers.controls import Slider, format_number
from lcbook.explorers.fragment import BLUE, ORANGE, Explorer, live, script
from lcbook.formats import at_least

HEAD_WIDTH = 128  # channels of one head, as in the Llama models
MLP = 3.5  # hidden width of the SwiGLU layer in widths, as in Llama 3 8B and 70B (arXiv:2407.21783, table 3)
SHORTEST, LONGEST = 2**10, 2**24


@dataclass(frozen=True)
class Sizes:
    """The sizes of a decoder that its costs depend on; heads are 128 wide.

    `group` query heads share a key-value head, of which there is at least one; `number_bytes` is the size of a weight
    and of a cached number. One layer in `every`, the first among them, has full attention; the others see a `window`.
    Raises ValueError for a size below 1 or a width that is no multiple of 128.
    """

    layers: int = 32
    width: int = 4096
    group: int = 4
    number_bytes: int = 2
    every: int = 1
    window: int = 1024

    def __post_init__(self) -> None:
        at_least(1, **vars(self))
        if self.width % HEAD_WIDTH:
            raise ValueError(f"width is {self.width}; allowed is a multiple of {HEAD_WIDTH}.")

    @property
    def heads(self) -> int:
        """Query heads of a layer."""
        return self.width // HEAD_WIDTH

    @property
    def kv_heads(self) -> int:
        """Key-value heads of a layer."""
        return max(1, self.heads // self.group)

    @property
    def full_layers(self) -> int:
        """Layers of full attention: layers / every, rounded up."""
        return -(-self.layers // self.every)


def weights(sizes: Sizes) -> float:
    """Return the parameters: layers * (2 w^2 for queries and output + 2 w kv_width + 3 * 3.5 w^2 for the MLP).

    Norms, the embedding and the output layer are left out: at most a few percent but in models of few layers.
    """
    kv_width = sizes.kv_heads * HEAD_WIDTH
    return sizes.layers * sizes.width * ((2 + 3 * MLP) * sizes.width + 2 * kv_width)


def linear_flops(sizes: Sizes, length: int | float) -> float:
    """Return the operations to read `length` tokens outside attention: 2 a weight and token.

    Source: Kaplan et al. 2020, arXiv:2001.08361, table 1.
    """
    return 2 * weights(sizes) * length


def pairs(length: int | float, window: int | float) -> float:
    """Return the visible pairs of one layer, m n - m^2 / 2 with m = min(n, window): n^2 / 2 for full attention."""
    seen = min(length, window)
    return seen * length - seen * seen / 2


def attention_flops(sizes: Sizes, length: int | float) -> float:
    """Return the operations of all scores and mixes: 4 * width a visible pair and layer, a causal mask halving n^2.

    With full attention that is 2 * width * n a token and layer, as in Kaplan et al. 2020, arXiv:2001.08361, table 1.
    """
    local = sizes.layers - sizes.full_layers
    return 4 * sizes.width * (sizes.full_layers * pairs(length, length) + local * pairs(length, sizes.window))


def crossing(sizes: Sizes) -> float:
    """Return the length at which attention takes as many operations as all the rest.

    With full attention alone it is weights / (width * layers), 13 widths at a group of 4: the layers cancel out. Beyond
    the window W it solves 2 w F n^2 + (4 w L W - 2 weights) n = 2 w L W^2 for F full and L local layers.
    """
    full, local = sizes.full_layers, sizes.layers - sizes.full_layers
    early = weights(sizes) / (sizes.width * sizes.layers)
    if early <= sizes.window:
        return early
    slope = 4 * sizes.width * local * sizes.window - 2 * weights(sizes)
    root = math.sqrt(slope**2 + 16 * sizes.width**2 * full * local * sizes.window**2)
    return (root - slope) / (4 * sizes.width * full)


def cache_bytes(sizes: Sizes, length: int) -> int:
    """Return the bytes of the KV cache, 2 * kv_width * number_bytes a kept token and layer (Shazeer 2019,
    arXiv:1911.02150); a layer with a window keeps no more tokens than that."""
    full = sizes.full_layers
    windows = [None] * full + [sizes.window] * (sizes.layers - full)
    return kv_cache_bytes(sizes.layers, sizes.kv_heads, HEAD_WIDTH, length, sizes.number_bytes, windows)


def prefill_seconds(sizes: Sizes, length: int | float, flops_per_second: float) -> float:
    """Return the least time to read a text: its operations at the machine's rate, memory traffic left out."""
    return (linear_flops(sizes, length) + attention_flops(sizes, length)) / flops_per_second


def token_seconds(sizes: Sizes, length: int, bytes_per_second: float) -> float:
    """Return the least time to write one token after `length` others: weights and cache are read once.

    One text at a time, so that memory is what limits it (Pope et al. 2022, arXiv:2211.05102, section 2).
    """
    return (weights(sizes) * sizes.number_bytes + cache_bytes(sizes, length)) / bytes_per_second


def cost_explorer(
    sizes: Sizes = Sizes(), length: int = 2**17, teraflops: float = 400, gigabytes: int = 3350
) -> Explorer:
    """What a text costs a decoder on a machine: operations, seconds and bytes against its length.

    `teraflops` (10^12 operations a second) and `gigabytes` (10^9 bytes a second) describe the machine. Raises
    ValueError for a start that the sliders do not have.
    """
    controls = {
        "length": Slider(SHORTEST, LONGEST, 2, length, "Tokens", log=True),
        "layers": Slider(1, 128, 1, sizes.layers, "Layers"),
        "width": Slider(HEAD_WIDTH, 2**14, 2, sizes.width, "Width", log=True),
        "group": Slider(1, 16, 2, sizes.group, "Queries per KV head", log=True),
        "bytes": Slider(1, 4, 2, sizes.number_bytes, "Bytes per number", log=True),
        "every": Slider(1, 8, 1, sizes.every, "Full layers: 1 in"),
        "rate": Slider(0.05, 1000, 10**0.1, teraflops, "TFLOP/s", log=True),
        "bandwidth": Slider(20, 8000, 10**0.1, gigabytes, "GB/s", log=True),
    }
    return live(
        script("cost.js", headWidth=HEAD_WIDTH, mlp=MLP, near=sizes.window),
        controls,
        alt="Costs of a decoder against the length of the text: projections and MLP grow in proportion to it, "
        "attention with its square, so that attention takes the larger part from some thirteen widths of tokens on; "
        "the time for each token written stays flat until the KV cache outweighs the weights.",
        fallback=_picture(sizes, *(s.values[s.start] for s in (controls["rate"], controls["bandwidth"]))),
        height=290,
        panels=2,
        caption="Counted are 2 operations a weight and token, and 4 × width a visible pair and layer; a causal mask "
        f"halves the pairs of full attention. Heads are {HEAD_WIDTH} wide, the MLP is {MLP} widths; layers that are "
        f"not full see {sizes.window:,} tokens. The embedding and the output layer are left out. Times are the least "
        "that the machine allows.",
    )


def _picture(sizes: Sizes, teraflops: float | int, gigabytes: float | int) -> Figure:
    figure, (left, right) = plt.subplots(1, 2, figsize=(7, 3.1), layout="constrained")
    lengths = [2**k for k in range(10, 25)]
    equal = crossing(sizes)
    left.plot(lengths, [linear_flops(sizes, n) for n in lengths], color=BLUE, label="projections and MLP")
    left.plot(lengths, [attention_flops(sizes, n) for n in lengths], "--", color=ORANGE, label="attention")
    left.plot([equal], [linear_flops(sizes, equal)], "o", mfc="none", color=BLUE)
    left.text(equal * 1.5, linear_flops(sizes, equal) / 9, f"equal at {format_number(equal)}", fontsize=10)
    left.set(title="Work to read the text", ylabel="floating-point operations")
    reading = [prefill_seconds(sizes, n, teraflops * 1e12) for n in lengths]
    writing = [token_seconds(sizes, n, gigabytes * 1e9) for n in lengths]
    right.plot(lengths, reading, color=BLUE, label="to read the text")
    right.plot(lengths, writing, "--", color=ORANGE, label="for each token written")
    right.set_title(f"At {format_number(teraflops)} TFLOP/s, {format_number(gigabytes)} GB/s")
    right.set_ylabel("seconds")
    for ax in (left, right):
        ax.set(xlabel="length (tokens)", xscale="log", yscale="log")
        ax.xaxis.set_minor_locator(NullLocator())
        ax.yaxis.set_major_locator(LogLocator(100))
        ax.yaxis.set_minor_locator(NullLocator())
        ax.legend(frameon=False, loc="upper left")
    return figure
