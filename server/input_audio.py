"""The input audio buffer of a session: what is being said now, what was said just before, and where turns begin.

Audio comes in at the engine's rate. Turn detection by voice activity lives here; what a change means for the
conversation is the session's business. No I/O, no torch.
"""

import math

import numpy as np

from server import audio
from server.audio import Samples
from server.engine.messages import HEARD_HZ
from server.noise_reduction import noise_reduction
from server.session_config import AudioInput, SemanticVad, ServerVad
from server.turn_detection import WINDOW_MS, Hysteresis, SpeechPaused, SpeechResumed, SpeechStopped, TurnChange

BYTES_PER_MS = HEARD_HZ * 2 // 1000
# semantic_vad: the end-of-turn probability that ends a turn in a pause, and the pause that ends it anyway.
_EAGERNESS = {"low": (0.99, 8000), "medium": (0.97, 4000), "auto": (0.97, 4000), "high": (0.85, 2000)}
_IMPATIENCE = 0.1  # the longer a pause, the less sure the model need be: by so much for each second
_SEMANTIC_THRESHOLD, _SEMANTIC_PADDING_MS, _SEMANTIC_MIN_PAUSE_MS = 0.5, 300, 160
# A pause of so many windows is worth a guess that the turn is over, unless the model thinks that it is not.
_GUESS_AFTER_MS, _GUESS_PLAUSIBLE = 2 * WINDOW_MS, 0.3
# Where it thought so before it heard the last sound, and changes its mind by so much, there is another guess.
_GUESS_AGAIN = 0.5
# So far below the loudest of the turn it is a pause: the network of turn detection takes 100 ms longer to say so.
_QUIET_SHARE = 0.05


def _kind(settings: AudioInput) -> str | None:
    return settings.noise_reduction.type if settings.noise_reduction else None


class InputAudio:
    """See the module."""

    def __init__(self, settings: AudioInput) -> None:
        self._settings = settings
        self._resample = audio.resampler(audio.RATE_HZ[settings.format.type], HEARD_HZ)
        self._reduce = noise_reduction(_kind(settings))
        self._hysteresis: Hysteresis | None = None
        self._windows = 0
        self._windows_start_ms = 0  # where turn detection was switched on
        self.heard_ms = 0.0
        """Audio since the session began."""
        self.recent = bytearray()
        """What was heard before speech began, as far back as the prefix padding."""
        self.turn = bytearray()
        """Audio of the open turn."""
        self._opinion: tuple[float, int] = (0.0, 0)  # the model's: probability that the turn is over, after so many ms
        self._paused = False
        self._guessed_at_ms: int | None = None  # the pause that a guess was made in
        self._doubted = False  # the model did not believe in that guess: should it do so later, there is another
        self._loudest = 0.0  # RMS
        self._low_since_ms: int | None = None  # since when the level is that of a pause
        self._echo = False  # a turn has ended by meaning or by a commit, which turn detection does not know yet
        self._detect(settings)

    # --- settings --------------------------------------------------------------------------------------------------

    def configure(self, settings: AudioInput) -> None:
        """Settings have changed; what was heard of an open turn stays. Raises `ClientError`, and changes nothing."""
        old = self._settings
        if settings.noise_reduction != old.noise_reduction:
            self._reduce = noise_reduction(_kind(settings))
        self._settings = settings
        if settings.format != old.format:
            self._resample = audio.resampler(audio.RATE_HZ[settings.format.type], HEARD_HZ)
        if settings.turn_detection != old.turn_detection:
            self._detect(settings)

    def _detect(self, settings: AudioInput) -> None:
        detection, before = settings.turn_detection, self._hysteresis
        if isinstance(detection, ServerVad):
            self._hysteresis = Hysteresis(detection.threshold, detection.silence_duration_ms)
        elif isinstance(detection, SemanticVad):
            self._hysteresis = Hysteresis(_SEMANTIC_THRESHOLD, _EAGERNESS[detection.eagerness][1])
        else:
            self._hysteresis = None
        if before is None:
            self._windows, self._windows_start_ms = 0, round(self.heard_ms)
        if before is not None and before.speaking:
            if self._hysteresis is not None:
                self._hysteresis.speaking = True
        elif self._hysteresis is None:
            self.recent.clear()

    @property
    def detects(self) -> bool:
        """Whether turns begin and end by themselves."""
        return self._hysteresis is not None

    @property
    def speaking(self) -> bool:
        """Whether turn detection hears somebody."""
        return self._hysteresis is not None and self._hysteresis.speaking

    @property
    def padding_ms(self) -> int:
        detection = self._settings.turn_detection
        return detection.prefix_padding_ms if isinstance(detection, ServerVad) else _SEMANTIC_PADDING_MS

    # --- what comes in ---------------------------------------------------------------------------------------------

    def decode(self, data: bytes) -> Samples:
        """Bytes of the wire -> 16 kHz samples, through the buffer's own resampler. Raises `ClientError`."""
        return self._reduce(self._resample(audio.decode(data, self._settings.format.type), False), False)

    def hear(self, samples: Samples) -> bytes:
        """More 16 kHz audio; returns it if it belongs to the open turn, else nothing."""
        self.heard_ms += 1000 * len(samples) / HEARD_HZ
        data = samples.tobytes()
        self._measure(samples)
        if self._hysteresis is None or self._hysteresis.speaking:
            self.turn += data
            return data
        self.recent += data
        # Keep the padding, and what turn detection needs to make up its mind.
        keep = BYTES_PER_MS * (self.padding_ms + 4 * WINDOW_MS) + len(data)
        del self.recent[: max(0, len(self.recent) - keep)]
        return b""

    def _measure(self, samples: Samples) -> None:
        values = samples.astype(np.float32)
        level = math.sqrt(float(values @ values) / max(1, len(values)))
        self._loudest = max(self._loudest, level)
        if level > _QUIET_SHARE * self._loudest:
            self._low_since_ms = None
        elif self._low_since_ms is None:
            self._low_since_ms = round(self.heard_ms - 1000 * len(samples) / HEARD_HZ)

    def end_of_input(self) -> Samples:
        """What the filters still hold when a manual turn ends; the next turn begins with none of it."""
        tail = self._reduce(self._resample(np.zeros(0, dtype=np.int16), True), True)
        self._resample = audio.resampler(audio.RATE_HZ[self._settings.format.type], HEARD_HZ)
        return tail

    def opinion(self, probability: float, heard_ms: int) -> TurnChange | None:
        """The model's own: how likely the turn is over, having heard so much of it."""
        self._opinion = (probability, heard_ms)
        now_ms = self._windows_start_ms + self._windows * WINDOW_MS
        if self._is_over_by_meaning(now_ms):
            return self._stopped()
        if self._paused and self._is_about_the_pause and probability < _GUESS_PLAUSIBLE:
            self._paused, self._doubted = False, True
            return SpeechResumed()
        same_pause = self._is_about_the_pause and self._quiet_since_ms == self._guessed_at_ms
        if self._doubted and same_pause and probability >= _GUESS_AGAIN:
            self._paused, self._doubted = True, False
            return SpeechPaused()
        return None

    def window(self, probability: float) -> TurnChange | None:
        """Turn detection's probability of speech in the next 32 ms window."""
        start_ms = self._windows_start_ms + self._windows * WINDOW_MS
        self._windows += 1
        if self._hysteresis is None:
            return None
        self._echo = self._echo and probability >= self._hysteresis.threshold and self._low_since_ms is not None
        change = self._hysteresis.push(0.0 if self._echo else probability, start_ms)
        if change is not None:
            self._paused = False
            return change
        if self._is_over_by_meaning(start_ms + WINDOW_MS):
            return self._stopped()
        return self._guess(self._quiet_since_ms, start_ms + WINDOW_MS)

    def _stopped(self) -> SpeechStopped:
        assert self._hysteresis is not None
        at_ms = self._quiet_since_ms or 0
        self._paused, self._echo = False, self._hysteresis.quiet_since_ms is None
        return self._hysteresis.stop(at_ms)

    @property
    def _quiet_since_ms(self) -> int | None:
        """Since when there is a pause in the open turn, by its level or by turn detection."""
        if self._hysteresis is None or not self._hysteresis.speaking:
            return None
        found = [ms for ms in (self._low_since_ms, self._hysteresis.quiet_since_ms) if ms is not None]
        return min(found, default=None)

    def _guess(self, quiet_since_ms: int | None, now_ms: int) -> TurnChange | None:
        """Whether a pause begins that is worth a guess, or one has ended."""
        if self._paused and quiet_since_ms is None:
            self._paused = False
            return SpeechResumed()
        new = quiet_since_ms is not None and quiet_since_ms != self._guessed_at_ms
        if quiet_since_ms is None or not new or now_ms - quiet_since_ms < _GUESS_AFTER_MS:
            return None
        self._paused, self._guessed_at_ms, self._doubted = True, quiet_since_ms, False
        return SpeechPaused()

    @property
    def _is_about_the_pause(self) -> bool:
        """An opinion from before the pause says nothing about the pause."""
        quiet_since_ms = self._quiet_since_ms
        turn_start_ms = self.heard_ms - len(self.turn) / BYTES_PER_MS
        return quiet_since_ms is not None and turn_start_ms + self._opinion[1] >= quiet_since_ms

    def _is_over_by_meaning(self, now_ms: int) -> bool:
        """Whether the turn ends in a pause because the model thinks that it is over."""
        detection = self._settings.turn_detection
        if not isinstance(detection, SemanticVad):
            return False
        quiet_since_ms = self._quiet_since_ms
        if quiet_since_ms is None or now_ms - quiet_since_ms < _SEMANTIC_MIN_PAUSE_MS:
            return False
        wanted = _EAGERNESS[detection.eagerness][0] - _IMPATIENCE * (now_ms - quiet_since_ms) / 1000
        return self._is_about_the_pause and self._opinion[0] >= wanted

    # --- turns -----------------------------------------------------------------------------------------------------

    def begin_turn(self, at_ms: int) -> int:
        """Speech was found at `at_ms`: the turn begins with the padding before it. Returns where that is."""
        start_ms = max(0, at_ms - self.padding_ms)
        wanted = int((self.heard_ms - start_ms) * BYTES_PER_MS) // 2 * 2
        self.turn = bytearray(self.recent[max(0, len(self.recent) - wanted) :])
        start_ms = max(start_ms, round(self.heard_ms - len(self.turn) / BYTES_PER_MS))  # what is no turn's before it
        self.recent.clear()
        self._loudest, self._low_since_ms = 0.0, None
        self._opinion, self._paused, self._guessed_at_ms = (0.0, 0), False, None
        return start_ms

    def take_recent(self) -> bytes:
        """Make a turn of what was heard although turn detection found no speech in it."""
        self.turn = bytearray(self.recent)
        self.recent.clear()
        return bytes(self.turn)

    def take_turn(self) -> bytes:
        """The turn is over."""
        pcm, self.turn = bytes(self.turn), bytearray()
        return pcm

    def keep_newest(self, ms: int) -> bytes:
        """Forget all of the turn but its newest audio; returns that."""
        del self.turn[: max(0, len(self.turn) - ms * BYTES_PER_MS)]
        return bytes(self.turn)

    def stop(self) -> None:
        """Nobody is speaking any more, whatever turn detection thinks."""
        self._paused = False
        if self._hysteresis is not None and self._hysteresis.speaking:
            self._echo = self._hysteresis.quiet_since_ms is None  # it goes on thinking so for a moment
            self._hysteresis.stop(round(self.heard_ms))

    def clear(self) -> None:
        """Forget what was heard; it still counts as time that has passed."""
        if self._hysteresis is None:
            self.heard_ms += 1000 * len(self.end_of_input()) / HEARD_HZ
        self.turn.clear()
        self.recent.clear()
        self.stop()
