"""Model directories: what was saved is loaded; what is missing, cut off or does not fit is named."""

import json
import shutil
from pathlib import Path

import pytest
import torch

from model.checkpoint import CheckpointError, load
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


def test_a_layout_that_does_not_fit_the_vocabulary_is_named(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"vocab_size": 100}))
    with pytest.raises(CheckpointError, match="expected a vocabulary of"):
        load(folder)
