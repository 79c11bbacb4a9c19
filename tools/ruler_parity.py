"""Write tests/evaluation/ruler_parity.json: what lm-eval's own generators of RULER's prompts make of some seeds.

In an environment of its own: pip install 'lm_eval[ruler]==0.4.13' wonderwords==3.0.1 torch transformers scikit-learn,
then python tools/ruler_parity.py. Nothing of lcbook is imported, and nothing downloaded.
"""

from __future__ import annotations

import hashlib
import importlib
import json
import platform
import random
import re
import tempfile
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

OUT = Path(__file__).parents[1] / "tests" / "evaluation" / "ruler_parity.json"
HOW = (
    "python tools/ruler_parity.py, in an environment of its own, by the packages of made_with. A digest is the SHA-256 "
    "of json.dumps([[input, gen_prefix, outputs, length], ...]) of `samples` samples after random.seed(seed) and "
    "numpy.random.seed(seed), cwe_utils imported anew; `count` is the tokenizer: pieces counts words and punctuation "
    "marks, quarters a token for four letters. null where lm-eval finds no sample that fits. The settings are those "
    "with which niah_utils asks for needles; whole_runs are prompts of lm_eval.simple_evaluate with its default seeds."
)
COUNTS: dict[str, Callable[[str], int]] = {
    "pieces": lambda text: len(re.findall(r"\w+|[^\w\s]", text)),
    "quarters": lambda text: (len(text) + 3) // 4,
}
NEEDLES = [f"niah_{kind}" for kind in ("single_1", "single_2", "single_3")]
NEEDLES += [f"niah_{kind}" for kind in ("multikey_1", "multikey_2", "multikey_3", "multivalue", "multiquery")]
ASKED = ((1103, 42, "pieces"), (2053, 0, "quarters"), (4099, 1_234_567, "pieces"))
Case = tuple[str, str | None, int, int, str]  # task, haystack, length, seed, count


def ruler(name: str) -> Any:
    """Return a module of lm-eval's RULER. Its import downloads NLTK's sentence splitter, for essays, if not found."""
    import_module = importlib.import_module
    import_module("nltk").data.find = lambda *_: None
    return import_module(f"lm_eval.tasks.ruler.{name}")


def settings(task: str) -> dict[str, Any]:
    """Return with what a task of needles calls `generate_samples`."""
    utils, asked = ruler("niah_utils"), dict[str, Any]()
    kept = dict(vars(utils))
    utils.generate_samples = lambda _, **given: asked.update(given)
    utils.get_haystack = utils.get_tokenizer = utils.resolve_tokenizer_name = lambda *_, **__: None
    utils.download_dataset = list
    getattr(utils, task)()
    vars(utils).update(kept)
    return {name: asked[name] for name in sorted(asked) if name.startswith(("num_needle", "type"))}


def generated(case: Case, samples: int) -> list[list[Any]]:
    """Return lm-eval's samples. Raises ValueError where none fits."""
    task, haystack, length, seed, counted = case

    def tokenizer(text: str) -> Any:
        return SimpleNamespace(input_ids=range(COUNTS[counted](text)))

    random.seed(seed)
    np.random.seed(seed)
    if task in NEEDLES:
        niah, asked = ruler("prepare_niah"), settings(task) | {"type_haystack": haystack}
        found = niah.generate_samples(
            niah.get_haystack(haystack), tokenizer, max_seq_length=length, num_samples=samples,
            template=ruler("niah_utils").TEMPLATE, **asked,
        )  # fmt: skip
    elif task == "ruler_vt":
        write = ruler("vt_utils").sys_vartrack_w_noise_random
        found = write(tokenizer, samples, length, icl_example=write(tokenizer, 1, 500, incremental=5)[0])
    elif task == "ruler_cwe":  # it shuffles with a generator of its own, which goes on
        found = importlib.reload(ruler("cwe_utils")).sys_word_pair_random(samples, length, tokenizer)
    else:
        found = ruler("fwe_utils").sys_kwext(tokenizer, length, samples)
    return [[one["input"], one["gen_prefix"], list(one["outputs"]), one["length"]] for one in found]


def digest(told: Any) -> str:
    """Return the SHA-256 of a value as JSON."""
    return hashlib.sha256(json.dumps(told).encode()).hexdigest()


def row(case: Case, samples: int) -> dict[str, Any]:
    """Return a case with the digest of its samples, None where none fits, and how many of them fit."""
    try:
        found = generated(case, samples)
    except ValueError:
        found = []
    told = dict(zip(("task", "haystack", "length", "seed", "count"), case, strict=True))
    return {**told, "samples": samples, "fit": len(found), "digest": digest(found) if found else None}


def whole_run(task: str, length: int) -> dict[str, Any]:
    """Return the prompts that a model is given when lm-eval's command runs a task: two samples."""
    importlib.import_module("sklearn.preprocessing")  # its import of rich may draw a number after the seeding
    tokenizers, transformers = map(importlib.import_module, ("tokenizers", "transformers"))
    small = tokenizers.Tokenizer(tokenizers.models.WordLevel({"?": 0}, unk_token="?"))
    split = tokenizers.Regex(r"\w+|[^\w\s]")
    small.pre_tokenizer = tokenizers.pre_tokenizers.Split(split, behavior="removed", invert=True)
    with tempfile.TemporaryDirectory() as folder:
        transformers.PreTrainedTokenizerFast(tokenizer_object=small, unk_token="?").save_pretrained(folder)
        told = {"tokenizer": folder, "max_seq_lengths": [length]}
        ran = importlib.import_module("lm_eval").simple_evaluate(
            model="dummy", tasks=[task], limit=2, log_samples=True, bootstrap_iters=0, metadata=told
        )
    prompts = [sample["arguments"][0][0] for sample in ran["samples"][task]]
    return {"task": task, "length": length, "samples": 2, "digest": digest(prompts)}


def main() -> None:
    """Write the file."""
    kinds: list[tuple[str, str | None]] = [(task, kind) for task in NEEDLES for kind in ("repeat", "needle")]
    kinds += [(task, None) for task in ("ruler_vt", "ruler_cwe", "ruler_fwe")]
    cases: list[Case] = [(*kind, *asked) for kind in kinds for asked in ASKED]
    # The first chain that is drawn for the solved example has one name twice: lm-eval tries a shorter one.
    cases.append(("ruler_vt", None, 1103, 8716, "pieces"))
    cases += [("niah_multiquery", "needle", length, length, "pieces") for length in range(180, 300, 7)]
    pairs = ruler("prepare_niah").WORDS
    packages = ("lm_eval", "wonderwords", "nltk", "numpy", "transformers", "tokenizers")
    told: dict[str, Any] = {
        "how": HOW,
        "made_with": {"python": platform.python_version(), **{name: version(name) for name in packages}},
        "settings": {task: settings(task) for task in NEEDLES},
        "pairs": {"number": len(pairs), "every_997th": digest([*pairs[::997], pairs[-1]])},
        "whole_runs": [whole_run("ruler_vt", 1103), whole_run("niah_multikey_3", 801)],
    }
    lines = ",\n".join(f"  {json.dumps(row(case, 5))}" for case in cases)
    text = json.dumps(told, indent=1)
    OUT.write_text(f'{text[:-2]},\n "prompts": [\n{lines}\n ]\n}}\n', encoding="utf-8")


if __name__ == "__main__":
    main()
