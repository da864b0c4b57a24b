"""A model directory: the stock Transformer checkpoint, and beside it the two audio networks and `antiphon.json`.

    config.json model.safetensors tokenizer.json      the Transformer, as any engine loads it
    antiphon.json                                     token layout and sizes of the audio networks
    audio_tokenizer.safetensors audio_detokenizer.safetensors

Loading checks that everything is there, whole, and fits together, and says what is wrong where it does not.
"""

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from model.audio_detokenizer import AudioDetokenizer, AudioDetokenizerConfig
from model.audio_tokenizer import AudioTokenizer, AudioTokenizerConfig
from model.layout import TokenLayout
from model.text_tokenizer import TextTokenizer
from model.transformer import SpeechTransformer, TransformerConfig

EMBEDDED = Path(__file__).parent / "checkpoints" / "antiphon-nano"
_FORMAT = 1
_Config = TypeVar("_Config")


class CheckpointError(Exception):
    """A model directory that cannot be loaded; the message names the file and what was expected."""


@dataclass(frozen=True)
class SpeechModel:
    """All parts of one model, ready to run."""

    name: str
    layout: TokenLayout
    text: TextTokenizer
    transformer: SpeechTransformer
    tokenizer: AudioTokenizer
    detokenizer: AudioDetokenizer


def _read_json(path: Path) -> dict[str, Any]:
    try:
        return json.loads(path.read_text())
    except FileNotFoundError as error:
        raise CheckpointError(f"{path}: expected this file, found none") from error
    except json.JSONDecodeError as error:
        raise CheckpointError(f"{path}: expected JSON, found a syntax error: {error}") from error


def _config(path: Path, kind: type[_Config], values: dict[str, Any]) -> _Config:
    known = {f.name for f in dataclasses.fields(kind)}  # type: ignore[arg-type]
    missing = [f.name for f in dataclasses.fields(kind) if f.default is dataclasses.MISSING and f.name not in values]  # type: ignore[arg-type]
    if missing:
        raise CheckpointError(f"{path}: expected the keys {missing}, found only {sorted(values)}")
    return kind(**{k: tuple(v) if isinstance(v, list) else v for k, v in values.items() if k in known})


def _fill(network: nn.Module, path: Path) -> None:
    try:
        weights = load_file(path)
    except FileNotFoundError as error:
        raise CheckpointError(f"{path}: expected this file, found none") from error
    except SafetensorError as error:
        raise CheckpointError(f"{path}: expected a whole safetensors file: {error}") from error
    wanted = network.state_dict()
    wrong = [
        f"{name}: expected {tuple(wanted[name].shape) if name in wanted else 'no such tensor'}, "
        f"found {tuple(weights[name].shape) if name in weights else 'none'}"
        for name in sorted(wanted.keys() | weights.keys())
        if name not in wanted or name not in weights or wanted[name].shape != weights[name].shape
    ]
    if wrong:
        raise CheckpointError(f"{path}: {len(wrong)} tensors do not fit its config: " + "; ".join(wrong[:4]))
    network.load_state_dict({name: tensor.to(wanted[name].dtype) for name, tensor in weights.items()})
    network.eval().requires_grad_(False)


def load(folder: Path) -> SpeechModel:
    """Load a model directory. Raises `CheckpointError`."""
    if not folder.is_dir():
        raise CheckpointError(f"{folder}: expected a model directory, found none")
    described = _read_json(folder / "antiphon.json")
    if described.get("format") != _FORMAT:
        raise CheckpointError(
            f"{folder / 'antiphon.json'}: expected format {_FORMAT}, found {described.get('format')!r}"
        )
    layout = _config(folder / "antiphon.json", TokenLayout, described.get("layout", {}))
    sizes = _read_json(folder / "config.json")
    config = _config(folder / "config.json", TransformerConfig, sizes)
    if sizes.get("model_type") != "qwen3":
        raise CheckpointError(
            f"{folder / 'config.json'}: expected model_type 'qwen3', found {sizes.get('model_type')!r}"
        )
    if config.vocab_size != layout.size:
        raise CheckpointError(
            f"{folder}: expected a vocabulary of {layout.size} tokens, config.json has {config.vocab_size}"
        )
    text_path = folder / "tokenizer.json"
    if not text_path.exists():
        raise CheckpointError(f"{text_path}: expected this file, found none")
    transformer = SpeechTransformer(config)
    tokenizer = AudioTokenizer(_config(folder / "antiphon.json", AudioTokenizerConfig, described["audio_tokenizer"]))
    detokenizer = AudioDetokenizer(
        _config(folder / "antiphon.json", AudioDetokenizerConfig, described["audio_detokenizer"])
    )
    _fill(transformer, folder / "model.safetensors")
    _fill(tokenizer, folder / "audio_tokenizer.safetensors")
    _fill(detokenizer, folder / "audio_detokenizer.safetensors")
    return SpeechModel(
        described.get("name", folder.name), layout, TextTokenizer.load(text_path), transformer, tokenizer, detokenizer
    )


def save_weights(path: Path, weights: dict[str, torch.Tensor]) -> None:
    """Weights as 16-bit floats, which is what they are worth."""
    tensors = {k: (v.to(torch.float16) if v.is_floating_point() else v).contiguous() for k, v in weights.items()}
    save_file(tensors, path, metadata={"format": "pt"})


def save(folder: Path, model: SpeechModel) -> None:
    """Write a model directory."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(model.transformer.config.to_json(), indent=1) + "\n")
    described = {
        "format": _FORMAT,
        "name": model.name,
        "layout": model.layout.to_json(),
        "audio_tokenizer": dataclasses.asdict(model.tokenizer.config),
        "audio_detokenizer": dataclasses.asdict(model.detokenizer.config),
    }
    (folder / "antiphon.json").write_text(json.dumps(described, indent=1) + "\n")
    model.text.save(folder / "tokenizer.json")
    for name, network in (
        ("model", model.transformer),
        ("audio_tokenizer", model.tokenizer),
        ("audio_detokenizer", model.detokenizer),
    ):
        save_weights(folder / f"{name}.safetensors", network.state_dict())
