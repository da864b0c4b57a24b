"""Speech engine: audio and text in, audio and text out, for all sessions together, one `step` at a time.

    step: hear (tokenise what has arrived), think (one step of the token engine), say (detokenise what is ready)

It owns the model. It knows nothing about processes, sockets or the wire protocol: commands go in, events come out.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, field

import torch

from model.audio_detokenizer import FLUSH_TOKENS, delay_samples
from model.audio_detokenizer import TOKEN_SAMPLES as SPOKEN_SAMPLES
from model.audio_tokenizer import DELAY_TOKENS
from model.audio_tokenizer import TOKEN_SAMPLES as HEARD_SAMPLES
from model.checkpoint import SpeechModel
from model.streaming import State
from server.engine.call_rule import CallGrammar
from server.engine.conversation import Answer, Conversation, Item
from server.engine.engine_config import EngineConfig
from server.engine.messages import (
    FRAME_MS,
    SPOKEN_HZ,
    AddText,
    AudioDelta,
    CallDelta,
    Cancel,
    CloseSession,
    Command,
    CommitTurn,
    DeleteItem,
    DropTurn,
    Event,
    Hear,
    OpenSession,
    Respond,
    ResponseBegun,
    ResponseDone,
    SessionFailed,
    SetInstructions,
    SetTruncation,
    TextDelta,
    TranscriptDelta,
    TranscriptDone,
    TruncateItem,
    TurnProbability,
    Usage,
)
from server.engine.rules import ChoiceRule, SpeechRule, TextRule
from server.engine.token_engine import Rule, Sampled, Sampling, TorchTokenEngine
from server.errors import AntiphonError, EngineFull

_FIRST_CODES = FLUSH_TOKENS  # the fewest codes that give any sound
_NEXT_CODES = 4
_AHEAD_S = 0.25  # a listener who has less than this left to hear gets every code at once
_OPEN_TURN = ""  # id of the user item until it is committed


@dataclass(eq=False, slots=True)
class Voice:
    """The detokenizer's state of one answer."""

    state: State
    codes: list[int] = field(default_factory=list)
    done_codes: int = 0
    flushed: bool = False
    speed: float = 1.0
    stretched: torch.Tensor | None = None
    """Where a voice of another speed than 1 goes on, see `AudioDetokenizer.stretch`."""
    first_sent_s: float = 0.0
    sent_samples: int = 0
    produced_samples: int = 0


@dataclass(eq=False, slots=True)
class Session:
    """One session: its conversation, the turn being heard, and what it is doing now."""

    conversation: Conversation
    pcm: bytearray = field(default_factory=bytearray)
    ear: State = field(default_factory=list)
    turn: Item | None = None
    heard_frames: int = 0
    commit_as: str | None = None
    transcribing: Item | None = None
    transcript: list[int] = field(default_factory=list)
    transcript_sent: str = ""
    asked: list[tuple[Respond, float]] = field(default_factory=list)
    answer: Answer | None = None
    voice: Voice | None = None
    waiting_codes: list[int] = field(default_factory=list)
    """Heard codes that wait until the answer that is being generated is over."""
    next_pcm: bytearray = field(default_factory=bytearray)
    """Audio that came after a commit which has not been carried out yet: it belongs to the turn after."""
    edits: list[Command] = field(default_factory=list)
    """Edits of the conversation that wait until nothing is being generated."""
    instructions: str = ""
    stages_s: dict[str, float] = field(default_factory=dict)
    """When the newest turn was all heard, and when it was all written down."""
    detached: bool = False
    """It exists for one answer beside a conversation."""

    @property
    def generating(self) -> bool:
        return self.answer is not None or self.transcribing is not None


class SpeechEngine:
    """See the module. One thread calls everything."""

    def __init__(
        self, model: SpeechModel, config: EngineConfig, clock: Callable[[], float] = time.perf_counter
    ) -> None:
        self.model, self.config, self.clock, self.limit = model, config, clock, config.answer_tokens
        self.tokens = TorchTokenEngine(model.transformer, model.layout, config)
        self._calls = CallGrammar(model.text, model.layout)
        self._sessions: dict[str, Session] = {}
        self._events: list[Event] = []

    # --- commands --------------------------------------------------------------------------------------------------

    def receive(self, command: Command) -> None:
        """Carry out a command. What it cannot do becomes a `SessionFailed` of that session alone."""
        session_id = command.session_id
        try:
            if isinstance(command, OpenSession):
                self._sessions[session_id] = Session(self._conversation(session_id))
            elif session_id in self._sessions:
                self._carry_out(command, self._sessions[session_id])
        except EngineFull as error:
            self._events.append(SessionFailed(session_id, str(error), error.code, fatal=True))
        except AntiphonError as error:
            self._events.append(SessionFailed(session_id, str(error), error.code))

    def _conversation(self, session_id: str) -> Conversation:
        return Conversation(session_id, self.tokens, self.model.layout, self.model.text)

    def _carry_out(self, command: Command, session: Session) -> None:
        conversation = session.conversation
        match command:
            case Hear(pcm=pcm) if session.commit_as is not None:
                session.next_pcm += pcm
            case Hear(pcm=pcm):
                session.pcm += pcm
            case CommitTurn(item_id=item_id):
                # The rest of the last frame, and the silence after which the tokenizer has said all it knows.
                fill = -len(session.pcm) % (2 * HEARD_SAMPLES)
                session.pcm += bytes(fill + 2 * HEARD_SAMPLES * DELAY_TOKENS)
                session.commit_as = item_id
            case DropTurn():
                session.pcm.clear()
                session.next_pcm.clear()
                session.waiting_codes.clear()
                if session.turn is not None:
                    conversation.remove(_OPEN_TURN)
                session.turn = None
            case Respond(context=None):
                session.asked.append((command, self.clock()))
            case Respond():
                self._detach(session, command)
            case Cancel(response_id=response_id):
                for one in (session, self._sessions.get(response_id)):
                    if one is not None:
                        self._cancel(one, response_id)
            case TruncateItem() | DeleteItem() | AddText() | SetInstructions() | SetTruncation():
                session.edits.append(command)
                self._edit(session)
            case CloseSession(session_id=session_id):
                for key, one in list(self._sessions.items()):
                    if one.conversation.session_id == session_id:
                        one.conversation.close()
                        del self._sessions[key]

    def _detach(self, session: Session, request: Respond) -> None:
        """Answer beside the conversation: in a session of its own, under the id of the response."""
        try:
            beside = Session(self._conversation(request.session_id), detached=True)
        except EngineFull as error:
            done = ResponseDone(request.session_id, request.response_id, "failed", error=str(error))
            self._events.append(done)
            return
        beside.conversation.set_instructions(session.instructions)
        known = {item.item_id: item for item in session.conversation.items}
        for part in request.context or ():
            if not part.item_id:
                beside.conversation.add_text("", part.role, part.text)
            elif part.item_id in known:
                beside.conversation.copy(known[part.item_id])
        beside.asked.append((request, self.clock()))
        self._sessions[request.response_id] = beside

    def _edit(self, session: Session) -> None:
        """Carry out the edits that wait, unless something is being generated: it would lose its place."""
        conversation = session.conversation
        while session.edits and not session.generating:
            match session.edits.pop(0):
                case TruncateItem(item_id=item_id, audio_end_ms=end_ms):
                    conversation.truncate(item_id, end_ms)
                case DeleteItem(item_id=item_id):
                    conversation.remove(item_id)
                case AddText(item_id=item_id, role=role, text=text, after=after):
                    conversation.add_text(item_id, role, text, after)
                case SetTruncation(retained=retained, limit=limit):
                    conversation.set_truncation(retained, limit)
                case SetInstructions(text=text):
                    session.instructions = text
                    conversation.set_instructions(text)

    def _cancel(self, session: Session, response_id: str) -> None:
        session.asked = [(r, t) for r, t in session.asked if r.response_id != response_id]
        if session.detached and not session.asked and session.answer is None:
            self._leave(session, response_id)
        answer = session.answer
        if answer is not None and answer.request.response_id == response_id:
            self._finish(session, "cancelled")

    def reset(self, reason: str) -> list[Event]:
        """Forget every session, whatever state it is in; returns what they must be told."""
        ids = {s.conversation.session_id for s in self._sessions.values()}
        self._sessions, self._events = {}, []
        self.tokens = TorchTokenEngine(self.model.transformer, self.model.layout, self.config)
        return [SessionFailed(session_id, reason, "engine_failed", fatal=True) for session_id in sorted(ids)]

    # --- the step --------------------------------------------------------------------------------------------------

    @property
    def has_work(self) -> bool:
        """Whether `step` would do anything before the next command."""
        return self.tokens.has_work or any(self._can_hear(s) or self._can_begin(s) for s in self._sessions.values())

    def step(self) -> list[Event]:
        """One round for everybody; returns what happened since the last one."""
        self._hear()
        self._begin()
        self._think()
        self._say()
        events, self._events = self._events, []
        return events

    # --- hear ------------------------------------------------------------------------------------------------------

    def _can_hear(self, session: Session) -> bool:
        return len(session.pcm) >= 2 * HEARD_SAMPLES or (session.commit_as is not None and not session.generating)

    def _hear(self) -> None:
        """Tokenise whole frames of everybody's new audio, sessions with equally many together."""
        groups: dict[int, list[Session]] = {}
        for session in self._sessions.values():
            frames = len(session.pcm) // (2 * HEARD_SAMPLES)
            if frames:
                groups.setdefault(frames, []).append(session)
        for frames, sessions in groups.items():
            self._tokenise(frames, sessions)
        for session in self._sessions.values():
            self._edit(session)
            if session.commit_as is not None and not session.generating:
                self._commit(session)

    @torch.inference_mode()
    def _tokenise(self, frames: int, sessions: list[Session]) -> None:
        size = 2 * HEARD_SAMPLES * frames
        for session in sessions:
            if session.turn is None and not session.waiting_codes:
                session.ear = self.model.tokenizer.initial_state(1)
                session.heard_frames = 0
        pcm = (
            torch.stack([torch.frombuffer(session.pcm[:size], dtype=torch.int16) for session in sessions]).float()
            / 32768
        )
        state = [torch.cat(rows) for rows in zip(*(s.ear for s in sessions), strict=True)]
        codes, state = self.model.tokenizer(pcm, state)
        for i, session in enumerate(sessions):
            session.ear = [rows[i : i + 1] for rows in state]
            del session.pcm[:size]
            session.heard_frames += frames
            session.waiting_codes += [self.model.layout.heard_start + c for c in codes[i].tolist()]
            if not session.generating:
                self._prefill(session)

    def _prefill(self, session: Session) -> None:
        """Move waiting codes into the conversation, where the next step reads them."""
        if not session.waiting_codes:
            return
        if session.turn is None:
            session.turn = session.conversation.open_item(_OPEN_TURN, "<user>")
        session.conversation.extend(session.turn, session.waiting_codes)
        session.waiting_codes = []

    def _commit(self, session: Session) -> None:
        self._prefill(session)
        turn, item_id = session.turn, session.commit_as
        session.turn, session.commit_as = None, None
        session.pcm, session.next_pcm = session.next_pcm, session.pcm
        if turn is None or item_id is None:
            return
        turn.item_id = item_id
        conversation = session.conversation
        conversation.extend(turn, [conversation.control("<end>"), conversation.control("<transcript>")])
        session.transcribing, session.transcript, session.transcript_sent = turn, [], ""
        session.stages_s = {"heard": self.clock()}
        # Nobody says more pieces of text than there are frames of sound.
        longest = len(turn.tokens) + 8
        self.tokens.generate(conversation.sequence, TextRule(self.model.layout, longest), Sampling())

    # --- think -----------------------------------------------------------------------------------------------------

    def _can_begin(self, session: Session) -> bool:
        return bool(session.asked) and not session.generating and session.commit_as is None

    def _begin(self) -> None:
        """Start the answers whose turn it is."""
        for session in list(self._sessions.values()):
            if not self._can_begin(session):
                continue
            request, asked_at_s = session.asked.pop(0)
            conversation, sequence = session.conversation, session.conversation.sequence
            if request.instructions is not None:
                conversation.set_instructions(request.instructions)
            cached_text, cached_audio = conversation.count(sequence.tokens[: sequence.cached])
            mode = "<speech>" if request.speak else "<text>"
            opening = ["<assistant>"] if request.calls else ["<assistant>", mode]
            item = conversation.open_item(request.item_id, *opening)
            try:
                conversation.check_length()
            except AntiphonError as error:
                self._fail(session, request, error)
                continue
            text, audio = conversation.count(sequence.tokens)
            answer = Answer(
                request, item, asked_at_s, text, audio, cached_text, cached_audio, opening_tokens=len(opening)
            )
            session.answer = answer
            for stage, at_s in session.stages_s.items():
                answer.timings_ms[stage] = max(0.0, 1000 * (at_s - asked_at_s))
            session.stages_s = {}
            limit = min(request.max_tokens or self.limit, self.limit)
            script = None if request.script is None else self.model.text.encode(request.script)
            rule: Rule = TextRule(self.model.layout, limit)
            if request.speak:
                rule = SpeechRule(self.model.layout, limit, script)
            if request.calls:
                call = self._calls.rule(request.calls.functions, limit)
                rule = ChoiceRule(self.model.layout, mode, rule, call, request.calls.required)
            if request.speak:
                session.voice = Voice(self.model.detokenizer.initial_state(1), speed=request.speed)
            sampling = Sampling(request.temperature, request.temperature, request.seed)
            self.tokens.generate(sequence, rule, sampling)
            begun = Usage(answer.input_text, answer.input_audio, answer.cached_text, answer.cached_audio)
            self._events.append(ResponseBegun(conversation.session_id, request.response_id, begun))

    def _fail(self, session: Session, request: Respond, error: AntiphonError) -> None:
        """An answer that could not begin."""
        session_id, response_id = session.conversation.session_id, request.response_id
        self._events.append(ResponseDone(session_id, response_id, "failed", error=str(error)))
        session.conversation.remove(request.item_id)
        if session.detached:
            self._leave(session, response_id)

    def _leave(self, session: Session, key: str) -> None:
        """The end of a detached answer."""
        session.conversation.close()
        self._sessions.pop(key, None)

    def _think(self) -> None:
        if not self.tokens.has_work:
            return
        owners = {id(s.conversation.sequence): s for s in self._sessions.values()}
        for output in self.tokens.step():
            session = owners[id(output.sequence)]
            if not isinstance(output, Sampled):
                self._events.append(
                    TurnProbability(
                        session.conversation.session_id, output.probability, session.heard_frames * FRAME_MS
                    )
                )
            elif session.transcribing is not None:
                self._transcribed(session, session.transcribing, output)
            elif session.answer is not None:
                self._answered(session, session.answer, output)

    def _transcribed(self, session: Session, item: Item, sampled: Sampled) -> None:
        item.tokens.append(sampled.token)
        session_id = session.conversation.session_id
        if self.model.layout.is_text(sampled.token):
            session.transcript.append(sampled.token)
            delta, session.transcript_sent = self._new_text(session.transcript, session.transcript_sent, sampled.last)
            if delta:
                self._events.append(TranscriptDelta(session_id, item.item_id, delta))
        if sampled.last:
            session.transcribing = None
            session.stages_s["transcribed"] = self.clock()
            if sampled.token != self.model.layout.control("<end>"):
                session.conversation.extend(item, [self.model.layout.control("<end>")])
            text = self.model.text.decode(session.transcript).strip()
            _, audio = session.conversation.count(item.tokens)
            self._events.append(TranscriptDone(session_id, item.item_id, text, audio, len(session.transcript)))
            self._prefill(session)

    def _answered(self, session: Session, answer: Answer, sampled: Sampled) -> None:
        layout = self.model.layout
        answer.item.tokens.append(sampled.token)
        answer.output_tokens += 1
        answer.timings_ms.setdefault("first_token", 1000 * (self.clock() - answer.asked_at_s))
        if sampled.token == layout.control("<call>"):
            answer.call_ids = []
        elif layout.is_text(sampled.token) and answer.call_ids is not None:
            answer.call_ids.append(sampled.token)
            self._calling(session, answer)
        elif layout.is_text(sampled.token):
            answer.text_ids.append(sampled.token)
            delta, answer.text_sent = self._new_text(answer.text_ids, answer.text_sent, sampled.last)
            if delta:
                self._events.append(TextDelta(session.conversation.session_id, answer.request.response_id, delta))
        elif layout.is_spoken(sampled.token) and session.voice is not None:
            answer.timings_ms.setdefault("first_code", 1000 * (self.clock() - answer.asked_at_s))
            session.voice.codes.append(sampled.token - layout.spoken_start)
        if sampled.last:
            if session.voice is not None and session.voice.codes:
                session.voice.flushed = True
                session.voice.codes += session.voice.codes[-1:] * FLUSH_TOKENS
            complete = sampled.token == layout.control("<end>")
            if session.voice is None or not session.voice.codes:
                self._finish(session, "completed" if complete else "incomplete")

    def _calling(self, session: Session, answer: Answer) -> None:
        """Tell what is new of a call's arguments."""
        name, _, arguments = self.model.text.decode(answer.call_ids or []).lstrip().partition(" ")
        delta = arguments[len(answer.text_sent) :]
        if delta and not delta.endswith("\ufffd"):
            answer.text_sent = arguments
            session_id, response_id = session.conversation.session_id, answer.request.response_id
            self._events.append(CallDelta(session_id, response_id, name, delta))

    def _new_text(self, ids: list[int], sent: str, last: bool) -> tuple[str, str]:
        """The text behind `sent`, without a character that is still incomplete."""
        text = self.model.text.decode(ids)
        if not sent:
            text = text.lstrip()
        if text.endswith("\ufffd") and not last:
            return "", sent
        whole = text if sent == "" else self.model.text.decode(ids).lstrip()
        return whole[len(sent) :], whole

    # --- say -------------------------------------------------------------------------------------------------------

    def _say(self) -> None:
        """Turn new codes into sound, answers with equally many together."""
        groups: dict[tuple[int, str], list[Session]] = {}
        for session in self._sessions.values():
            if session.voice is None or session.answer is None:
                continue
            new = len(session.voice.codes) - session.voice.done_codes
            if new and (session.voice.flushed or new >= self._codes_wanted(session.voice)):
                # Voices of another speed are each in another place between two frames: they go alone.
                alone = "" if session.voice.speed == 1.0 else session.answer.request.response_id
                groups.setdefault((new, alone), []).append(session)
        for sessions in groups.values():
            self._detokenise(sessions)

    def _codes_wanted(self, voice: Voice) -> int:
        """How many new codes are worth a call of the detokenizer."""
        if voice.done_codes == 0:
            return _FIRST_CODES
        ahead_s = voice.sent_samples / SPOKEN_HZ - (self.clock() - voice.first_sent_s)
        return _NEXT_CODES if ahead_s > _AHEAD_S else 1

    @torch.inference_mode()
    def _detokenise(self, sessions: list[Session]) -> None:
        voices = [s.voice for s in sessions if s.voice is not None]
        codes = torch.tensor([v.codes[v.done_codes :] for v in voices])
        state = [torch.cat(rows) for rows in zip(*(v.state for v in voices), strict=True)]
        if voices[0].speed == 1.0:
            samples, state = self.model.detokenizer(codes, state)
        else:
            [voice] = voices
            samples, state, voice.stretched = self.model.detokenizer.stretch(codes, state, voice.stretched, voice.speed)
        pcm = (samples.clamp(-1, 1) * 32767).to(torch.int16)
        for i, (session, voice) in enumerate(zip(sessions, voices, strict=True)):
            voice.state = [rows[i : i + 1] for rows in state]
            voice.done_codes = len(voice.codes)
            start = max(0, delay_samples(voice.speed) - voice.produced_samples)
            voice.produced_samples += pcm.shape[1]
            piece = pcm[i, start:]
            if voice.flushed:
                total = round((len(voice.codes) - FLUSH_TOKENS) * SPOKEN_SAMPLES / voice.speed)
                piece = piece[: total - voice.sent_samples]
            voice.sent_samples += len(piece)
            answer = session.answer
            if answer is None:
                continue
            if len(piece):
                voice.first_sent_s = voice.first_sent_s or self.clock()
                answer.timings_ms.setdefault("first_audio", 1000 * (self.clock() - answer.asked_at_s))
                session_id, response_id = session.conversation.session_id, answer.request.response_id
                self._events.append(AudioDelta(session_id, response_id, piece.numpy().tobytes()))
            if voice.flushed:
                complete = answer.item.tokens[-1] == self.model.layout.control("<end>")
                self._finish(session, "completed" if complete else "incomplete")

    def _finish(self, session: Session, status: str, error: str | None = None) -> None:
        answer, conversation = session.answer, session.conversation
        if answer is None:
            return
        self.tokens.stop(conversation.sequence)
        session.answer, session.voice = None, None
        if answer.item.tokens[-1] != conversation.control("<end>"):
            conversation.extend(answer.item, [conversation.control("<end>")])
        if answer.request.instructions is not None:  # they held for this answer only
            conversation.set_instructions(session.instructions)
        answer.timings_ms["done"] = 1000 * (self.clock() - answer.asked_at_s)
        text, audio = conversation.count(answer.item.tokens[answer.opening_tokens :])
        usage = Usage(answer.input_text, answer.input_audio, answer.cached_text, answer.cached_audio, text, audio)
        self._events.append(
            ResponseDone(conversation.session_id, answer.request.response_id, status, usage, answer.timings_ms, error)
        )
        if session.detached:
            self._leave(session, answer.request.response_id)
            return
        if session.commit_as is None:
            self._prefill(session)
