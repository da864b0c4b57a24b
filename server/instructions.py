"""How long the instructions and tools of a session may be: counted before a client is told that they hold.

The engine would refuse longer ones too, but only after `session.updated`.
"""

import functools
from pathlib import Path

from model.text_tokenizer import TextTokenizer
from server.engine.engine_config import EngineConfig
from server.engine.messages import FRAME_MS
from server.errors import ClientError, SequenceTooLong
from server.session_config import Tools, read_by_model

_CONTROLS = 2  # around it
_TURN_CONTROLS = 16  # around a turn, and the silence with which its last words are heard


class InstructionsLimit:
    """Counts with the pieces of one model, for the engine's context."""

    def __init__(self, model_dir: Path, engine: EngineConfig) -> None:
        self._model_dir, self.tokens = model_dir, engine.instruction_tokens
        self._conversation_tokens = engine.conversation_tokens

    @functools.cached_property
    def _text(self) -> TextTokenizer:
        return TextTokenizer.load(self._model_dir / "tokenizer.json")

    def room_ms(self, instructions: str, tools: Tools) -> int:
        """How long a spoken turn may be beside them. Raises `ClientError` for more than the model would read."""
        return (self._conversation_tokens - self._count(instructions, tools) - _TURN_CONTROLS) * FRAME_MS

    def _count(self, instructions: str, tools: Tools) -> int:
        text = read_by_model(instructions, tools)
        if not text:
            return 0
        count = len(text) // self._text.longest  # at least: what is much too long need not be encoded to know it
        if count <= self.tokens:
            count = len(self._text.encode(text)) + _CONTROLS
        if count > self.tokens:
            raise ClientError(
                f"expected instructions and tools of at most {self.tokens} tokens, got {count}",
                SequenceTooLong.code,
                "session.instructions",
            )
        return count
