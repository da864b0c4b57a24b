"""Speech engine: audio and text in, audio and text out, for all sessions together, one `step` at a time.

    step: choose whom to serve, then for these
          hear (tokenise what has arrived), think (one step of the token engine), say (detokenise what is ready)

It owns the model. It knows nothing about processes, sockets or the wire protocol: commands go in, events come out.
"""

import json
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from model.checkpoint import SpeechModel
from model.layout import most_text
from model.packed import pack
from server.engine.call_rule import CallGrammar
from server.engine.conversation import Answer, Conversation, Draft, Item
from server.engine.ear import Ear, hear
from server.engine.engine_config import EngineConfig
from server.engine.messages import (
    FRAME_MS,
    AddText,
    AudioDelta,
    CallDelta,
    Cancel,
    CloseSession,
    Command,
    CommitTurn,
    ConfirmTurn,
    DeleteItem,
    DropTurn,
    Event,
    Hear,
    OpenSession,
    Respond,
    ResponseBegun,
    ResponseDone,
    ResumeTurn,
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
from server.engine.rules import ChoiceRule, Script, SpeechRule, TextRule, ThinkingRule
from server.engine.scheduler import Job, Scheduler
from server.engine.token_engine import TorchTokenEngine
from server.engine.token_interface import Rule, Sampled, Sampling, TokenEngine, TokenSequence, TurnOpinion
from server.engine.voice import Voice, say
from server.errors import AntiphonError, EngineFull, EngineRestarted, SequenceTooLong

_OPEN_TURN = ""  # id of the user item until it is committed
# Deadlines: how long after it came audio should be read, and an answer be heard after it was asked for.
_HEARD_WITHIN_S, _ANSWERED_WITHIN_S = 0.3, 0.12
_TOGETHER_S = 0.035  # where several people speak, audio waits so long for others': a batch costs little more than a row
_PROVISIONAL_WITHIN_S = 0.35  # an answer that may be for nothing gives way
# The most that one step hears of a session: a whole recording sent at once would keep all others waiting.
_HEARD_FRAMES = 25
# A draft and what it is forked from each read what is unread: so many tokens cost nothing more.
_READ_TWICE = 8
_PIECE_READ_S = 0.05  # how long one piece of an answer in text keeps its reader busy


@dataclass(eq=False, slots=True)
class Pause:
    """Where a turn goes on if its provisional end was none."""

    ear: Ear
    item_id: str
    """What the turn's item is called from its end on."""
    tokens: int
    """Of the open turn's item."""
    answer: Item | None = None
    """Begun since, and unheard."""
    later: bytearray = field(default_factory=bytearray)
    """Audio since."""


@dataclass(eq=False, slots=True)
class Session:
    """One session: its conversation, the turn being heard, and what it is doing now."""

    conversation: Conversation
    ear: Ear
    turn: Item | None = None
    """The turn being heard: the last item of the conversation."""
    waiting_codes: list[int] = field(default_factory=list)
    """Heard codes that wait until enough are worth reading, or until the answer that is being generated is over."""
    reading_since_s: float | None = None
    """Since when there are tokens that the Transformer has not read, while nothing is being generated."""
    commit_as: str | None = None
    commit_guess: int = 0
    pause: Pause | None = None
    """The newest turn was committed provisionally."""
    later: list[Command] = field(default_factory=list)
    """What came behind a turn that is not committed yet, or behind an answer that has not begun yet."""
    committed_s: float | None = None
    """When the turn was committed whose transcript is still to come."""
    transcribing: Item | None = None
    transcribing_guess: int = 0
    transcript: list[int] = field(default_factory=list)
    transcript_sent: str = ""
    asked: list[tuple[Respond, float]] = field(default_factory=list)
    beside: list[Respond] = field(default_factory=list)
    """Answers beside the conversation that wait until its newest turn is written down, and it is edited."""
    answer: Answer | None = None
    voice: Voice | None = None
    edits: list[Command] = field(default_factory=list)
    """Edits of the conversation that wait until nothing is being generated."""
    instructions: str = ""
    stages_s: dict[str, float] = field(default_factory=dict)
    """When the newest turn was all heard, and when it was all written down."""
    detached: bool = False
    """It exists for one answer beside a conversation."""

    @property
    def deadline_s(self) -> float:
        """The moment from which on somebody notices that this session waits."""
        within_s = _ANSWERED_WITHIN_S if self.pause is None else _PROVISIONAL_WITHIN_S
        moments = [at_s + within_s for _, at_s in self.asked[:1]]
        if self.ear.unread_since_s is not None:
            moments.append(self.ear.unread_since_s + _HEARD_WITHIN_S)
        if self.reading_since_s is not None:
            moments.append(self.reading_since_s + _HEARD_WITHIN_S)
        if self.committed_s is not None:
            moments.append(self.committed_s + within_s)
        if self.answer is not None:
            dry_at_s = self.voice.dry_at_s if self.voice is not None else None
            if dry_at_s is None:
                shown = self.answer.output_tokens - self.answer.thought_tokens
                read_s = 0.0 if self.voice is not None else _PIECE_READ_S * shown
                dry_at_s = self.answer.asked_at_s + within_s + read_s
            moments.append(dry_at_s)
        return min(moments, default=math.inf)

    @property
    def sequences(self) -> list[TokenSequence]:
        """The conversation's, and the one that a draft is written in."""
        drafts = [] if self.answer is None or self.answer.draft is None else [self.answer.draft.sequence]
        return [self.conversation.sequence, *drafts]

    @property
    def ends_a_turn(self) -> bool:
        """Whether the turn being heard has been committed, and is not so in the conversation yet."""
        return self.commit_as is not None or any(isinstance(command, CommitTurn) for command in self.later)

    @property
    def generating(self) -> bool:
        return self.answer is not None or self.transcribing is not None


class SpeechEngine:
    """See the module. One thread calls everything."""

    def __init__(
        self,
        model: SpeechModel,
        config: EngineConfig,
        clock: Callable[[], float] = time.perf_counter,
        tokens: TokenEngine | None = None,
    ) -> None:
        """`tokens`: the token engine to use; None: one on torch with the model's own Transformer.

        The model's audio networks are packed: they cannot be trained any more.
        """
        self.model, self.config, self.clock, self.limit = model, config, clock, config.answer_tokens
        pack(model.tokenizer)
        pack(model.detokenizer)
        self.tokens: TokenEngine = tokens or TorchTokenEngine(model.transformer, model.layout, config)
        self._calls = CallGrammar(model.text, model.layout)
        self._scheduler = Scheduler()
        self.capacity = config.slots if config.sessions is None else min(config.sessions, config.slots)
        """The most conversations at once."""
        self._sessions: dict[str, Session] = {}
        self._events: list[Event] = []

    # --- commands --------------------------------------------------------------------------------------------------

    def receive(self, command: Command) -> None:
        """Carry out a command. What it cannot do becomes a `SessionFailed` of that session alone."""
        session_id = command.session_id
        try:
            if isinstance(command, OpenSession):
                if sum(not s.detached for s in self._sessions.values()) >= self.capacity:
                    raise EngineFull(f"expected at most {self.capacity} conversations at once")
                self._sessions[session_id] = self._session(session_id)
            elif session_id in self._sessions:
                self._carry_out(command, self._sessions[session_id])
        except EngineFull as error:
            self._events.append(SessionFailed(session_id, str(error), error.code, fatal=True))
        except AntiphonError as error:
            self._events.append(SessionFailed(session_id, str(error), error.code))

    def _session(self, session_id: str, detached: bool = False) -> Session:
        conversation = Conversation(session_id, self.tokens, self.model.layout, self.model.text)
        return Session(conversation, self._new_ear(), detached=detached)

    def _new_ear(self) -> Ear:
        return Ear(self.model.tokenizer.initial_state(1))

    def _carry_out(self, command: Command, session: Session) -> None:
        match command:
            case Hear(pcm=pcm) if session.pause is not None:
                session.pause.later += pcm
            case ConfirmTurn() | ResumeTurn() if session.pause is None and session.later:
                session.later.append(command)  # about a provisional end that waits there
            case ConfirmTurn():
                session.pause = None
            case ResumeTurn() if session.pause is not None:
                self._resume(session, session.pause)
            case Hear() | DropTurn() if session.ends_a_turn:
                session.later.append(command)
            case CommitTurn() | TruncateItem() | DeleteItem() | AddText() | SetInstructions() | SetTruncation() if (
                session.commit_as is not None or session.asked or session.later
            ):
                session.later.append(command)
            case Respond(context=None) if session.later:
                session.later.append(command)
            case Hear(pcm=pcm):
                session.ear.add(pcm, self.clock())
            case CommitTurn(item_id=item_id, guess=guess):
                if guess:
                    self._hear(
                        [session], session.ear.waiting_frames
                    )  # so that the pause begins with the turn as it is now
                    tokens = len(session.turn.tokens) if session.turn else 1
                    session.pause = Pause(session.ear.copy(), item_id, tokens + len(session.waiting_codes))
                session.ear.end(self.clock(), provisional=guess > 0)
                session.commit_as, session.commit_guess, session.committed_s = item_id, guess, self.clock()
            case DropTurn():
                self._drop_turn(session)
            case Respond(context=None):
                session.asked.append((command, self.clock()))
            case Respond():
                session.beside.append(command)
                self._detach_all(session)
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
                        self._end_draft(one)
                        one.conversation.close()
                        del self._sessions[key]

    def _drop_turn(self, session: Session) -> None:
        """Forget the open turn."""
        session.ear = self._new_ear()
        session.waiting_codes.clear()
        if session.turn is not None:
            session.conversation.remove(_OPEN_TURN)
        session.turn = None

    def _detach_all(self, session: Session) -> None:
        """Begin the answers beside the conversation, once it is what it was to be when they were asked for."""
        self._edit(session)
        waits = session.commit_as is not None or session.transcribing is not None
        ready = not (waits or session.edits or session.later)
        while session.beside and ready:
            self._detach(session, session.beside.pop(0))

    def _detach(self, session: Session, request: Respond) -> None:
        """Answer beside the conversation: in a session of its own, under the id of the response."""
        try:
            beside = self._session(request.session_id, detached=True)
        except EngineFull as error:
            done = ResponseDone(request.session_id, request.response_id, "failed", error=str(error), code=error.code)
            self._events.append(done)
            return
        self._sessions[request.response_id] = beside
        beside.conversation.set_instructions(session.instructions)
        known = {item.item_id: item for item in session.conversation.items}
        try:
            for part in request.context or ():
                if not part.item_id:
                    beside.conversation.add_text("", part.role, part.text)
                elif part.item_id in known:
                    beside.conversation.copy(known[part.item_id])
        except SequenceTooLong as error:
            self._fail(beside, request, error)
            return
        beside.asked.append((request, self.clock()))

    def _edit(self, session: Session) -> None:
        """Carry out the edits that wait, unless something is being generated: it would lose its place."""
        while session.edits and not session.generating:
            edit = session.edits.pop(0)
            try:
                self._carry_out_edit(session, edit)
            except SequenceTooLong as error:
                refused = edit.item_id if isinstance(edit, AddText) else ""
                self._events.append(SessionFailed(edit.session_id, str(error), error.code, item_id=refused))

    def _carry_out_edit(self, session: Session, edit: Command) -> None:
        conversation = session.conversation
        match edit:
            case TruncateItem(item_id=item_id, audio_end_ms=end_ms):
                conversation.truncate(item_id, end_ms)
            case DeleteItem(item_id=item_id):
                conversation.remove(item_id)
            case AddText(item_id=item_id, role=role, text=text, after=after):
                conversation.add_text(item_id, role, text, after, before=session.turn)
            case SetTruncation(retained=retained, limit=limit):
                conversation.set_truncation(retained, limit)
            case SetInstructions(text=text):
                conversation.set_instructions(text)
                session.instructions = text

    def _cancel(self, session: Session, response_id: str) -> None:
        session.asked = [(r, t) for r, t in session.asked if r.response_id != response_id]
        session.beside = [r for r in session.beside if r.response_id != response_id]
        session.later = [c for c in session.later if not (isinstance(c, Respond) and c.response_id == response_id)]
        if session.detached and not session.asked and session.answer is None:
            self._leave(session, response_id)
        answer = session.answer
        if answer is not None and answer.request.response_id == response_id:
            self._finish(session, "cancelled")
        elif not session.detached:
            self._prefill(session)
        self._go_on(session)

    def _go_on(self, session: Session) -> None:
        """What has waited: each is carried out, or waits again."""
        later, session.later = session.later, []
        for command in later:
            self.receive(command)
        if not session.detached:
            self._detach_all(session)

    def _resume(self, session: Session, pause: Pause) -> None:
        """The turn goes on: its end, and the answer begun since, never were."""
        conversation = session.conversation
        session.pause, session.asked = None, []
        if session.commit_as is None:  # else what is being generated came before
            self.tokens.stop(conversation.sequence)
            self._end_draft(session)
            session.answer = session.voice = session.transcribing = None
        turn = session.turn or next((item for item in conversation.items if item.item_id == pause.item_id), None)
        # What came meanwhile stays, before the turn, which is not over.
        conversation.items = [item for item in conversation.items if item is not pause.answer and item is not turn]
        session.turn = turn
        session.commit_as = session.committed_s = None
        have = len(turn.tokens) if turn else 1
        del session.waiting_codes[max(0, pause.tokens - have) :]
        if turn is not None:
            turn.item_id = _OPEN_TURN
            del turn.tokens[pause.tokens :]
            conversation.items.append(turn)
        if not session.generating:
            conversation.align()
        session.ear = pause.ear
        session.ear.add(bytes(pause.later), self.clock())
        self._go_on(session)

    def reset(self, reason: str) -> list[Event]:
        """Forget every session, whatever state it is in; returns what they must be told."""
        ids = {s.conversation.session_id for s in self._sessions.values()}
        self._sessions, self._events = {}, []
        self.tokens.clear()
        return [SessionFailed(session_id, reason, "engine_failed", fatal=True) for session_id in sorted(ids)]

    # --- the step --------------------------------------------------------------------------------------------------

    @property
    def has_work(self) -> bool:
        """Whether `step` would do anything before the next command."""
        together = self._several_speak
        return self.tokens.has_work or any(self._needs(session, together) for session in self._sessions.values())

    @property
    def _several_speak(self) -> bool:
        return sum(session.ear.frames > 0 for session in self._sessions.values()) > 1

    def _needs(self, session: Session, together: bool) -> int:
        """How many tokens of a step this session would take; 0: it needs nothing."""
        pending = min(session.conversation.sequence.pending, self.config.prefill_tokens)
        waits = self._can_commit(session) or self._can_begin(session) or self._can_draft(session)
        frames = min(self._frames_due(session, together), _HEARD_FRAMES)
        return max(pending, frames, int(waits))

    def _frames_due(self, session: Session, together: bool) -> int:
        """How many frames this session should hear now; `together`: others speak too."""
        since_s = session.ear.unread_since_s
        if together and session.commit_as is None and since_s is not None and self.clock() < since_s + _TOGETHER_S:
            return 0
        return session.ear.waiting_frames

    def step(self) -> list[Event]:
        """One round for whoever is most urgent; returns what happened since the last one."""
        together, now_s = self._several_speak, self.clock()
        for session in self._sessions.values():
            if session.generating or not session.conversation.sequence.pending:
                session.reading_since_s = None
            elif session.reading_since_s is None:
                session.reading_since_s = now_s
        needs = [(session, self._needs(session, together)) for session in self._sessions.values()]
        jobs = [Job(session, session.deadline_s, tokens) for session, tokens in needs if tokens]
        served = self._scheduler.choose(jobs, now_s)
        if any(self._frames_due(session, together) for session in served):
            self._hear(list(self._sessions.values()))
        for session in served:
            self._edit(session)
            if self._can_commit(session):
                self._commit(session)
            if self._can_begin(session):
                self._begin(session)
                self._go_on(session)
            if self._can_draft(session):
                self._draft(session)
        self._think(served)
        self._say(served)
        events, self._events = self._events, []
        return events

    # --- hear ------------------------------------------------------------------------------------------------------

    def _can_commit(self, session: Session) -> bool:
        """Whether all of a committed turn is heard; of a provisional one, what the model thinks of it too."""
        if session.commit_as is None or session.generating or session.ear.waiting_frames:
            return False
        return session.pause is None or not (session.waiting_codes or session.conversation.sequence.pending)

    def _hear(self, served: Sequence[Session], most: int = _HEARD_FRAMES) -> None:
        """Tokenise whole frames of new audio, at most so many of each session."""
        listening = {id(s.ear): s for s in served}
        while most > 0 and any(s.ear.waiting_frames for s in served):
            heard = hear(self.model.tokenizer, [s.ear for s in served], most)
            most -= len(heard[0][1])
            for ear, codes in heard:
                listening[id(ear)].waiting_codes += [self.model.layout.heard_start + code for code in codes]
        for session in served:
            self._prefill(session)

    def _prefill(self, session: Session) -> None:
        """Move waiting codes into the conversation, where the next step reads them."""
        if not session.waiting_codes or session.generating:
            return
        self._edit(session)
        if session.commit_as is None and len(session.waiting_codes) < self.tokens.worth_reading:
            return
        if session.asked and session.turn is None and session.commit_as is None:
            return  # a new turn: the answer to the one before has its place first
        try:
            if session.turn is None:
                session.turn = session.conversation.open_turn(_OPEN_TURN)
            session.conversation.hear(session.turn, session.waiting_codes)
        except SequenceTooLong as error:
            self._drop_turn(session)
            message = f"the turn was too long and is forgotten: {error}"
            lost = session.commit_as or ""
            self._events.append(SessionFailed(session.conversation.session_id, message, error.code, item_id=lost))
        session.waiting_codes = []

    def _commit(self, session: Session) -> None:
        self._prefill(session)
        turn, item_id = session.turn, session.commit_as
        session.ear = self._new_ear()
        session.turn, session.commit_as = None, None
        if turn is None or item_id is None:
            session.committed_s = None
        else:
            turn.item_id = item_id
            self._begin_transcript(session, turn)
        self._go_on(session)

    def _begin_transcript(self, session: Session, turn: Item) -> None:
        conversation = session.conversation
        conversation.extend(turn, [conversation.control("<end>"), conversation.control("<transcript>")])
        session.transcribing, session.transcript, session.transcript_sent = turn, [], ""
        session.transcribing_guess = session.commit_guess
        session.stages_s = {"heard": self.clock()}
        # Nobody says more than a piece of text in 80 ms: noise has no words that would end by themselves.
        longest = len(turn.tokens) // 2 + 8
        sampling = Sampling(hypotheses=self.config.hypotheses)
        self.tokens.generate(conversation.sequence, TextRule(self.model.layout, longest), sampling)

    # --- think -----------------------------------------------------------------------------------------------------

    def _can_begin(self, session: Session) -> bool:
        return bool(session.asked) and not session.generating and session.commit_as is None

    def _begin(self, session: Session) -> None:
        """Start the answer that was asked for first. A turn that is being heard goes on behind it."""
        request, asked_at_s = session.asked.pop(0)
        conversation, sequence = session.conversation, session.conversation.sequence
        script = request.script if request.speak else None
        drafts = request.speak and script is None
        mode = "<text>" if script is None else "<speech>"
        opening = ["<assistant>"] if request.calls else ["<assistant>", "<speech>" if request.speak else "<text>"]
        limit = min(request.max_tokens or self.limit, self.limit)
        if session.turn is not None:
            session.waiting_codes[:0] = session.turn.tokens[1:]
            conversation.remove(_OPEN_TURN)
            session.turn = None
        try:
            call = self._calls.rule(request.calls.functions, limit) if request.calls else None
            if request.instructions is not None:
                conversation.set_instructions(request.instructions)
            item = conversation.open_item(request.item_id, *opening, keep=2)
            conversation.check_length()
            if request.instructions is not None:  # they hold for this answer only
                limit = min(limit, conversation.room_beside(session.instructions))
        except AntiphonError as error:
            self._fail(session, request, error)
            return
        text, audio = conversation.count(sequence.tokens)
        cached_text, cached_audio = conversation.count(sequence.tokens[: sequence.cached])
        answer = Answer(request, item, asked_at_s, text, audio, cached_text, cached_audio, limit, len(opening))
        session.answer = answer
        if session.pause is not None:
            session.pause.answer = item
        for stage, at_s in session.stages_s.items():
            answer.timings_ms[stage] = max(0.0, 1000 * (at_s - asked_at_s))
        session.stages_s = {}
        layout = self.model.layout
        rule: Rule | None = None
        if script is not None:
            rule = SpeechRule(layout, limit, Script(self.model.text.encode(script), whole=True))
        elif not drafts:
            rule = ThinkingRule(layout, TextRule(layout, limit), limit)
        if request.calls and call:
            rule = ChoiceRule(layout, mode, rule, call, request.calls.required)
        if request.speak:
            session.voice = Voice(self.model.detokenizer.initial_state(1), request.speed)
        if rule is None:
            answer.to_draft = True
        else:
            self.tokens.generate(sequence, rule, _sampling(request))
        begun = Usage(answer.input_text, answer.input_audio, answer.cached_text, answer.cached_audio)
        self._events.append(ResponseBegun(conversation.session_id, request.response_id, begun))

    def _fail(self, session: Session, request: Respond, error: AntiphonError) -> None:
        """An answer that could not begin."""
        session_id, response_id = session.conversation.session_id, request.response_id
        self._events.append(ResponseDone(session_id, response_id, "failed", error=str(error), code=error.code))
        session.conversation.remove(request.item_id)
        if request.instructions is not None:
            session.conversation.set_instructions(session.instructions)
        if session.detached:
            self._leave(session, response_id)

    def _leave(self, session: Session, key: str) -> None:
        """The end of a detached answer."""
        session.conversation.close()
        self._sessions.pop(key, None)

    # A spoken answer is written down first, for between its sounds the model goes wrong more often. It is said as fast
    # as it is written: what writes is a fork of the conversation, in which nothing but the speech stays.

    def _can_draft(self, session: Session) -> bool:
        due = session.answer is not None and session.answer.to_draft
        return due and session.conversation.sequence.pending <= _READ_TWICE

    def _draft(self, session: Session) -> None:
        """Begin to write an answer, and to say what is written: where the one opens with `<speech>`, `<text>` opens
        the other."""
        answer, sequence, layout = session.answer, session.conversation.sequence, self.model.layout
        assert answer is not None
        opening, sampling = len(sequence.tokens) - 1, _sampling(answer.request)
        fork = self.tokens.fork(sequence, opening)
        self.tokens.append(fork, [layout.control("<text>")])
        text = TextRule(layout, most_text(answer.limit))
        self.tokens.generate(fork, ThinkingRule(layout, text), sampling)
        answer.to_draft, answer.draft = False, Draft(fork, Script())
        self.tokens.rewind(sequence, opening)  # its last token gives the first that is said: it is read anew
        self.tokens.append(sequence, [layout.control("<speech>")])
        self.tokens.generate(sequence, SpeechRule(layout, answer.limit, answer.draft.script), sampling)

    def _end_draft(self, session: Session) -> None:
        """Nothing more is written of an answer."""
        if session.answer is not None and session.answer.draft is not None:
            self.tokens.close(session.answer.draft.sequence)
            session.answer.draft.script.whole = True
            session.answer.draft = None

    def _think(self, served: Sequence[Session]) -> None:
        for session in served:
            for sequence in session.sequences:
                sequence.deadline_s = session.deadline_s
        owners = {id(sequence): s for s in self._sessions.values() for sequence in s.sequences}
        try:
            outputs = self.tokens.step([sequence for session in served for sequence in session.sequences])
        except EngineRestarted as error:
            self._interrupted(error)
            return
        for output in outputs:
            session = owners[id(output.sequence)]
            if output.sequence is not session.conversation.sequence:
                self._written(session, output)
            elif not isinstance(output, Sampled):
                unread = len(session.waiting_codes) + len(output.sequence.tokens) - output.position
                heard_ms = (session.ear.frames - unread) * FRAME_MS
                opinion = TurnProbability(session.conversation.session_id, output.probability, heard_ms)
                self._events.append(opinion)
            elif session.transcribing is not None:
                self._transcribed(session, session.transcribing, output)
            elif session.answer is not None:
                self._answered(session, session.answer, output)

    def _interrupted(self, error: EngineRestarted) -> None:
        """Everybody is told that the token engine died; answers under way have failed, everything else goes on."""
        for session in list(self._sessions.values()):
            if not session.detached:
                self._events.append(SessionFailed(session.conversation.session_id, str(error), error.code))
            self._finish(session, "failed", str(error))

    def _transcribed(self, session: Session, item: Item, sampled: Sampled) -> None:
        item.tokens.append(sampled.token)
        session_id = session.conversation.session_id
        if self.model.layout.is_text(sampled.token):
            session.transcript.append(sampled.token)
            delta, session.transcript_sent = self._new_text(session.transcript, session.transcript_sent, sampled.last)
            if delta:
                self._events.append(TranscriptDelta(session_id, item.item_id, delta, session.transcribing_guess))
        if sampled.last:
            session.transcribing = session.committed_s = None
            session.stages_s["transcribed"] = self.clock()
            session.conversation.end(item)
            text = self.model.text.decode(session.transcript).strip()
            _, audio = session.conversation.count(item.tokens)
            count, guess = len(session.transcript), session.transcribing_guess
            self._events.append(TranscriptDone(session_id, item.item_id, text, audio, count, guess))
            self._detach_all(session)
            self._prefill(session)

    def _answered(self, session: Session, answer: Answer, sampled: Sampled) -> None:
        layout = self.model.layout
        answer.item.tokens.append(sampled.token)
        answer.output_tokens += 1
        self._reached(answer, "first_token")
        if sampled.token == layout.control("<call>"):
            answer.call_ids = []
        elif layout.is_text(sampled.token) and answer.call_ids is not None:
            answer.call_ids.append(sampled.token)
            self._calling(session, answer)
        elif self._thinks(answer, sampled.token):
            pass
        elif layout.is_text(sampled.token):
            answer.text_ids.append(sampled.token)
            delta, answer.text_sent = self._new_text(answer.text_ids, answer.text_sent, sampled.last)
            if delta:
                self._events.append(TextDelta(session.conversation.session_id, answer.request.response_id, delta))
        elif layout.is_spoken(sampled.token) and session.voice is not None:
            self._reached(answer, "first_code")
            session.voice.codes.append(sampled.token - layout.spoken_start)
        if sampled.last and session.voice is not None and sampled.token == layout.control("<text>"):
            answer.to_draft, answer.drafted_tokens = True, 1  # it has chosen to answer
            session.conversation.reopen(answer.item, "<assistant>", "<speech>", keep=2)
            answer.opening_tokens = len(answer.item.tokens)
        elif sampled.last:
            if session.voice is not None and session.voice.codes:
                session.voice.end()
            status = self._status(answer)
            if status == "completed" and answer.call_ids is not None and not self._parses(answer.call_ids):
                self._finish(session, "failed", "expected a schema that some arguments fit, found none that do")
            elif session.voice is None or not session.voice.codes:
                self._finish(session, status)

    def _status(self, answer: Answer) -> str:
        """Of an answer of which all has been generated."""
        ended = answer.item.tokens[-1] == self.model.layout.control("<end>") and not answer.cut_short
        return "completed" if ended else "incomplete"

    def _reached(self, answer: Answer, stage: str) -> None:
        """When an answer reached a stage for the first time."""
        answer.timings_ms.setdefault(stage, 1000 * (self.clock() - answer.asked_at_s))

    def _written(self, session: Session, sampled: Sampled | TurnOpinion) -> None:
        """One more token of a draft."""
        answer = session.answer
        if answer is None or answer.draft is None or not isinstance(sampled, Sampled):
            return
        answer.drafted_tokens += 1
        self._reached(answer, "first_token")
        if not self._thinks(answer, sampled.token) and self.model.layout.is_text(sampled.token):
            answer.draft.script.pieces.append(sampled.token)
        if sampled.last:
            self._reached(answer, "drafted")
            answer.cut_short = sampled.token != self.model.layout.control("<end>")
            self._end_draft(session)

    def _thinks(self, answer: Answer, token: int) -> bool:
        """Whether the newest token belongs to a thought."""
        if token == self.model.layout.control("<thought>"):
            answer.thinking = True
        belongs = answer.thinking
        answer.thought_tokens += belongs
        if token == self.model.layout.control("<answer>"):
            answer.thinking = False
            self._reached(answer, "thought")
        return belongs

    def _parses(self, call_ids: list[int]) -> bool:
        """Whether a call's arguments are JSON: a schema that asks for itself without end stops its rule midway."""
        try:
            json.loads(self.model.text.decode(call_ids).lstrip().partition(" ")[2])
        except ValueError:
            return False
        return True

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

    def _say(self, served: Sequence[Session]) -> None:
        """Turn new codes into sound."""
        now_s = self.clock()
        speaking = {id(s.voice): (s, s.answer) for s in served if s.voice is not None and s.answer is not None}
        for voice, pcm in say(self.model.detokenizer, [s.voice for s, _ in speaking.values() if s.voice], now_s):
            session, answer = speaking[id(voice)]
            if pcm:
                self._reached(answer, "first_audio")
                session_id, response_id = session.conversation.session_id, answer.request.response_id
                self._events.append(AudioDelta(session_id, response_id, pcm))
            if voice.over:
                self._finish(session, self._status(answer))

    def _finish(self, session: Session, status: str, error: str | None = None) -> None:
        answer, conversation = session.answer, session.conversation
        if answer is None:
            return
        self.tokens.stop(conversation.sequence)
        self._end_draft(session)
        session.answer, session.voice = None, None
        text, audio = conversation.count(answer.item.tokens[answer.opening_tokens :])
        conversation.end(answer.item)
        if answer.request.instructions is not None:
            conversation.set_instructions(session.instructions)
        self._reached(answer, "done")
        told = answer.input_text, answer.input_audio, answer.cached_text, answer.cached_audio
        untold = answer.drafted_tokens or answer.thought_tokens
        usage = Usage(*told, text + answer.drafted_tokens, audio, untold)
        self._events.append(
            ResponseDone(conversation.session_id, answer.request.response_id, status, usage, answer.timings_ms, error)
        )
        if session.detached:
            self._leave(session, answer.request.response_id)
            return
        self._detach_all(session)
        if session.commit_as is None:
            self._prefill(session)


def _sampling(request: Respond) -> Sampling:
    return Sampling(request.temperature, request.temperature, request.seed)
