"""One session inside the speech engine: its conversation as items, and the items as one token sequence.

An edit anywhere (truncating, deleting, new instructions) gives a new token list; what it shares with the old one from
the start stays in the cache. Knows the sequence format; knows nothing about samples, batching or the wire.
"""

from dataclasses import dataclass, field

from model.layout import TokenLayout
from model.text_tokenizer import TextTokenizer
from server.engine.messages import FRAME_MS, Respond
from server.engine.rules import Script
from server.engine.token_interface import TokenEngine, TokenSequence
from server.errors import SequenceTooLong

_RETAINED = 0.5  # share of a conversation that stays when it has outgrown the context
# What a turn and its answer take: who begins to speak so near the limit makes room for both, for what is kept has to be
# read again, and there is time for that until the turn is over.
_TURN_ROOM, _TURN_ROOM_SHARE = 256, 0.25
_MARGIN = 64  # of a conversation that must not forget: room to close its last item and write it down


@dataclass(slots=True)
class Item:
    """One item: its tokens, closed by `<end>` once it is complete."""

    item_id: str
    tokens: list[int] = field(default_factory=list)


class Conversation:
    """Items in order, kept in step with a sequence of the token engine."""

    def __init__(self, session_id: str, engine: TokenEngine, layout: TokenLayout, text: TextTokenizer) -> None:
        self.session_id = session_id
        self._engine, self._layout, self._text = engine, layout, text
        self.sequence: TokenSequence = engine.open()
        self._longest = engine.config.conversation_tokens
        self._full = engine.config.length - engine.config.prefill_tokens
        self._limit = self._longest
        self._retained: float | None = _RETAINED
        self._system: list[int] = []
        self.items: list[Item] = []

    def control(self, name: str) -> int:
        return self._layout.control(name)

    # --- edits -----------------------------------------------------------------------------------------------------

    def set_instructions(self, text: str) -> None:
        """Raises `SequenceTooLong`, and changes nothing, where they would leave too little room for a conversation."""
        system = self._system_tokens(text)
        most = self._engine.config.instruction_tokens
        if len(system) > most:
            raise SequenceTooLong(f"expected instructions and tools of at most {most} tokens, got {len(system)}")
        before, self._system = self._system, system
        try:
            self.align()
        except SequenceTooLong:  # not even the newest item has room beside them
            self._system = before
            self.align()
            raise

    def _system_tokens(self, text: str) -> list[int]:
        return [self.control("<system>"), *self._encoded(text), self.control("<end>")] if text else []

    def _encoded(self, text: str) -> list[int]:
        """Raises `SequenceTooLong` for what is much too long: encoding megabytes would keep all sessions waiting."""
        least = len(text) // self._text.longest
        if least > self._full:
            raise SequenceTooLong(f"expected a text of at most {self._full} tokens, got at least {least}")
        return self._text.encode(text)

    def set_truncation(self, retained: float | None, limit: int | None) -> None:
        """See `SetTruncation`."""
        self._retained, self._limit = retained, min(limit or self._longest, self._longest)

    def add_text(
        self, item_id: str, role: str, text: str, after: str | None = None, before: Item | None = None
    ) -> None:
        """A whole item of text behind the item `after`: None means the last one, an empty id that it comes first.

        `before` is a last item that stays the last.

        Raises `SequenceTooLong`, and adds nothing.
        """
        opening = {
            "system": ("<system>",),
            "call": ("<assistant>", "<call>"),
            "result": ("<result>",),
        }.get(role, (f"<{role}>", "<text>"))
        tokens = [*map(self.control, opening), *self._encoded(text), self.control("<end>")]
        self._check_room(len(tokens))
        place = len(self.items) - (before is not None)
        if after is not None:
            place = 0 if not after else 1 + next((i for i, x in enumerate(self.items) if x.item_id == after), place - 1)
        self.items.insert(place, Item(item_id, tokens))
        self.align()

    def copy(self, item: Item) -> None:
        """An item of another conversation, as it stands there; one that still grows there is over here."""
        copied = Item(item.item_id, list(item.tokens))
        self.items.append(copied)
        self.end(copied)
        self.align()

    def open_turn(self, item_id: str) -> Item:
        """An item that somebody begins to say. Raises `SequenceTooLong`, and adds nothing."""
        return self.open_item(item_id, "<user>", room=min(_TURN_ROOM, int(_TURN_ROOM_SHARE * self._limit)))

    def open_item(self, item_id: str, *opening: str, keep: int = 1, room: int = 0) -> Item:
        """An item that grows, beginning with control tokens. So many of the newest items are never forgotten for it.
        `room`: so many tokens are to have a place behind it.

        Raises `SequenceTooLong`, and adds nothing.
        """
        item = Item(item_id, [self.control(name) for name in opening])
        self.items.append(item)
        try:
            self.align(keep, room)
        except SequenceTooLong:
            self.items.pop()
            raise
        return item

    def reopen(self, item: Item, *opening: str, keep: int = 1) -> None:
        """Forget what an item has grown to: it opens once more, with these control tokens."""
        item.tokens = [self.control(name) for name in opening]
        self.align(keep)

    def extend(self, item: Item, tokens: list[int]) -> None:
        """More tokens at the end of `item`."""
        item.tokens.extend(tokens)
        self.align()

    def hear(self, turn: Item, codes: list[int]) -> None:
        """More of a turn that is being heard. Raises `SequenceTooLong`, and adds nothing."""
        self._check_room(len(turn.tokens) + len(codes), turn)
        self.extend(turn, codes)

    def end(self, item: Item) -> None:
        """Close an item with `<end>`; where there is no more room, in place of its last token.

        A thought that is not over is forgotten: the model never learnt what may come after one.
        """
        if self.control("<answer>") not in item.tokens and self.control("<thought>") in item.tokens:
            del item.tokens[item.tokens.index(self.control("<thought>")) :]
        if item.tokens[-1] == self.control("<end>"):
            return
        if item.tokens == [self.control("<assistant>")]:  # it has not chosen what to be
            item.tokens.append(self.control("<speech>"))
        others = sum(len(i.tokens) for i in self.items if i is not item) if self._retained is None else 0
        del item.tokens[max(1, self._full - 1 - len(self._system) - others) :]
        self.extend(item, [self.control("<end>")])

    def _check_room(self, tokens: int, growing: Item | None = None) -> None:
        """For an item of so many tokens, new or the one that is growing."""
        room = self._longest - len(self._system)
        if self._retained is None:  # nothing makes room: up to there an answer fails, and what is said is kept
            room = self._full - _MARGIN - len(self._system) - sum(len(i.tokens) for i in self.items if i is not growing)
        if tokens > room:
            raise SequenceTooLong(f"expected an item of at most {room} tokens, got {tokens}")

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

    def align(self, keep: int = 1, room: int = 0) -> None:
        """Bring the engine's sequence to the items' tokens, keeping the common beginning in the cache.

        Where they and `room` are too many, old items are forgotten, but for the newest `keep`.

        Raises `SequenceTooLong`.
        """
        wanted = [*self._system, *(token for item in self.items for token in item.tokens)]
        limit = min(self._limit, self._longest - len(self._system))
        if self._retained is not None and len(wanted) - len(self._system) + room > limit:
            self._forget(min(int(limit * self._retained), limit - room), keep)
            wanted = [*self._system, *(token for item in self.items for token in item.tokens)]
        have = self.sequence.tokens
        common = min(len(have), len(wanted))
        if have[:common] != wanted[:common]:
            common = next(i for i in range(common) if have[i] != wanted[i])
        if common < len(have):
            self._engine.rewind(self.sequence, common)
        if common < len(wanted):
            self._engine.append(self.sequence, wanted[common:])

    def _forget(self, limit: int, keep: int) -> None:
        """Drop the oldest items until at most `limit` tokens of items are left; the newest `keep` always stay."""
        size = sum(len(i.tokens) for i in self.items)
        while size > limit and len(self.items) > keep:
            size -= len(self.items.pop(0).tokens)

    # --- counting --------------------------------------------------------------------------------------------------

    def count(self, tokens: list[int]) -> tuple[int, int]:
        """(text, audio) tokens among `tokens`; control tokens count as text."""
        audio = sum(1 for t in tokens if t >= self._layout.heard_start)
        return len(tokens) - audio, audio

    def check_length(self) -> None:
        """Raises `SequenceTooLong` if the conversation has outgrown its limit and must not forget."""
        if self._retained is None and len(self.sequence.tokens) > self._limit:
            raise SequenceTooLong(
                f"expected a conversation of at most {self._limit} tokens, got {len(self.sequence.tokens)}, "
                "and truncation is disabled"
            )

    def room_beside(self, instructions: str) -> int:
        """How much longer the newest item may become if these instructions are to have their place afterwards.

        Raises `SequenceTooLong` where it may not.
        """
        kept = self.items if self._retained is None else self.items[-1:]
        room = self._full - 1 - len(self._system_tokens(instructions)) - sum(len(i.tokens) for i in kept)
        if room < 1:
            raise SequenceTooLong(f"expected room for an answer beside the session's instructions, {-room} tokens lack")
        return room

    def close(self) -> None:
        self._engine.close(self.sequence)


@dataclass(slots=True)
class Draft:
    """The text of an answer that is to be said, written by a fork of the conversation."""

    sequence: TokenSequence
    script: Script
    """What of it has not been said yet."""


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
    limit: int
    """The most tokens that it may have."""
    opening_tokens: int
    """Tokens of the item that were given, not generated."""
    call_ids: list[int] | None = None
    """The text of a function call, where the model chose to make one."""
    thinking: bool = False
    """Whether it is at its thought now, which nobody is told."""
    thought_tokens: int = 0
    """Of the thought, with its two marks."""
    to_draft: bool = False
    """Whether a draft is to begin once most of what is before it has been read."""
    draft: Draft | None = None
    """While it is being written."""
    drafted_tokens: int = 0
    """Of the draft, its thought included."""
    cut_short: bool = False
    """Whether the draft did not end by itself."""
    text_ids: list[int] = field(default_factory=list)
    text_sent: str = ""
    output_tokens: int = 0
    timings_ms: dict[str, float] = field(default_factory=dict)
