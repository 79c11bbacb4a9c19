"""Real models by name: what each form of a name opens, and what is said of any other."""

import pytest

from lcbook.llm import open as real_models
from lcbook.llm.protocol import LanguageModel


def test_an_endpoint_is_opened_without_asking_it(monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    model = real_models.open_model("openai:some/model@http://127.0.0.1:9/v1", tokenizer=None)
    assert model.name == "openai:some/model@http://127.0.0.1:9/v1"
    assert isinstance(model, LanguageModel)


@pytest.mark.parametrize("name", ["", "gpt", "hf:", "openai:model", "http://127.0.0.1"])
def test_other_names_are_refused(name):
    with pytest.raises(ValueError, match=r"model is .*; allowed is hf:PATH, openai:MODEL@URL or tiny"):
        real_models.open_model(name)


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(ValueError, match="nothing-here"):
        real_models.open_model(f"hf:{tmp_path}/nothing-here")
