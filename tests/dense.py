"""What the tests of attention share: random inputs, the dense reference of a pattern, and a record of tensor sizes."""

from __future__ import annotations

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from lcbook.attention.attend import attend
from lcbook.attention.patterns import TopBlocks, TopK, select, visible


def draw(*shapes, seed=0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(shape, generator=generator, dtype=dtype).requires_grad_() for shape in shapes]


def mask_of(pattern, q, k):
    """Return the whole mask of any pattern."""
    index = torch.arange(q.shape[2])
    if isinstance(pattern, TopK | TopBlocks):
        return select(pattern, q.detach(), k.detach(), index[None])
    return visible(pattern, index[:, None], index)


def dense(q, k, v, pattern):
    """Return attention under the whole mask of a pattern."""
    return attend(q, k, v, mask=mask_of(pattern, q, k))[0]


def assert_same(ours, theirs, inputs, **tolerance):
    """Compare two outputs, and the gradients of `inputs` under one random gradient of the output."""
    torch.testing.assert_close(ours, theirs, **tolerance)
    upstream = draw(ours.shape, seed=1)[0].detach()
    mine, its = (torch.autograd.grad(x, inputs, upstream, retain_graph=True) for x in (ours, theirs))
    for a, b in zip(mine, its, strict=True):
        torch.testing.assert_close(a, b, **tolerance)


class Largest(TorchDispatchMode):
    """Records the number of entries of the largest tensor that any operation inside returns."""

    def __init__(self):
        super().__init__()
        self.entries = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        out = function(*args, **(kwargs or {}))
        for x in out if isinstance(out, tuple | list) else [out]:
            # A view takes no memory: an expanded or overlapping one has fewer entries behind it.
            if isinstance(x, torch.Tensor):
                self.entries = max(
                    self.entries, min(x.numel(), x.untyped_storage().nbytes() // x.element_size())
                )
        return out
