"""A Hugging Face model on this machine, asked greedily, computing only once what prompts in a row begin with.

    prompt 1   intro [needle] haystack ........... question
    prompt 2   intro haystack ..[needle] ......... question       shares with prompt 1 all before its needle
    prompt 3   intro haystack ......[needle] ..... question       shares with prompt 2 all before its needle

In lexicographic order of token ids each prompt shares with the one before it as much as with any earlier one. So every
token of the tree that the prompts form is computed once: at 11 depths from 0 to 1, that is 6.5 of 11 prompts (1.69x)
where all is haystack. What opens prompts alike, as an introduction does, is saved on top of that.
"""

from __future__ import annotations

import inspect
import itertools
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch

from lcbook.formats import at_least
from lcbook.llm.protocol import Encoded, Reply

CHUNK = 2048  # prompt tokens computed at once: bounds the memory that scores take
PROBES = ("Answer", "The answer:", "What is it?")  # prompts of which the overhead is measured
UNSTEADY = ("dynamic", "longrope")  # rotary encodings whose early keys depend on how long the text gets


class HuggingFace:
    """A causal language model of transformers, from a folder or by its name on the hub; a folder needs no network.

    `chat` is "auto" (the chat template where the tokenizer has one), "always" or "never". `device` is one of torch's
    (None: "cuda" if there is one, else "cpu"), `dtype` the name of one of torch's (None: as the model says). Replies
    are greedy, whatever the model's own settings for sampling are, and end at its end tokens, after `max_tokens`, or,
    with `one_line`, behind their first line of text (None: unless the chat template is used). `name` replaces hf:PATH.

    With `reuse`, the keys and values of what a prompt shares with the one before are kept. The sums are then taken in
    another order, so a reply may differ where two tokens tie to within rounding: about 1e-6 in float32, 1e-2 in
    bfloat16. A model with a sliding window, a recurrence or a rotary encoding that depends on the length gets no reuse.

    A model's own code is never run. Raises ValueError if transformers is missing, there is no such model, it cannot be
    loaded or lacks weights, its tokenizer is a slow one, or `chat` is "always" without a template.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        chat: str = "auto",
        device: str | None = None,
        dtype: str | None = None,
        reuse: bool = True,
        one_line: bool | None = None,
        name: str | None = None,
    ) -> None:
        if chat not in ("auto", "always", "never"):
            raise ValueError(f"chat is {chat!r}; allowed is 'auto', 'always' or 'never'.")
        if dtype is not None and not isinstance(getattr(torch, dtype, None), torch.dtype):
            raise ValueError(
                f"dtype is {dtype!r}; allowed is the name of one of torch's, such as 'bfloat16'."
            )
        self._path = str(path)
        self._name = name or f"hf:{path}"
        self._tokenizer, self._model = _load(self._path, dtype or "auto")
        self._device = device or ("cuda" if torch.cuda.is_available() else "cpu")
        try:
            self._model.to(self._device).eval()
        except (RuntimeError, AssertionError) as error:
            raise ValueError(
                f"device is {self._device!r}, which cannot hold the model ({_first_line(error)})."
            ) from None
        template = getattr(self._tokenizer, "chat_template", None)
        if chat == "always" and not template:
            raise ValueError(
                f"chat is 'always', but {self._path} has no chat template; allowed is 'auto' or 'never'."
            )
        self._chat = chat != "never" and bool(template)
        self._one_line = not self._chat if one_line is None else one_line
        self._ends = self._end_tokens()
        takes = inspect.signature(self._model.forward).parameters
        self._last = {"logits_to_keep": 1} if "logits_to_keep" in takes else {}
        self._stepwise, croppable = self._caching()
        self.reuse = reuse and croppable
        self._overhead = max(len(self._tokens(text)) - len(self.encode(text).ids) for text in PROBES)

    @property
    def name(self) -> str:
        """How the model is named on the command line: hf:PATH, or the name that it was given."""
        return self._name

    @property
    def window(self) -> int | None:
        """The longest prompt and reply together, in tokens, as the model's config says; None if it does not."""
        window = getattr(self._model.config.get_text_config(), "max_position_embeddings", None)
        return window if isinstance(window, int) and window > 0 else None

    def encode(self, text: str) -> Encoded:
        """Return `text` in the model's tokenizer, without special tokens and without the chat template."""
        found = self._tokenizer(text, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
        return Encoded(tuple(found["input_ids"]), tuple(start for start, _ in found["offset_mapping"]))

    def overhead(self) -> int:
        """Return how many tokens special tokens and the chat template add to a prompt."""
        return self._overhead

    def generate(self, prompts: Sequence[str], *, max_tokens: int) -> Iterator[tuple[int, Reply]]:
        """Answer `prompts`; yield (index, reply), in the lexicographic order of their token ids.

        A prompt that has no tokens, does not fit the window together with `max_tokens`, or fails in the model yields a
        Reply with `error`. Raises ValueError if `max_tokens` is below 1.
        """
        at_least(1, max_tokens=max_tokens)
        return self._replies([self._tokens(prompt) for prompt in prompts], max_tokens)

    def _tokens(self, prompt: str) -> np.ndarray:
        """Return a prompt as the model reads it: in the chat template, or with special tokens."""
        if self._chat:
            said = [{"role": "user", "content": prompt}]
            try:
                prompt = self._tokenizer.apply_chat_template(said, tokenize=False, add_generation_prompt=True)
            except Exception as error:  # whatever the template raises, or jinja2 is missing
                raise ValueError(
                    f"The chat template of {self._path} fails ({_first_line(error)}); allowed is chat 'never'."
                ) from None
        found = self._tokenizer(prompt, add_special_tokens=not self._chat, verbose=False)
        return np.array(found["input_ids"], dtype=np.int64)

    def _replies(self, asked: list[np.ndarray], max_tokens: int) -> Iterator[tuple[int, Reply]]:
        fitting = []
        for index in sorted(range(len(asked)), key=lambda i: asked[i].astype(">u4").tobytes()):
            refusal = self._refusal(len(asked[index]), max_tokens)
            if refusal is None:
                fitting.append(index)
            else:
                yield index, Reply("", prompt_tokens=len(asked[index]), error=refusal)
        cache: Any = None
        kept = 0
        for index, following in itertools.zip_longest(fitting, fitting[1:]):
            ids, started, failure = asked[index], time.perf_counter(), ""
            try:
                if self._stepwise:
                    cache = self._fresh() if cache is None else cache
                    reply = self._continued(ids[kept:], cache, max_tokens)
                else:
                    reply = self._whole(ids, max_tokens)
            except (RuntimeError, ValueError, IndexError) as error:  # out of memory among them
                failure = f"The model failed at a prompt of {len(ids)} tokens ({_first_line(error)})."
            seconds = time.perf_counter() - started
            if failure:
                cache, kept = None, 0
                yield index, Reply("", len(ids), seconds=seconds, error=failure)
                continue
            computed = len(ids) - kept
            kept = _shared(ids, asked[following]) if self.reuse and following is not None else 0
            if kept:
                cache.crop(kept - cache.get_seq_length())
            else:
                cache = None
            yield index, Reply(self._text(reply), len(ids), len(reply), computed, seconds)

    def _refusal(self, tokens: int, max_tokens: int) -> str | None:
        """Return why a prompt cannot be asked, if it cannot."""
        if tokens == 0:
            return "The prompt has no tokens."
        if self.window is not None and tokens + max_tokens > self.window:
            asked = f"The prompt has {tokens} tokens and the reply up to {max_tokens}"
            return f"{asked}; the model's window is {self.window}."
        return None

    @torch.inference_mode()
    def _continued(self, ids: np.ndarray, cache: Any, max_tokens: int) -> list[int]:
        """Return the reply to a prompt whose earlier tokens are in `cache`, and leave it and all of it there."""
        ahead, reply = torch.from_numpy(ids)[None].to(self._device), []
        while True:
            for chunk in ahead.split(CHUNK, dim=1):
                out = self._model(input_ids=chunk, past_key_values=cache, use_cache=True, **self._last)
            reply.append(int(out.logits[0, -1].argmax()))
            if len(reply) == max_tokens or self._over(reply):
                return reply
            ahead = torch.tensor([reply[-1:]], device=self._device)

    @torch.inference_mode()
    def _whole(self, ids: np.ndarray, max_tokens: int) -> list[int]:
        """Return the reply to a prompt by the generate method of transformers, which knows every kind of state."""
        from transformers import GenerationConfig, StoppingCriteriaList

        def over(tokens: torch.Tensor, scores: Any, **_: Any) -> torch.Tensor:
            return torch.tensor([self._over(tokens[0, len(ids) :].tolist())], device=tokens.device)

        prompt = torch.from_numpy(ids)[None].to(self._device)
        settings = GenerationConfig(do_sample=False, max_new_tokens=max_tokens, pad_token_id=0)
        tokens = self._model.generate(
            prompt,
            attention_mask=torch.ones_like(prompt),
            generation_config=settings,
            stopping_criteria=StoppingCriteriaList([over]),
        )
        return tokens[0, len(ids) :].tolist()

    def _over(self, reply: list[int]) -> bool:
        """Return whether a reply ends with its last token."""
        if reply[-1] in self._ends:
            return True
        ends_line = self._one_line and "\n" in self._tokenizer.decode(reply[-1:])
        return ends_line and "\n" in self._decode(reply).lstrip()

    def _decode(self, reply: list[int]) -> str:
        return self._tokenizer.decode(reply, skip_special_tokens=True, clean_up_tokenization_spaces=False)

    def _text(self, reply: list[int]) -> str:
        """Return a reply's text without its end token; of a reply of one line, that line."""
        text = self._decode(reply[:-1] if reply[-1] in self._ends else reply)
        return text.strip().partition("\n")[0] if self._one_line else text

    def _end_tokens(self) -> set[int]:
        """Return the tokens that end a reply, and forget the model's settings for sampling."""
        from transformers import GenerationConfig

        told = (self._model.generation_config, self._model.config.get_text_config(), self._tokenizer)
        ends = [getattr(one, "eos_token_id", None) for one in told]
        self._model.generation_config = GenerationConfig()
        return {
            token for one in ends for token in (one if isinstance(one, list) else [one]) if token is not None
        }

    def _fresh(self) -> Any:
        from transformers import DynamicCache

        return DynamicCache(config=self._model.config)

    @torch.inference_mode()
    def _caching(self) -> tuple[bool, bool]:
        """Return whether the model can be computed token by token with a cache of keys and values, and that be cut."""
        from transformers.cache_utils import DynamicLayer, DynamicSlidingWindowLayer

        rotary = getattr(self._model.config.get_text_config(), "rope_parameters", None) or {}
        kinds = {part.get("rope_type") for part in (rotary, *rotary.values()) if isinstance(part, dict)}
        if not kinds.isdisjoint(UNSTEADY):
            return False, False
        try:
            cache = self._fresh()
            two = torch.zeros(1, 2, dtype=torch.int64, device=self._device)
            self._model(input_ids=two, past_key_values=cache, use_cache=True)
            layers = {type(layer) for layer in cache.layers}
            stepwise = layers <= {DynamicLayer, DynamicSlidingWindowLayer} and cache.get_seq_length() == 2
        except (TypeError, ValueError, RuntimeError, AttributeError):  # a model with a cache of its own
            return False, False
        return stepwise, stepwise and layers == {DynamicLayer}


def _shared(ids: np.ndarray, following: np.ndarray) -> int:
    """Return how many tokens `following` can take over from `ids`: the last one is computed, for it tells the reply."""
    most = min(len(ids), len(following) - 1)
    differ = np.flatnonzero(ids[:most] != following[:most])
    return int(differ[0]) if len(differ) else most


def _load(path: str, dtype: str) -> tuple[Any, Any]:
    """Return tokenizer and model of a folder or hub name. Raises ValueError as HuggingFace."""
    try:
        from transformers import AutoModelForCausalLM, AutoTokenizer
    except ImportError:
        raise ValueError("Hugging Face models need transformers: pip install 'lcbook[llm]'.") from None
    folder = Path(path).expanduser()
    is_name = path.count("/") <= 1 and not path.startswith(("/", ".", "~"))
    allowed = "allowed is a folder with a model in Hugging Face form, or the name of one on the hub"
    if not folder.is_dir() and not is_name:
        raise ValueError(f"path is {path}, where there is no folder; {allowed}.")
    if folder.is_dir() and not (folder / "config.json").is_file():
        raise ValueError(f"path is {path}, a folder without config.json; {allowed}.")
    source = str(folder) if folder.is_dir() else path
    loader: Any = AutoModelForCausalLM
    settings = {"local_files_only": folder.is_dir(), "trust_remote_code": False}
    try:
        with _quiet():
            tokenizer = AutoTokenizer.from_pretrained(source, **settings)
            model, told = loader.from_pretrained(source, dtype=dtype, output_loading_info=True, **settings)
    except Exception as error:  # OSError, ValueError, KeyError, SafetensorError, ... as the file at fault
        raise ValueError(
            f"path is {path}, which cannot be loaded ({_first_line(error)}); {allowed}."
        ) from error
    if told["missing_keys"]:
        raise ValueError(f"path is {path}, which lacks weights ({min(told['missing_keys'])}); {allowed}.")
    if not tokenizer.is_fast:
        raise ValueError(f"path is {path}, which has a slow tokenizer; allowed is one with a tokenizer.json.")
    return tokenizer, model


@contextmanager
def _quiet() -> Iterator[None]:
    """Show no progress bars of transformers meanwhile."""
    from transformers.utils import logging

    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")[:200]
