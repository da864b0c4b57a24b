"""Model directories: what was saved is loaded; what is missing, cut off or does not fit is named."""

import json
import shutil
from pathlib import Path

import pytest
import torch

from model.checkpoint import CheckpointError, load, load_weights, rounded, save_weights, transformer_config
from model.random_checkpoint import main
from tests.tiny_model import tiny_model


@pytest.fixture
def folder(tiny_dir: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_dir, tmp_path / "model"))


def test_what_was_saved_is_loaded(folder: Path) -> None:
    tokens = torch.randint(0, 280, (1, 12))
    with torch.inference_mode():
        torch.testing.assert_close(
            load(folder).transformer(tokens), tiny_model().transformer(tokens), atol=0.02, rtol=0.02
        )


@pytest.mark.parametrize("name", ["config.json", "antiphon.json", "tokenizer.json", "model.safetensors"])
def test_a_missing_file_is_named(folder: Path, name: str) -> None:
    (folder / name).unlink()
    with pytest.raises(CheckpointError, match=name):
        load(folder)


def test_a_truncated_file_is_named(folder: Path) -> None:
    path = folder / "audio_tokenizer.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(CheckpointError, match=r"audio_tokenizer\.safetensors: expected a whole safetensors file"):
        load(folder)


def test_weights_that_do_not_fit_the_config_are_named(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"hidden_size": 64}))
    with pytest.raises(CheckpointError, match="tensors do not fit its config"):
        load(folder)


def _change(folder: Path, name: str, **values: object) -> None:
    path = folder / name
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


@pytest.mark.parametrize(
    ("name", "values", "message"),
    [
        ("config.json", {"model_type": "llama"}, "expected model_type 'qwen3', found 'llama'"),
        ("config.json", {"tie_word_embeddings": True}, "expected tie_word_embeddings False, found True"),
        ("config.json", {"rope_scaling": {"type": "yarn"}}, "expected rope_scaling None"),
        ("config.json", {"num_key_value_heads": 3}, "expected query heads to be a multiple of key heads"),
        ("antiphon.json", {"rates": {"heard_hz": 8000}}, "expected the rates .* found {'heard_hz': 8000}"),
        (
            "antiphon.json",
            {"layout": {"text": 280, "controls": 4, "heard": 256, "spoken": 268}},
            "13 controls, found 4",
        ),
        (
            "antiphon.json",
            {"layout": {"text": 280, "controls": 16, "heard": 250, "spoken": 262}},
            "as many codes in the layout as audio_tokenizer has, found 250 and 256",
        ),
        (
            "antiphon.json",
            {"layout": {"text": 281, "controls": 15, "heard": 256, "spoken": 256}},
            "tokenizer.json: expected 281 pieces of text, found 280",
        ),
        ("antiphon.json", {"format": 9}, "expected format 1, found 9"),
    ],
)
def test_what_does_not_fit_together_is_said(folder: Path, name: str, values: dict[str, object], message: str) -> None:
    _change(folder, name, **values)
    with pytest.raises(CheckpointError, match=message):
        load(folder)


def test_a_missing_key_is_named(folder: Path) -> None:
    described = json.loads((folder / "antiphon.json").read_text())
    del described["audio_tokenizer"]
    (folder / "antiphon.json").write_text(json.dumps(described))
    with pytest.raises(CheckpointError, match=r"expected the keys .'audio_tokenizer'.*found only"):
        load(folder)


def test_a_transformer_for_another_engine_is_checked_and_has_no_weights(folder: Path) -> None:
    assert load(folder, transformer=False).transformer.lm_head.weight.is_meta
    _change(folder, "config.json", hidden_size=64)
    with pytest.raises(CheckpointError, match="tensors do not fit its config"):
        load(folder, transformer=False)


def test_a_random_checkpoint_has_about_the_size_asked_for_and_is_loaded(tiny_dir: Path, tmp_path: Path) -> None:
    assert main(["--parameters", "4e6", "--like", str(tiny_dir), "--out", str(tmp_path / "random")]) == 0
    model = load(tmp_path / "random")
    assert sum(p.numel() for p in model.transformer.parameters()) == pytest.approx(4e6, rel=0.25)
    assert model.transformer.config.parameters == sum(p.numel() for p in model.transformer.parameters())
    assert model.layout == tiny_model().layout


def test_a_layout_that_does_not_fit_the_vocabulary_is_named(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"vocab_size": 100}))
    with pytest.raises(CheckpointError, match="expected a vocabulary of"):
        load(folder)


def test_matrices_of_eight_bits_come_back_within_a_part_of_their_largest_weight(tmp_path: Path) -> None:
    torch.manual_seed(0)
    weights = {
        "wide": torch.randn(6, 8, 9),
        "narrow": torch.randn(6, 9),
        "bias": torch.randn(100),
        "count": torch.tensor(3),
    }
    save_weights(tmp_path / "w.safetensors", weights, bits=8)
    found = load_weights(tmp_path / "w.safetensors")
    assert found.keys() == weights.keys()
    assert (found["wide"] - weights["wide"]).abs().amax((1, 2)).le(weights["wide"].abs().amax((1, 2)) / 250).all()
    assert torch.equal(rounded(weights)["wide"], found["wide"])
    for name in ("narrow", "bias", "count"):
        assert torch.equal(found[name], weights[name].half() if weights[name].is_floating_point() else weights[name])


def test_what_transformers_5_writes_is_understood_and_what_it_stretches_refused(folder: Path) -> None:
    path = folder / "config.json"
    config = json.loads(path.read_text())
    config.pop("rope_theta", None)
    path.write_text(json.dumps(config | {"rope_parameters": {"rope_type": "default", "rope_theta": 1e6}}))
    assert transformer_config(folder).rope_theta == 1e6
    path.write_text(json.dumps(config | {"rope_parameters": {"rope_type": "yarn", "rope_theta": 1e6, "factor": 4.0}}))
    with pytest.raises(CheckpointError, match="expected rope_scaling None"):
        load(folder)


@pytest.mark.parametrize(
    ("name", "told"), [("tokenizer.json", "expected a whole tokenizer"), ("antiphon.json", "expected a JSON object")]
)
def test_a_file_that_is_cut_off_or_another_kind_is_named(folder: Path, name: str, told: str) -> None:
    path = folder / name
    path.write_text("[]" if name == "antiphon.json" else path.read_text()[:200])
    with pytest.raises(CheckpointError, match=told):
        load(folder)


def test_weights_that_are_cut_off_are_named(folder: Path) -> None:
    path = folder / "audio_tokenizer.safetensors"
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(CheckpointError, match="expected a whole safetensors file"):
        load_weights(path)
