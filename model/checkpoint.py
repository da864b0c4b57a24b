"""A model directory: the stock Transformer checkpoint, and beside it the two audio networks and `antiphon.json`.

    config.json model.safetensors tokenizer.json      the Transformer, as any engine loads it
    antiphon.json                                     token layout, rates, and sizes of the audio networks
    audio_tokenizer.safetensors audio_detokenizer.safetensors

Loading checks that everything is there, whole, and fits together, and says what is wrong where it does not.
"""

import dataclasses
import json
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import nn

from model.audio_detokenizer import SAMPLE_RATE_HZ as SPOKEN_HZ
from model.audio_detokenizer import AudioDetokenizer, AudioDetokenizerConfig
from model.audio_tokenizer import SAMPLE_RATE_HZ as HEARD_HZ
from model.audio_tokenizer import TOKEN_RATE_HZ, AudioTokenizer, AudioTokenizerConfig
from model.layout import CONTROLS, TokenLayout
from model.text_tokenizer import TextTokenizer
from model.transformer import SpeechTransformer, TransformerConfig

_FORMAT = 1
RATES = {"heard_hz": HEARD_HZ, "spoken_hz": SPOKEN_HZ, "codes_hz": TOKEN_RATE_HZ}
"""What the audio networks of this format hear and speak."""
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


# Matrices of the networks that hear are kept in 8 bits: their rows, each times 127 over its largest weight; and beside
# them, under this name, what to multiply each row with.
_SCALE = ".scale_of_rows"
_LEAST_ROW = 64  # weights; of shorter ones the scales would take too much room


def _read_json(path: Path) -> dict[str, Any]:
    try:
        values = json.loads(path.read_text())
    except FileNotFoundError as error:
        raise CheckpointError(f"{path}: expected this file, found none") from error
    except json.JSONDecodeError as error:
        raise CheckpointError(f"{path}: expected JSON, found a syntax error: {error}") from error
    if not isinstance(values, dict):
        raise CheckpointError(f"{path}: expected a JSON object, found {type(values).__name__}")
    return values


def _config(path: Path, kind: type[_Config], values: dict[str, Any]) -> _Config:
    known = {f.name for f in dataclasses.fields(kind)}  # type: ignore[arg-type]
    missing = [f.name for f in dataclasses.fields(kind) if f.default is dataclasses.MISSING and f.name not in values]  # type: ignore[arg-type]
    if missing:
        raise CheckpointError(f"{path}: expected the keys {missing}, found only {sorted(values)}")
    return kind(**{k: tuple(v) if isinstance(v, list) else v for k, v in values.items() if k in known})


def _read(file: Any, name: str) -> torch.Tensor:
    stored: torch.Tensor = file.get_tensor(name)
    return stored * file.get_tensor(name + _SCALE) if stored.dtype == torch.int8 else stored


def _names(file: Any) -> list[str]:
    return [name for name in file.keys() if not name.endswith(_SCALE)]  # noqa: SIM118


def load_weights(path: Path) -> dict[str, torch.Tensor]:
    """What `save_weights` wrote. Raises `FileNotFoundError`, and `CheckpointError` for what is not whole."""
    try:
        with safe_open(path, framework="pt") as file:
            return {name: _read(file, name) for name in _names(file)}
    except SafetensorError as error:
        raise _cut_off(path, error) from error


def _cut_off(path: Path, error: Exception) -> CheckpointError:
    return CheckpointError(f"{path}: expected a whole safetensors file: {error}")


def _fill(network: nn.Module, path: Path, weights: bool = True) -> None:
    """Read `path` into `network`, or only check that it would fit."""
    wanted = network.state_dict()
    try:
        with safe_open(path, framework="pt") as file:
            found = {name: tuple(file.get_slice(name).get_shape()) for name in _names(file)}
            wrong = [
                f"{name}: expected {tuple(wanted[name].shape) if name in wanted else 'no such tensor'}, "
                f"found {found.get(name, 'none')}"
                for name in sorted(wanted.keys() | found.keys())
                if name not in wanted or name not in found or tuple(wanted[name].shape) != found[name]
            ]
            if wrong:
                raise CheckpointError(f"{path}: {len(wrong)} tensors do not fit its config: " + "; ".join(wrong[:4]))
            if weights:  # one by one: a large model has no room for another copy of itself
                for name, tensor in wanted.items():
                    tensor.copy_(_read(file, name))
    except FileNotFoundError as error:
        raise CheckpointError(f"{path}: expected this file, found none") from error
    except SafetensorError as error:
        raise _cut_off(path, error) from error
    network.eval().requires_grad_(False)


def transformer_config(folder: Path) -> TransformerConfig:
    """The sizes of the Transformer in `folder`. Raises `CheckpointError`, also for a kind of Transformer that is not
    the one that `model.transformer` computes."""
    path = folder / "config.json"
    values = _read_json(path)
    rope = values.get("rope_parameters") or {}  # where transformers 5 keeps it
    if "rope_theta" in rope:
        values["rope_theta"] = rope["rope_theta"]
    if rope.get("rope_type", "default") != "default":
        values["rope_scaling"] = rope
    config = _config(path, TransformerConfig, values)
    wanted: dict[str, object] = {"model_type": "qwen3", "tie_word_embeddings": False, "attention_bias": False}
    for key, value in (wanted | {"rope_scaling": None, "use_sliding_window": False}).items():
        found = values.get(key, None if key == "model_type" else value)
        if found != value:
            raise CheckpointError(f"{path}: expected {key} {value!r}, found {found!r}")
    if config.num_attention_heads % config.num_key_value_heads:
        heads = f"{config.num_attention_heads} and {config.num_key_value_heads}"
        raise CheckpointError(f"{path}: expected query heads to be a multiple of key heads, found {heads}")
    return config


def _check_layout(folder: Path, layout: TokenLayout, described: dict[str, Any], config: TransformerConfig) -> None:
    """That all parts mean the same by an id."""
    path = folder / "antiphon.json"
    if layout.controls < len(CONTROLS):
        raise CheckpointError(f"{path}: expected at least {len(CONTROLS)} controls, found {layout.controls}")
    for part, codes in (("audio_tokenizer", layout.heard), ("audio_detokenizer", layout.spoken)):
        levels = described[part].get("levels", ())
        if levels and prod(levels) != codes:
            raise CheckpointError(
                f"{path}: expected as many codes in the layout as {part} has, found {codes} and {prod(levels)}"
            )
    if config.vocab_size != layout.size:
        raise CheckpointError(
            f"{folder}: expected a vocabulary of {layout.size} tokens "
            f"({', '.join(f'{n} {k}' for k, n in layout.to_json().items())}), config.json has {config.vocab_size}"
        )
    rates = described.get("rates", RATES)
    if rates != RATES:
        raise CheckpointError(f"{path}: expected the rates {RATES}, found {rates}")


def load(folder: Path, transformer: bool = True) -> SpeechModel:
    """Load a model directory. Raises `CheckpointError`.

    With `transformer=False` the Transformer is checked and stays without weights: another engine computes it.
    """
    if not folder.is_dir():
        raise CheckpointError(f"{folder}: expected a model directory, found none")
    path = folder / "antiphon.json"
    described = _read_json(path)
    if described.get("format") != _FORMAT:
        raise CheckpointError(f"{path}: expected format {_FORMAT}, found {described.get('format')!r}")
    missing = [part for part in ("layout", "audio_tokenizer", "audio_detokenizer") if part not in described]
    if missing:
        raise CheckpointError(f"{path}: expected the keys {missing}, found only {sorted(described)}")
    layout = _config(path, TokenLayout, described["layout"])
    config = transformer_config(folder)
    _check_layout(folder, layout, described, config)
    text_path = folder / "tokenizer.json"
    if not text_path.exists():
        raise CheckpointError(f"{text_path}: expected this file, found none")
    try:
        text = TextTokenizer.load(text_path)
    except Exception as error:  # all that the library raises
        raise CheckpointError(f"{text_path}: expected a whole tokenizer: {error}") from error
    if text.pieces != layout.text:
        raise CheckpointError(f"{text_path}: expected {layout.text} pieces of text, found {text.pieces}")
    with torch.device("cpu" if transformer else "meta"):
        network = SpeechTransformer(config)
    tokenizer = AudioTokenizer(_config(path, AudioTokenizerConfig, described["audio_tokenizer"]))
    detokenizer = AudioDetokenizer(_config(path, AudioDetokenizerConfig, described["audio_detokenizer"]))
    _fill(network, folder / "model.safetensors", weights=transformer)
    _fill(tokenizer, folder / "audio_tokenizer.safetensors")
    _fill(detokenizer, folder / "audio_detokenizer.safetensors")
    return SpeechModel(described.get("name", folder.name), layout, text, network, tokenizer, detokenizer)


def _in_eight_bits(weight: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """A matrix -> its rows as int8, and what to multiply each with."""
    largest = weight.float().abs().amax(tuple(range(1, weight.ndim)), keepdim=True).clamp(min=1e-9)
    return (weight.float() / largest * 127).round().to(torch.int8), largest / 127


def _is_matrix(weight: torch.Tensor) -> bool:
    return weight.is_floating_point() and weight.ndim > 1 and weight[0].numel() >= _LEAST_ROW


def rounded(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Weights as they come back from a file with matrices of 8 bits, but for the rest of them."""
    return {name: torch.mul(*_in_eight_bits(w)) if _is_matrix(w) else w for name, w in weights.items()}


def save_weights(path: Path, weights: dict[str, torch.Tensor], bits: int = 16) -> None:
    """Weights as 16-bit floats, or their matrices in 8 bits, which is what they are worth."""
    tensors: dict[str, torch.Tensor] = {}
    for name, weight in weights.items():
        if bits == 8 and _is_matrix(weight):
            tensors[name], tensors[name + _SCALE] = _in_eight_bits(weight)
        else:
            tensors[name] = weight.to(torch.float16) if weight.is_floating_point() else weight
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, path, metadata={"format": "pt"})


def save(folder: Path, model: SpeechModel) -> None:
    """Write a model directory."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(model.transformer.config.to_json(), indent=1) + "\n")
    described = {
        "format": _FORMAT,
        "name": model.name,
        "rates": RATES,
        "layout": model.layout.to_json(),
        "audio_tokenizer": dataclasses.asdict(model.tokenizer.config),
        "audio_detokenizer": dataclasses.asdict(model.detokenizer.config),
    }
    (folder / "antiphon.json").write_text(json.dumps(described, indent=1) + "\n")
    model.text.save(folder / "tokenizer.json")
    save_weights(folder / "model.safetensors", model.transformer.state_dict())
    save_weights(folder / "audio_tokenizer.safetensors", model.tokenizer.state_dict(), bits=8)
    save_weights(folder / "audio_detokenizer.safetensors", model.detokenizer.state_dict())
