"""Tokenizers from a folder: the same tokens as transformers reads there, their starts, and folders that have none."""

from __future__ import annotations

import sys

import pytest
import transformers
from small_tokenizers import TOKENIZERS, octets, subwords, words

from lcbook.llm.tokenizers import load_tokenizer

TEXT = "The code for amber is 472.\n\nÜber 中文: nothing  else; the end."


def test_words_by_hand(tmp_path):
    words().save(str(tmp_path / "tokenizer.json"))
    encoded = load_tokenizer(tmp_path)("Ab is 7.\n\nSo?")
    assert encoded.ids == (0,) * 6
    assert encoded.starts == (0, 3, 6, 7, 10, 12)


def test_the_bytes_of_a_letter_start_where_it_starts(tmp_path):
    octets().save(str(tmp_path / "tokenizer.json"))
    assert load_tokenizer(tmp_path / "tokenizer.json")("aü中b").starts == (0, 1, 1, 2, 2, 2, 3)


@pytest.mark.parametrize("kind", TOKENIZERS)
def test_starts_rise_and_the_empty_text_has_no_token(tmp_path, kind):
    TOKENIZERS[kind]().save(str(tmp_path / "tokenizer.json"))
    encode = load_tokenizer(str(tmp_path))
    encoded = encode(TEXT)
    assert len(encoded.ids) == len(encoded.starts) > 10
    assert list(encoded.starts) == sorted(encoded.starts)
    assert encode("").ids == ()


def test_it_is_what_transformers_reads(tmp_path):
    subwords().save(str(tmp_path / "tokenizer.json"))
    theirs = transformers.PreTrainedTokenizerFast(tokenizer_file=str(tmp_path / "tokenizer.json"))
    theirs.save_pretrained(str(tmp_path / "saved"))
    given = theirs(TEXT, add_special_tokens=False, return_offsets_mapping=True)
    encoded = load_tokenizer(tmp_path / "saved")(TEXT)
    assert encoded.ids == tuple(given["input_ids"])
    assert encoded.starts == tuple(start for start, _ in given["offset_mapping"])


def test_truncation_padding_and_special_tokens_of_the_file_are_not_applied(tmp_path):
    from tokenizers.processors import TemplateProcessing

    tokenizer = octets()
    tokenizer.add_special_tokens(["<s>"])
    tokenizer.post_processor = TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 256)])
    tokenizer.enable_truncation(5)
    tokenizer.enable_padding(length=41)
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    assert len(load_tokenizer(tmp_path)("a" * 11).ids) == 11
    assert len(load_tokenizer(tmp_path)("a" * 53).ids) == 53


def test_bad_paths(tmp_path):
    with pytest.raises(
        ValueError, match=r"path is .*nowhere; allowed is a tokenizer\.json or a folder that holds one"
    ):
        load_tokenizer(tmp_path / "nowhere")
    with pytest.raises(ValueError, match=r"allowed is a tokenizer\.json or a folder that holds one"):
        load_tokenizer(tmp_path)
    (tmp_path / "tokenizer.model").write_bytes(b"\x0a\x07")
    with pytest.raises(
        ValueError, match=r"holds only a slow tokenizer \(tokenizer\.model\); allowed is a folder with"
    ):
        load_tokenizer(tmp_path)
    (tmp_path / "tokenizer.json").write_text("{")
    with pytest.raises(ValueError, match=r"tokenizer\.json, which is no tokenizer \(.+\); allowed"):
        load_tokenizer(tmp_path)


def test_a_missing_library_is_named(tmp_path, monkeypatch):
    words().save(str(tmp_path / "tokenizer.json"))
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    with pytest.raises(ValueError, match=r"pip install 'lcbook\[llm\]'"):
        load_tokenizer(tmp_path)
