"""Models: position encodings, mixers, layers and the decoder that is made of them."""

from lcbook.models import (
    costs, decoder, layers, llama, mixers, position_formulas, position_specs, positions, spec, surgery,
    variants,
)  # fmt: skip

__all__ = [
    "costs", "decoder", "layers", "llama", "mixers", "position_formulas", "position_specs", "positions",
    "spec", "surgery", "variants",
]  # fmt: skip
