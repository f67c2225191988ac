"""Code in a model's folder is never run, whatever is typed on stdin."""

import json

import pytest

from agents.policy import load_backbone
from agents.rewards.embeddings import check_encoder, sentence_embeddings
from rere_env.tokenizer import HFTokenizer

TITLES = ["red fox", "blue owl"]


@pytest.fixture
def trap(tmp_path, monkeypatch):
    """A model folder whose config and tokenizer ask for code of their own; `y` is on stdin."""
    folder = tmp_path / "trap"
    load_backbone("scratch:nano", TITLES).save(folder)
    ran = tmp_path / "ran"
    code = f"open({str(ran)!r}, 'w').close()\n"
    (folder / "evil.py").write_text(code, encoding="utf-8")
    classes = {
        "config.json": {
            "AutoConfig": "evil.Config",
            "AutoModel": "evil.Model",
            "AutoModelForCausalLM": "evil.Model",
        },
        "tokenizer_config.json": {"AutoTokenizer": [None, "evil.Tokenizer"]},
    }
    for name, auto_map in classes.items():
        values = json.loads((folder / name).read_text(encoding="utf-8"))
        values["auto_map"] = auto_map
        if name == "config.json":
            values["model_type"] = "evil"
        else:
            values["tokenizer_class"] = "EvilTokenizer"
        (folder / name).write_text(json.dumps(values), encoding="utf-8")
    (folder / "rere.json").unlink()  # read as any model is
    monkeypatch.setattr("builtins.input", lambda *_: "y")
    yield folder
    assert not ran.exists()


@pytest.mark.parametrize("load", [HFTokenizer.from_pretrained, check_encoder])
def test_tokenizers_and_configs_run_no_code(trap, load):
    """Refused by transformers, since it was told not to ask."""
    with pytest.raises(ValueError, match="trust_remote_code"):
        load(str(trap))


def test_models_run_no_code(trap, monkeypatch):
    """Neither policies nor sentence encoders."""
    plain = HFTokenizer(load_backbone("scratch:nano", TITLES).tokenizer.tokenizer)
    monkeypatch.setattr(HFTokenizer, "from_pretrained", lambda *_, **__: plain)
    with pytest.raises(ValueError, match="trust_remote_code"):
        load_backbone(str(trap), TITLES)
    with pytest.raises(ValueError, match="trust_remote_code"):
        sentence_embeddings(str(trap), TITLES)
    monkeypatch.setattr(
        "transformers.AutoTokenizer.from_pretrained", lambda *_, **__: plain.tokenizer
    )
    with pytest.raises(ValueError, match="trust_remote_code"):
        sentence_embeddings(str(trap), TITLES)
