"""Which token engine, and its sizes; apart from the engines so that the gateway need not import torch."""

from collections.abc import Mapping
from dataclasses import dataclass, field

KINDS = ("torch", "vllm")
WEIGHTS = ("int8", "float32")
_LEAST_ROOM = 32  # tokens: 1 s of speech and what is around it
_ANSWER_ROOM = 400  # tokens: 12 s of speech


@dataclass(frozen=True, slots=True)
class EngineConfig:
    """Kind and sizes of the token engine."""

    kind: str = "torch"
    """One of `KINDS`."""
    weights: str = "int8"
    """One of `WEIGHTS`: how our own engine keeps them. With 8 bits a step is much shorter, and where two tokens are
    nearly as likely it may depend on who else is served which one is said."""
    slots: int = 32
    sessions: int | None = None
    """The most conversations at once; None: what is measured at start-up, and never more than there are slots."""
    length: int = 2048
    prefill_tokens: int = 64
    """The most tokens that one sequence prefills in one step: longer prompts take several, so nobody waits long."""
    answer_tokens: int = 1200
    """Where an answer without a limit of its own is cut off: about 40 s of speech. A guard, not a feature."""
    hypotheses: int = 4
    """How many ways of writing down what was heard are followed at once (our own engine; vLLM follows one)."""
    vllm: Mapping[str, object] = field(default_factory=dict)
    """vLLM's own settings by the names of its `AsyncEngineArgs`; they win over ours."""

    def __post_init__(self) -> None:
        """Raises `ValueError` where there would be room for nothing."""
        for name in ("slots", "sessions", "length", "prefill_tokens", "answer_tokens", "hypotheses"):
            count = getattr(self, name)
            if count is not None and count < 1:
                raise ValueError(f"{name}: expected at least 1, got {count}")
        if self.conversation_tokens < _LEAST_ROOM:
            raise ValueError(f"length: expected room for a conversation and its answer, got {self.length}")

    @property
    def conversation_tokens(self) -> int:
        """The most tokens that a conversation may have before it is answered, so that the answer finds room."""
        return self.length - 2 * self.prefill_tokens - min(_ANSWER_ROOM, self.length // 4)

    @property
    def instruction_tokens(self) -> int:
        """The most tokens that instructions and tools may have: a conversation needs room beside them."""
        return self.conversation_tokens // 2
