"""What the gateway and the speech engine say to each other: one frozen dataclass per message.

The engine runs in its own process. The gateway sends commands and never waits for them; the engine answers with
events. Both directions keep their order within a session. This module imports nothing but the standard library.

A session's conversation is a list of items. The engine keeps it as one token sequence, so the order of commands is
the order of the conversation.
"""

from dataclasses import dataclass, field

HEARD_HZ = 16_000  # sample rate of `Hear.pcm`
SPOKEN_HZ = 24_000  # sample rate of `AudioDelta.pcm`
FRAME_MS = 40  # one audio token, heard or spoken

# --- commands: gateway -> engine -----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class OpenSession:
    """A new, empty conversation."""

    session_id: str


@dataclass(frozen=True, slots=True)
class CloseSession:
    """Forget the session, whatever it is doing."""

    session_id: str


@dataclass(frozen=True, slots=True)
class SetInstructions:
    """The system text that the conversation begins with; empty for none."""

    session_id: str
    text: str


@dataclass(frozen=True, slots=True)
class Hear:
    """Audio of the open user turn, mono PCM16 little-endian at `HEARD_HZ`, any number of samples.

    Opens a user turn if none is open. The engine tokenises and prefills it at once.
    """

    session_id: str
    pcm: bytes


@dataclass(frozen=True, slots=True)
class CommitTurn:
    """The open user turn is over and becomes the item `item_id`; a `TranscriptDone` follows.

    With a `guess` the end is provisional, it may be none: nothing but audio, a `Respond`, and `ConfirmTurn` or
    `ResumeTurn` may follow it. What the model thinks of the turn if silence goes on comes as a `TurnProbability`.
    """

    session_id: str
    item_id: str
    guess: int = 0
    """0: the turn is over. Else the number of a guess that it may be; its transcript comes with the same number."""


@dataclass(frozen=True, slots=True)
class ConfirmTurn:
    """The provisional end was one. Audio heard since is forgotten."""

    session_id: str


@dataclass(frozen=True, slots=True)
class ResumeTurn:
    """The provisional end was none: the turn goes on with the audio heard since, and the answer is undone."""

    session_id: str


@dataclass(frozen=True, slots=True)
class DropTurn:
    """Forget the open user turn, as if nothing had been heard. Without an open turn it does nothing."""

    session_id: str


@dataclass(frozen=True, slots=True)
class AddText:
    """A text item in the conversation; `role` is system, user, assistant, call or result (of a function)."""

    session_id: str
    item_id: str
    role: str
    text: str
    after: str | None = None
    """The item that it follows; None: the last one; empty: none, it comes first."""


@dataclass(frozen=True, slots=True)
class DeleteItem:
    """Take an item out of the conversation."""

    session_id: str
    item_id: str


@dataclass(frozen=True, slots=True)
class TruncateItem:
    """Cut a spoken answer after `audio_end_ms`, as it sounds at speed 1: what follows was never heard."""

    session_id: str
    item_id: str
    audio_end_ms: int


@dataclass(frozen=True, slots=True)
class SetTruncation:
    """What happens when a conversation outgrows the context.

    The oldest items are forgotten until only `retained` of `limit` tokens are left; without `retained` nothing is
    forgotten, and the answer fails.
    """

    session_id: str
    retained: float | None
    limit: int | None = None
    """None: the engine's own limit."""


@dataclass(frozen=True, slots=True)
class Context:
    """One item that a detached answer is about: a text with its role, or an item of the conversation by its id."""

    role: str = ""
    text: str = ""
    item_id: str = ""


@dataclass(frozen=True, slots=True)
class Function:
    """A function that may be called: its arguments are an object of the JSON schema `parameters`."""

    name: str
    parameters: str = "{}"


@dataclass(frozen=True, slots=True)
class Calls:
    """Function calls instead of an answer: the model decides, or one is `required`."""

    functions: tuple[Function, ...]
    required: bool = False


@dataclass(frozen=True, slots=True)
class Respond:
    """Answer the conversation as it stands; the answer becomes the item `item_id`.

    Events of the answer carry `response_id`. `instructions` replaces the session's for this answer only.
    """

    session_id: str
    response_id: str
    item_id: str
    speak: bool = True
    """True: audio with its transcript. False: text alone."""
    speed: float = 1.0
    """How fast the voice speaks."""
    max_tokens: int | None = None
    """Output tokens (text and audio together) after which the answer stops as incomplete; None: the engine's limit."""
    temperature: float = 0.0
    seed: int = 0
    instructions: str | None = None
    calls: Calls | None = None
    """The functions that may be called instead of an answer."""
    script: str | None = None
    """A text to be read aloud, word for word, instead of an answer of the model's own."""
    context: tuple[Context, ...] | None = None
    """A detached answer, beside the conversation and not part of it, about these items."""


@dataclass(frozen=True, slots=True)
class Cancel:
    """Stop an answer within one step. What was generated so far stays in the conversation until `TruncateItem`."""

    session_id: str
    response_id: str


Command = (
    OpenSession
    | CloseSession
    | SetInstructions
    | Hear
    | CommitTurn
    | ConfirmTurn
    | ResumeTurn
    | DropTurn
    | AddText
    | DeleteItem
    | TruncateItem
    | SetTruncation
    | Respond
    | Cancel
)

# --- events: engine -> gateway -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of one answer, by kind. `cached` counts input tokens that were not computed again."""

    input_text: int = 0
    input_audio: int = 0
    cached_text: int = 0
    cached_audio: int = 0
    output_text: int = 0
    output_audio: int = 0
    untold: int = 0
    """Of `output_text`: a thought, and what a spoken answer was drafted with."""

    @property
    def input_tokens(self) -> int:
        return self.input_text + self.input_audio

    @property
    def cached_tokens(self) -> int:
        return self.cached_text + self.cached_audio

    @property
    def output_tokens(self) -> int:
        return self.output_text + self.output_audio


@dataclass(frozen=True, slots=True)
class TurnProbability:
    """The model's own opinion, after the newest heard frame, that the open user turn is over."""

    session_id: str
    probability: float
    heard_ms: int
    """Length of the open turn's audio that this opinion rests on."""


@dataclass(frozen=True, slots=True)
class TranscriptDelta:
    """More of what was heard in the user item; `guess` is that of its `CommitTurn`."""

    session_id: str
    item_id: str
    text: str
    guess: int = 0


@dataclass(frozen=True, slots=True)
class TranscriptDone:
    """All of what was heard in the user item; `guess` is that of its `CommitTurn`."""

    session_id: str
    item_id: str
    text: str
    audio_tokens: int
    text_tokens: int
    guess: int = 0


@dataclass(frozen=True, slots=True)
class ResponseBegun:
    """The engine has begun with an answer; what it reads is counted."""

    session_id: str
    response_id: str
    usage: Usage


@dataclass(frozen=True, slots=True)
class TextDelta:
    """More text of an answer: the transcript of its audio, or the answer itself where it is text alone."""

    session_id: str
    response_id: str
    text: str
    tokens: int = 1


@dataclass(frozen=True, slots=True)
class CallDelta:
    """More of the function call that the model makes instead of answering."""

    session_id: str
    response_id: str
    name: str
    arguments: str
    """The next piece of a JSON object."""


@dataclass(frozen=True, slots=True)
class AudioDelta:
    """More audio of an answer, mono PCM16 little-endian at `SPOKEN_HZ`."""

    session_id: str
    response_id: str
    pcm: bytes


@dataclass(frozen=True, slots=True)
class ResponseDone:
    """The last event of an answer. `status` is completed, cancelled, incomplete (`max_tokens`) or failed."""

    session_id: str
    response_id: str
    status: str
    usage: Usage = field(default_factory=Usage)
    timings_ms: dict[str, float] = field(default_factory=dict)
    """Milliseconds from the `Respond` command to each stage: `heard` (all of the turn is in the sequence),
    `transcribed`, `first_token`, `thought` (its end, where there was one), `drafted`, `first_code`, `first_audio`,
    `done`."""
    error: str | None = None
    code: str = "engine"
    """Of the error."""


@dataclass(frozen=True, slots=True)
class SessionFailed:
    """The engine could not carry out a command of this session; `message` says what was expected and what came."""

    session_id: str
    message: str
    code: str = "server_error"
    fatal: bool = False
    """The engine has no such session any more: it never found a place, or its memory was lost."""
    item_id: str = ""
    """The item that it could not take in; all else is as it was."""


Event = (
    TurnProbability
    | TranscriptDelta
    | TranscriptDone
    | ResponseBegun
    | TextDelta
    | CallDelta
    | AudioDelta
    | ResponseDone
    | SessionFailed
)
