"""Text -> text pieces and back: byte-level BPE, so that any text encodes. Knows nothing about audio."""

import functools
import json
from collections.abc import Iterable
from pathlib import Path

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from model.layout import CONTROLS


class TextTokenizer:
    """The pieces of `tokenizer.json`."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer

    @classmethod
    def load(cls, path: Path) -> "TextTokenizer":
        """Read `tokenizer.json`; control tokens that are newer than the file get the ids that follow."""
        tokenizer = Tokenizer.from_file(str(path))
        tokenizer.add_special_tokens(list(CONTROLS))
        return cls(tokenizer)

    @classmethod
    def train(cls, texts: Iterable[str], pieces: int) -> "TextTokenizer":
        """Learn `pieces` pieces from `texts`; the control tokens get the ids that follow."""
        tokenizer = Tokenizer(models.BPE())
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
        tokenizer.decoder = decoders.ByteLevel()
        trainer = trainers.BpeTrainer(
            vocab_size=pieces, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
        )
        tokenizer.train_from_iterator(texts, trainer)
        if tokenizer.get_vocab_size() != pieces:
            raise ValueError(f"expected texts that yield {pieces} pieces, got {tokenizer.get_vocab_size()}")
        tokenizer.add_special_tokens(list(CONTROLS))
        return cls(tokenizer)

    def save(self, path: Path) -> None:
        self._tokenizer.save(str(path))

    def json_without_prefix(self) -> str:
        """`tokenizer.json` for whoever encodes the middle of a text: no blank is put in front."""
        described = json.loads(self._tokenizer.to_str())
        described["pre_tokenizer"]["add_prefix_space"] = False
        return json.dumps(described)

    @property
    def pieces(self) -> int:
        """How many pieces of text there are: the id of the first control token."""
        first = self._tokenizer.token_to_id(CONTROLS[0])
        assert first is not None  # the constructor has seen it
        return int(first)

    @functools.cached_property
    def longest(self) -> int:
        """No piece stands for more characters than this."""
        return max(map(len, self._tokenizer.get_vocab()))

    def encode(self, text: str) -> list[int]:
        """Piece ids; control tokens written out in the text are only text. Half a character is `?`."""
        text = text.encode("utf-8", "replace").decode()
        return self._tokenizer.encode(text.replace("<", "‹")).ids if "<" in text else self._tokenizer.encode(text).ids

    def decode(self, ids: list[int]) -> str:
        """The text of piece ids; an incomplete UTF-8 sequence becomes U+FFFD."""
        return self._tokenizer.decode(ids, skip_special_tokens=True)
