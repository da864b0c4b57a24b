"""A model directory of any size with random weights: `python -m model.random_checkpoint --parameters 1e9 --out DIR`.

For trying whether a size fits a machine and how fast it runs there, before anything is trained. It says nothing that
makes sense. The audio networks, the text pieces and the token layout are those of another model directory.
"""

import argparse
import json
import shutil
import sys
from pathlib import Path

import torch
from safetensors.torch import save_file

from model import EMBEDDED
from model.checkpoint import CheckpointError, load
from model.transformer import SpeechTransformer, TransformerConfig

_HEAD_DIM = 128
_WIDTH_PER_LAYER = 96  # about what models of one to ten billion parameters have
_STD = 0.02


def sized(parameters: float, vocab_size: int, context: int) -> TransformerConfig:
    """The Transformer of usual proportions whose size is nearest to `parameters`."""

    def shape(heads: int, layers: int) -> TransformerConfig:
        width = heads * _HEAD_DIM
        return TransformerConfig(
            vocab_size=vocab_size,
            hidden_size=width,
            num_hidden_layers=layers,
            num_attention_heads=heads,
            num_key_value_heads=heads // 2,
            head_dim=_HEAD_DIM,
            intermediate_size=3 * width,
            rope_theta=1_000_000.0,
            max_position_embeddings=context,
            torch_dtype="bfloat16",
        )

    shapes = [
        shape(heads, max(1, round(heads * _HEAD_DIM / _WIDTH_PER_LAYER) + more))
        for heads in range(2, 65, 2)
        for more in range(-3, 4)
    ]
    return min(shapes, key=lambda config: abs(config.parameters - parameters))


def write(folder: Path, like: Path, parameters: float, context: int, seed: int) -> TransformerConfig:
    """Make the model directory `folder`; returns the sizes of its Transformer. Raises `CheckpointError`."""
    layout = load(like, transformer=False).layout
    config = sized(parameters, layout.size, context)
    folder.mkdir(parents=True)
    for name in ("tokenizer.json", "audio_tokenizer.safetensors", "audio_detokenizer.safetensors"):
        shutil.copy(like / name, folder / name)
    described = json.loads((like / "antiphon.json").read_text()) | {"name": folder.name}
    (folder / "antiphon.json").write_text(json.dumps(described, indent=1) + "\n")
    (folder / "config.json").write_text(json.dumps(config.to_json(), indent=1) + "\n")
    with torch.device("meta"):
        shapes = {name: tensor.shape for name, tensor in SpeechTransformer(config).state_dict().items()}
    generator = torch.Generator().manual_seed(seed)
    weights = {
        name: torch.empty(shape, dtype=torch.bfloat16).normal_(0, _STD, generator=generator)
        if len(shape) == 2
        else torch.ones(shape, dtype=torch.bfloat16)
        for name, shape in shapes.items()
    }
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    return config


def main(argv: list[str]) -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(prog="python -m model.random_checkpoint", description=__doc__.splitlines()[0])
    parser.add_argument("--parameters", type=float, default=1e9, help="about how many (default: %(default).0e)")
    parser.add_argument("--out", type=Path, required=True, help="the model directory to make; must not exist")
    parser.add_argument("--like", type=Path, default=EMBEDDED, help="whose audio networks, layout and text pieces")
    parser.add_argument(
        "--context",
        type=int,
        default=4096,
        help="the longest conversation in tokens that it can serve (`antiphon serve --length`)",
    )
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(argv)
    if options.out.exists():
        parser.error(f"expected a new folder, {options.out} exists")
    try:
        config = write(options.out, options.like, options.parameters, options.context, options.seed)
    except CheckpointError as error:
        parser.error(str(error))
    print(
        f"{options.out}: {config.parameters / 1e9:.2f} billion parameters, {config.num_hidden_layers} layers of width "
        f"{config.hidden_size}; {config.cache_bytes_per_token / 1024:.0f} KiB of KV cache for each token"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
