"""A small speech model with random weights, for tests of everything that does not need sense."""

import torch

from model.audio_detokenizer import AudioDetokenizer, AudioDetokenizerConfig
from model.audio_tokenizer import AudioTokenizer, AudioTokenizerConfig
from model.checkpoint import SpeechModel
from model.layout import TokenLayout
from model.text_tokenizer import TextTokenizer
from model.transformer import SpeechTransformer, TransformerConfig

TEXTS = ["hello there, this is a small tokenizer", "it knows very few words"]


def tiny_model(seed: int = 0) -> SpeechModel:
    """Two layers, four-level codes; the same for the same seed."""
    torch.manual_seed(seed)
    layout = TokenLayout(text=280, controls=16, heard=256, spoken=256)
    text = TextTokenizer.train(TEXTS, layout.text)
    config = TransformerConfig(
        vocab_size=layout.size,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=16,
        intermediate_size=64,
        max_position_embeddings=2048,
    )
    levels = (4, 4, 4, 4)
    model = SpeechModel(
        "tiny",
        layout,
        text,
        SpeechTransformer(config),
        AudioTokenizer(AudioTokenizerConfig(channels=32, blocks=2, levels=levels)),
        AudioDetokenizer(
            AudioDetokenizerConfig(code_channels=32, code_blocks=2, frame_channels=32, frame_blocks=2, levels=levels)
        ),
    )
    for network in (model.transformer, model.tokenizer, model.detokenizer):
        network.eval().requires_grad_(False)
    return model


def wavering_model() -> SpeechModel:
    """The same, but what it says hangs on all that was said before."""
    model = tiny_model()
    for block in model.transformer.model.blocks:
        block.self_attn.v_proj.weight *= 6
        block.self_attn.o_proj.weight *= 6
    return model
