"""One session inside the speech engine: its conversation as items, and the items as one token sequence.

An edit anywhere (truncating, deleting, new instructions) gives a new token list; what it shares with the old one from
the start stays in the cache. Knows the sequence format; knows nothing about samples, batching or the wire.
"""

from dataclasses import dataclass, field

from model.layout import TokenLayout
from model.text_tokenizer import TextTokenizer
from server.engine.messages import FRAME_MS, Respond
from server.engine.token_engine import TokenSequence, TorchTokenEngine


@dataclass(slots=True)
class Item:
    """One item: its tokens, closed by `<end>` once it is complete."""

    item_id: str
    tokens: list[int] = field(default_factory=list)


class Conversation:
    """Items in order, kept in step with a sequence of the token engine."""

    def __init__(self, session_id: str, engine: TorchTokenEngine, layout: TokenLayout, text: TextTokenizer) -> None:
        self.session_id = session_id
        self._engine, self._layout, self._text = engine, layout, text
        self.sequence: TokenSequence = engine.open()
        self._system: list[int] = []
        self.items: list[Item] = []

    def control(self, name: str) -> int:
        return self._layout.control(name)

    # --- edits -----------------------------------------------------------------------------------------------------

    def set_instructions(self, text: str) -> None:
        self._system = [self.control("<system>"), *self._text.encode(text), self.control("<end>")] if text else []
        self.align()

    def add_text(self, item_id: str, role: str, text: str) -> None:
        """A whole item of text."""
        pieces = self._text.encode(text)
        opening = (
            [self.control("<system>")] if role == "system" else [self.control(f"<{role}>"), self.control("<text>")]
        )
        self.items.append(Item(item_id, [*opening, *pieces, self.control("<end>")]))
        self.align()

    def open_item(self, item_id: str, *opening: str) -> Item:
        """An item that grows, beginning with control tokens."""
        item = Item(item_id, [self.control(name) for name in opening])
        self.items.append(item)
        self.align()
        return item

    def extend(self, item: Item, tokens: list[int]) -> None:
        """More tokens at the end of `item`."""
        item.tokens.extend(tokens)
        self.align()

    def remove(self, item_id: str) -> None:
        self.items = [i for i in self.items if i.item_id != item_id]
        self.align()

    def truncate(self, item_id: str, audio_end_ms: int) -> None:
        """Cut a spoken answer behind the frame that was playing at `audio_end_ms`."""
        for item in self.items:
            if item.item_id == item_id:
                frames_left = -(-audio_end_ms // FRAME_MS)
                kept: list[int] = []
                for token in item.tokens:
                    if self._layout.is_spoken(token):
                        if frames_left == 0:
                            break
                        frames_left -= 1
                    kept.append(token)
                if kept[-1] != self.control("<end>"):
                    kept.append(self.control("<end>"))
                item.tokens = kept
        self.align()

    def align(self) -> None:
        """Bring the engine's sequence to the items' tokens, keeping the common beginning in the cache."""
        wanted = [*self._system, *(token for item in self.items for token in item.tokens)]
        limit = self._engine.config.length - 2 * self._engine.config.prefill_tokens
        if len(wanted) > limit:
            self._forget(limit // 2)
            wanted = [*self._system, *(token for item in self.items for token in item.tokens)]
        have = self.sequence.tokens
        common = min(len(have), len(wanted))
        if have[:common] != wanted[:common]:
            common = next(i for i in range(common) if have[i] != wanted[i])
        if common < len(have):
            self._engine.rewind(self.sequence, common)
        if common < len(wanted):
            self._engine.append(self.sequence, wanted[common:])

    def _forget(self, limit: int) -> None:
        """Drop the oldest items until at most `limit` tokens are left; the newest item always stays."""
        size = len(self._system) + sum(len(i.tokens) for i in self.items)
        while size > limit and len(self.items) > 1:
            size -= len(self.items.pop(0).tokens)

    # --- counting --------------------------------------------------------------------------------------------------

    def count(self, tokens: list[int]) -> tuple[int, int]:
        """(text, audio) tokens among `tokens`; control tokens count as text."""
        audio = sum(1 for t in tokens if t >= self._layout.heard_start)
        return len(tokens) - audio, audio

    def close(self) -> None:
        self._engine.close(self.sequence)


@dataclass(slots=True)
class Answer:
    """An answer that is being generated."""

    request: Respond
    item: Item
    asked_at_s: float
    input_text: int
    input_audio: int
    cached_text: int
    cached_audio: int
    text_ids: list[int] = field(default_factory=list)
    text_sent: str = ""
    codes: list[int] = field(default_factory=list)
    output_tokens: int = 0
    timings_ms: dict[str, float] = field(default_factory=dict)
