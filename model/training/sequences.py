"""Stage `sequences`: recordings -> codes -> training sequences for the Transformer.

A sequence is a list of token ids with, for each position, what its *next* token is: nothing to learn, text, speech, or
the question whether the turn is over. Dialogues are put together anew every time one is drawn.
"""

import collections
import functools
import hashlib
import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
import torch
import torch.nn.functional as F
import torchaudio.functional as AF
from numpy.typing import NDArray
from rapidfuzz import process
from rapidfuzz.distance import Levenshtein

from model.audio_tokenizer import DELAY_TOKENS, TOKEN_SAMPLES, AudioTokenizer, AudioTokenizerConfig
from model.layout import TokenLayout, interleave
from model.text_tokenizer import TextTokenizer
from model.training import augment, corpus, phones
from model.training.align import sounds_in, sounds_of
from model.training.corpus import HEARD_HZ, PUNCTUATION, Recording
from model.training.dialogues import draw as draw_dialogue
from model.training.dialogues import drill, is_kept_for_measuring, some_skill, varied
from model.training.recordings import FRAME_SAMPLES, Recordings, Row, width_for
from model.training.run import Graphs, on_gpu
from model.training.speaker import LEAD_CUT_SAMPLES, Speaker, latents_of
from model.training.tokenizer import DELAY, FRAMES_PER_TOKEN, Recogniser
from model.training.turns import TRAIN, Dialogue, Turn, sentence

_Job = TypeVar("_Job")
NOTHING, TEXT, SPEECH, GOES_ON, IS_OVER = range(5)
# The turn counts as over from this many tokens after the recording, which ends with 50 ms of silence: by then a fifth
# of a second without a sound has been heard, so what was said has to tell the end from a pause.
_OVER_AFTER_TOKENS = 2


@dataclass
class Sequence:
    """Token ids, and what is to be learnt at each: `targets[i]` is about `tokens[i + 1]`."""

    tokens: list[int] = field(default_factory=list)
    targets: list[int] = field(default_factory=list)
    hints: list[int] = field(default_factory=list)
    """What else is asked for at a token, or -1: at a heard code the piece of text that has just been heard; before a
    spoken code the sound that it makes, as `layout.text` and the number of the sound."""

    def given(self, *tokens: int) -> None:
        """Tokens that somebody else says."""
        self.tokens.extend(tokens)
        self.targets.extend([NOTHING] * len(tokens))
        self.hints.extend([-1] * len(tokens))

    def learnt(self, tokens: list[int], layout: TokenLayout, sounds: Iterable[int] = ()) -> None:
        """Tokens that the model says: the position before each learns it. `sounds`: those of the spoken codes."""
        ended, sound = False, iter(sounds)
        for token in tokens:
            code = layout.is_spoken(token)
            spoken = code or (ended and token == layout.control("<end>"))
            self.targets[-1] = SPEECH if spoken else TEXT
            if code:
                self.hints[-1] = hint_of_sound(layout, next(sound, phones.UNKNOWN_SOUND))
            ended = ended or token == layout.control("<text_end>")
            self.given(token)


def hint_of_sound(layout: TokenLayout, sound: int) -> int:
    """The class of a sound among the hints; -1 for one that is not known."""
    return -1 if sound == phones.UNKNOWN_SOUND else layout.text + sound


Codes = NDArray[np.int64]
# Text, kind, codes, the first code after the speech, the codes between words: the last one before the first word, and
# those at which each has been heard, and the speaker: a voice in one of the copies. Codes are int16; as tensors they
# would cost a file handle each on their way between processes.
HeardRow = tuple[str, str, np.ndarray, int, list[int], str]
# Text, kind, codes, the sound of each code.
SpokenRow = tuple[str, str, np.ndarray, np.ndarray]
_CLEAN_SHARE, _HESITANT_SHARE = 0.35, 0.5
# Splices in which one speaker says every word that there is of him: what is wrong in a stranger's codes is wrong in the
# same way all along, and can be got used to.
_ONE_SPEAKER = 0.7
_SPOKEN_BATCH = 25
_HEARD_SECONDS, _GPU_HEARD_SECONDS = 64.0, 500.0
# Up to this share of the words of a transcript is written down wrongly, as if misheard: the rest of the line and the
# answer are learnt from what was said all the same (Bengio et al. 2015, arXiv 1506.03099).
_MISTAKEN = 0.3
_NEAREST, _ALIKE = 8, 0.5  # words that one may be taken for, and the share of their sounds that may be other ones
_SAID = 0.5  # of the answers of spoken dialogues; the others are written down
_TWISTED = 0.5  # up to this share of the words of a question is said as one that it may be taken for
_TRIES = 200  # questions that are looked through for one that can be put together
_KNOWN = 3  # a word that was recorded less often is taken for no other
_COMPARED = 500  # words whose distances to all others are in memory at once
_LEVELS, _DIGITS = AudioTokenizerConfig().levels[0], len(AudioTokenizerConfig().levels)


class Pause(NamedTuple):
    """Silence in a recording: behind which sample, and how many samples."""

    cut: int = Row.cut
    samples: int = 0


def _longest(word: str) -> int:
    """How many codes a word may take; one that takes longer has a pause in it."""
    return 6 + 3 * len(spelt(word))


def word_borders(recording: Recording) -> list[int]:
    """The sample at which the first word begins, and those at which each ends; empty where nothing is known.

    Words get their share of the sounds that were heard, by how many sounds each has alone: accents differ in some.
    """
    ends = [at for at, _ in recording.sounds[1:]] + [recording.samples]
    heard = [end for end, (_, name) in zip(ends, recording.sounds, strict=False) if not name.startswith("_")]
    counts = [len(sounds_of(word)) for word in recording.text.split()]
    if not heard or not sum(counts):
        return []
    shares = np.cumsum(counts) / sum(counts) * len(heard)
    first = next(start for start, name in recording.sounds if not name.startswith("_"))
    return [first, *(heard[max(0, round(share) - 1)] for share in shares)]


def in_codes(borders: list[int], lead: int, scale: float) -> list[int]:
    """Borders of words in samples -> the last code before the first word, and the code with which each was heard.

    `lead` samples come before the recording, and all of it takes `scale` times as long.
    """
    codes = [int((lead + at) * scale / TOKEN_SAMPLES) + DELAY for at in borders]
    return [at - (i == 0) for i, at in enumerate(codes)]


def _hesitation(borders: list[int], rng: random.Random) -> tuple[Pause, list[int]]:
    """As often as not a pause of 0.3 to 1 s behind one of the words, and where the words end then: the turn is not over
    there."""
    if len(borders) < 3 or rng.random() >= _HESITANT_SHARE:
        return Pause(), borders
    after = rng.randrange(1, len(borders) - 1)
    length = int(rng.uniform(0.3, 1.0) * HEARD_HZ)
    return Pause(borders[after], length), [*borders[: after + 1], *(at + length for at in borders[after + 1 :])]


@torch.inference_mode()
def heard_rows(recordings: Recordings, tokenizer: AudioTokenizer, copy: int, seed: str) -> list[HeardRow]:
    """Every recording of at most 12 s in some condition: a third of the first copy is left as it is, the second of
    three is from quite another throat, the third in noise."""
    rng = random.Random(f"{seed} {copy}")
    torch.manual_seed(rng.getrandbits(32))
    groups: dict[tuple[int, bool], list[tuple[Row, list[int], float, float]]] = collections.defaultdict(list)
    for which in rng.sample(range(len(recordings)), len(recordings)):
        pause, borders = _hesitation(word_borders(recordings.about[which]), rng)
        clean = rng.random() < (_CLEAN_SHARE if copy == 0 else 0.0)
        speed = 1.0 if clean or rng.random() < 0.4 else rng.uniform(0.83, 1.2)
        row = Row(which, speed, int(HEARD_HZ * rng.uniform(0, 0.4)), *pause)
        end = (row.lead + int(recordings.samples[which]) + pause.samples) / speed
        tail = HEARD_HZ * rng.uniform(0.1, 0.8)
        width = width_for(end + tail + (DELAY_TOKENS + 1) * TOKEN_SAMPLES)
        if width is not None:
            groups[width, clean].append((row, borders, end, tail))

    def codes_of(kind: tuple[int, int, bool], numbers: torch.Tensor) -> torch.Tensor:
        rows, width, clean = kind
        wave, _ = recordings.read(numbers.view(rows, -1), width)
        if not clean:
            wave = augment.noise(wave, always=copy % 3 == 2)
        mel = tokenizer.log_mel(wave, tokenizer.log_mel.initial_state(rows))[0]
        if not clean:  # another throat, so that the Transformer knows what codes of strangers are like
            mel = augment.spectrum(mel, far=copy % 3 == 1)
        latents, _ = tokenizer.quantise(mel, tokenizer.encoder.initial_state(rows))
        return tokenizer.fsq.codes(latents).to(torch.int16)

    step, found = Graphs(codes_of), []
    for (width, clean), group in groups.items():
        size = max(1, int((_GPU_HEARD_SECONDS if on_gpu() else _HEARD_SECONDS) * HEARD_HZ / width))
        for first in range(0, len(group), size):
            batch = group[first : first + size]
            numbers = torch.from_numpy(recordings.numbers([row for row, *_ in batch]).ravel())
            codes = step((len(batch), width, clean), numbers).cpu().numpy()
            for of_row, (row, borders, end, tail) in zip(codes, batch, strict=True):
                about = recordings.about[row.which]
                kept = of_row[: int((end + tail) / TOKEN_SAMPLES) + DELAY_TOKENS].copy()
                words, speaker = in_codes(borders, row.lead, 1 / row.speed), f"{about.voice} {copy}"
                found.append((about.text, about.kind, kept, int(end / TOKEN_SAMPLES) + 1, words, speaker))
    return found


def _hear_shard(job: tuple[Path, AudioTokenizer, int]) -> list[HeardRow]:
    index, tokenizer, copy = job
    torch.set_num_threads(1)
    return heard_rows(Recordings.of(corpus.load_shard(index)), tokenizer, copy, index.stem)


def _keep(job: tuple[Path, Callable[[_Job], Iterable[tuple[Any, ...]]], _Job]) -> None:
    """Encode a shard into a file of its own."""
    path, encode, rest = job
    rows = [tuple(torch.from_numpy(v) if isinstance(v, np.ndarray) else v for v in row) for row in encode(rest)]
    partial = path.with_suffix(".partial")
    torch.save(rows, partial)
    partial.rename(path)


def _encoded(
    folder: Path, encode: Callable[[_Job], Iterable[tuple[Any, ...]]], jobs: dict[str, _Job], title: str, processes: int
) -> list[tuple[Any, ...]]:
    """The rows of all shards, in order, arrays as tensors. Those that lie in `folder` are not made again."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{name}.pt" for name in jobs]
    todo = [(path, encode, job) for path, job in zip(paths, jobs.values(), strict=True)]
    corpus.make_shards(_keep, todo, title, processes)
    return [row for path in paths for row in torch.load(path, weights_only=True)]


def _digest(*networks: torch.nn.Module) -> str:
    """Other for other weights."""
    found = hashlib.sha256()
    for network in networks:
        for name, tensor in network.state_dict().items():
            found.update(name.encode() + tensor.cpu().numpy().tobytes())
    return found.hexdigest()[:12]


def encode_heard(data: Path, recogniser: Recogniser, copies: int, processes: int) -> Path:
    """Heard recordings -> codes in several conditions: `heard_codes.pt`, a list of `HeardRow`. On a GPU in one go."""
    path = data / "heard_codes.pt"
    tokenizer = recogniser.tokenizer.eval().requires_grad_(False)
    shards = sorted((data / "heard").glob("*.jsonl"))
    if on_gpu():
        recordings = Recordings.in_folder(data / "heard")
        made = [row for copy in range(copies) for row in heard_rows(recordings, tokenizer, copy, "all")]
        rows = [(text, kind, torch.from_numpy(codes), *rest) for text, kind, codes, *rest in made]
    else:
        jobs = {f"{index.stem}-{copy}": (index, tokenizer, copy) for copy in range(copies) for index in shards}
        rows = _encoded(data / f"heard-codes-{_digest(tokenizer)}", _hear_shard, jobs, "hearing", processes)
    torch.save(rows, path)
    return path


def _sounds_per_frame(sounds: tuple[tuple[int, int], ...], frames: int) -> np.ndarray:
    """(first sample, sound) in order -> the sound of each 20 ms, int16."""
    if not sounds:
        return np.full(frames, phones.UNKNOWN_SOUND, np.int16)
    starts, names = (np.array(values) for values in zip(*sounds, strict=True))
    which = np.searchsorted(starts, (np.arange(frames) + 0.5) * FRAME_SAMPLES, side="right") - 1
    return np.where(which < 0, phones.sound_id("_"), names[which.clip(0)]).astype(np.int16)


@torch.inference_mode()
def _speak_shard(job: tuple[Path, Recogniser, Recogniser]) -> list[SpokenRow]:
    index, voice, listener = job
    torch.set_num_threads(1)
    recordings, waves = [], []
    for recording, samples in corpus.load_shard(index):
        pcm = torch.from_numpy(samples[LEAD_CUT_SAMPLES:].astype(np.float32)) / 32768
        waves.append(AF.resample(pcm, corpus.SPOKEN_HZ, HEARD_HZ))
        recordings.append(replace(recording, samples=len(waves[-1]), rate_hz=HEARD_HZ, sounds=()))
    rows = []
    order = sorted(range(len(waves)), key=lambda i: len(waves[i]))
    for first in range(0, len(order), _SPOKEN_BATCH):
        batch = order[first : first + _SPOKEN_BATCH]
        heard = [(recordings[i], (waves[i] * 32767).round().to(torch.int16).numpy()) for i in batch]
        for i, sounds in zip(batch, sounds_in(listener, heard), strict=True):
            pcm = F.pad(waves[i], (0, -len(waves[i]) % TOKEN_SAMPLES))[None]
            codes = voice.tokenizer.fsq.codes(latents_of(voice, pcm))[0]
            frames = FRAMES_PER_TOKEN * len(codes)
            per_code = _sounds_per_frame(phones.numbered(sounds), frames)[1::FRAMES_PER_TOKEN]
            rows.append((recordings[i].text, recordings[i].kind, codes.to(torch.int16).numpy(), per_code))
    return rows


def encode_spoken(data: Path, speaker: Speaker, listener: Recogniser, processes: int) -> Path:
    """Recordings of the output voice -> codes: `spoken_codes.pt`, a list of (text, kind, codes, sound of each code).

    `listener` finds out when which sound is made.
    """
    path = data / "spoken_codes.pt"
    voice = speaker.recogniser.eval().requires_grad_(False)
    listener = listener.eval().requires_grad_(False)
    jobs = {index.stem: (index, voice, listener) for index in sorted((data / "spoken").glob("*.jsonl"))}
    folder = data / f"spoken-codes-{_digest(voice, listener)}"
    torch.save(_encoded(folder, _speak_shard, jobs, "speaking", processes), path)
    return path


def misheard(codes: Codes, rng: random.Random) -> Codes:
    """Codes as a stranger's voice would give them: some of them one level off in one digit."""
    share = max(0.0, rng.uniform(-0.1, 0.3))
    if share == 0.0:
        return codes
    draw = np.random.default_rng(rng.getrandbits(32))
    unit = _LEVELS ** draw.integers(0, _DIGITS, len(codes))
    digit = codes // unit % _LEVELS
    step = np.where(digit == 0, 1, np.where(digit == _LEVELS - 1, -1, draw.choice((-1, 1), len(codes))))
    return np.where(draw.random(len(codes)) < share, codes + step * unit, codes)


def sound_alikes(words: list[str]) -> dict[str, list[str]]:
    """For each word the few others that sound most like it, by the edit distance of their sounds."""
    sounds = ["".join(map(chr, sounds_of(word))) for word in words]
    found = {}
    for first in range(0, len(words), _COMPARED):
        distances = process.cdist(sounds[first : first + _COMPARED], sounds, scorer=Levenshtein.normalized_distance)
        for word, row in zip(words[first:], distances, strict=False):
            nearest = np.argsort(row, kind="stable")[: _NEAREST + 1]
            found[word] = [words[i] for i in nearest if row[i] <= _ALIKE and words[i] != word][:_NEAREST]
    return found


def _worded(other: str, word: str) -> str:
    """`other` with the capital and the punctuation of `word`."""
    end = word[len(word.rstrip(PUNCTUATION)) :]
    return (other.capitalize() if word[0].isupper() else other) + end


def spelt(word: str) -> str:
    """A word without its capitals and punctuation."""
    return word.lower().strip(PUNCTUATION)


# Codes of a line, the first one after the speech (without which nothing is learnt about the end of the turn), and those
# at which each word has been heard.
Said = tuple[Codes, int | None, list[int]]


class Sequences:
    """Draws training sequences from encoded recordings.

    Without recordings (`data` None) there are typed ones only; without hearing, spoken answers to typed questions too.
    """

    def __init__(
        self,
        layout: TokenLayout,
        text: TextTokenizer,
        data: Path | None = None,
        dialogues: Iterable[Dialogue] = (),
        hears: bool = True,
    ) -> None:
        self.layout, self.text, self.dialogues = layout, text, list(dialogues)
        self.heard: dict[str, list[Said]] = {}
        self.free: list[str] = []
        self.lists: list[str] = []
        """Lines without any sense."""
        self.spoken: dict[str, tuple[list[int], list[int]]] = {}
        """Codes of an answer, and the sound that each makes."""
        self.aloud: list[str] = []
        self._said: dict[str, list[tuple[Codes, int, int]]] = {}
        """Where each word was said: recorded codes, and its first and last one among them."""
        self._said_by: dict[tuple[str, str], list[tuple[Codes, int, int]]] = {}
        """The same of each speaker and word."""
        self._silences: list[tuple[str, Codes, Codes, int]] = []
        """Who spoke; what comes before and after his words; the first code of that which is about silence only."""
        self._unheard: list[str] = []
        self._pieces: dict[str, list[int]] = {}
        """Words that have been asked for, as text."""
        self._sound_alikes: dict[str, list[str]] = {}
        if data is None:
            return
        heard = torch.load(data / "heard_codes.pt", weights_only=True) if hears else ()
        spoken = torch.load(data / "spoken_codes.pt", weights_only=True)
        self.fill(
            [(line, kind, codes.numpy(), *rest) for line, kind, codes, *rest in heard],
            [(line, kind, codes.numpy(), sounds.numpy()) for line, kind, codes, sounds in spoken],
        )

    def fill(self, heard: Iterable[HeardRow], spoken: Iterable[SpokenRow]) -> None:
        """Take in encoded recordings."""
        for line, kind, narrow, end, borders, speaker in heard:
            if kind != "question" and is_kept_for_measuring(line):  # people say "How are things?", too
                continue
            if line not in self.heard and kind != "question":
                (self.free if kind == "free" else self.lists).append(line)
            codes = narrow.astype(np.int64)
            # Nothing but the silence tells where a list of words ends.
            self.heard.setdefault(line, []).append((codes, None if kind == "words" else end, borders[1:]))
            for word, before, last in zip(line.split(), borders, borders[1:], strict=False):
                if 0 < last - before <= _longest(word):
                    found = codes, before + 1, last
                    self._said.setdefault(spelt(word), []).append(found)
                    self._said_by.setdefault((speaker, spelt(word)), []).append(found)
            if borders and borders[-1] + 1 < len(codes):
                last = borders[-1]
                self._silences.append((speaker, codes[: borders[0] + 1], codes[last + 1 :], end - last - 1))
        if self.heard:
            english = corpus.free_sentences() + corpus.definitions()
            self._unheard = [line for line in english if line not in self.heard and self._can_splice(line)]
        for line, kind, codes, sounds in spoken:
            self.spoken[line] = codes.tolist(), sounds.tolist()
            if kind == "free":
                self.aloud.append(line)

    def find_sound_alikes(self) -> None:
        """From then on words of transcripts are written down as others that were heard, too, at times."""
        self._sound_alikes = sound_alikes([word for word, said in sorted(self._said.items()) if len(said) >= _KNOWN])

    def _c(self, name: str) -> int:
        return self.layout.control(name)

    def _can_splice(self, line: str) -> bool:
        return all(spelt(word) in self._said for word in line.split())

    def _recorded(self, line: str, rng: random.Random) -> Said:
        return rng.choice(self.heard[line])

    def _salad(self, rng: random.Random) -> str:
        """Runs of one to four words from several recorded lines: what no sense of language can guess."""
        words: list[str] = []
        wanted = rng.randint(3, 9)
        while len(words) < wanted:
            line = [word.strip(PUNCTUATION) for word in rng.choice(self._lines).split()]
            if line[0] != "I" and not line[0].startswith("I'"):
                line[0] = line[0].lower()
            first = rng.randrange(len(line))
            words += [word for word in line[first : first + rng.randint(1, 4)] if spelt(word) in self._said]
        return sentence(" ".join(words)) + "."

    def _taken_for(self, word: str, share: float, rng: random.Random) -> str | None:
        """In so many cases another word that sounds like it, if there is one."""
        alike = self._sound_alikes.get(spelt(word)) if rng.random() < share else None
        return _worded(rng.choice(alike), word) if alike else None

    def _twisted(self, rng: random.Random) -> str:
        """A question in which words are others that sound alike: what was said and not what one expects to hear.

        Where hardly a word of questions was recorded, a salad.
        """
        for _ in range(_TRIES):
            dialogue = drill(rng, most=1) if rng.random() < 0.3 else draw_dialogue(rng, TRAIN, some_skill(rng))
            share = rng.uniform(0.0, _TWISTED)
            words = rng.choice(dialogue.turns).question.split()
            for i, word in enumerate(words):
                words[i] = self._taken_for(word, share, rng) or word
            line = " ".join(words)
            if self._can_splice(line) and not is_kept_for_measuring(line):
                return line
        return self._salad(rng)

    @functools.cached_property
    def _lines(self) -> list[str]:
        return list(self.heard)

    def _pause(self, rng: random.Random) -> Codes:
        """Codes of 0.3 to 1 s of silence in somebody's recording."""
        *_, after, silent = rng.choice(self._silences)
        return np.resize(after[min(silent + DELAY, len(after) - 1) :], rng.randint(8, 25))

    def _spliced(self, line: str, rng: random.Random) -> Said:
        """A line as nobody said it, from words that one or several people said elsewhere, at times with a pause in it.

        What was recorded is soon known by heart: then the Transformer recalls questions instead of hearing words. It
        does not teach what the end of a turn is: a code has heard 160 ms more than it is about, so before a pause that
        nobody made it knows that another word comes.
        """
        speaker, before, after, _ = rng.choice(self._silences)
        alone = rng.random() < _ONE_SPEAKER
        words = line.split()
        hesitates = rng.randrange(1, len(words)) if len(words) > 1 and rng.random() < _HESITANT_SHARE else None
        parts, ends, length = [before], [], len(before)
        for i, word in enumerate(words):
            if i == hesitates:
                parts.append(self._pause(rng))
                length += len(parts[-1])
            own = self._said_by.get((speaker, spelt(word))) if alone else None
            where, first, last = rng.choice(own or self._said[spelt(word)])
            parts.append(where[first : last + 1])
            length += last + 1 - first
            ends.append(length - 1)
        return np.concatenate([*parts, after]), None, ends

    def _hear(self, sequence: Sequence, line: str, said: Said, rng: random.Random) -> None:
        codes, end, words = said
        sequence.given(self._c("<user>"))
        first = len(sequence.tokens)
        sequence.given(*(self.layout.heard_start + misheard(codes, rng)).tolist())
        if end is not None:
            over = min(len(codes), end + _OVER_AFTER_TOKENS)
            sequence.targets[first:] = [GOES_ON] * over + [IS_OVER] * (len(codes) - over)
        for word, at in zip(line.split(), words, strict=False):
            for i, piece in enumerate(self._in_pieces(word), first + at):
                if i < len(sequence.tokens):
                    sequence.hints[i] = piece
        sequence.given(self._c("<end>"), self._c("<transcript>"))
        share = max(0.0, rng.uniform(-_MISTAKEN, _MISTAKEN))
        for word in line.split():
            if other := self._taken_for(word, share, rng):
                sequence.given(*self.text.encode(other))
            else:
                sequence.learnt(self._in_pieces(word), self.layout)
        sequence.learnt([self._c("<end>")], self.layout)

    def _in_pieces(self, word: str) -> list[int]:
        if word not in self._pieces:
            self._pieces[word] = self.text.encode(word)
        return self._pieces[word]

    def _write(self, sequence: Sequence, turn: Turn, chosen: bool) -> None:
        """An answer in text; `chosen`: the model decides that it is one, and not a function call."""
        sequence.given(self._c("<assistant>"))
        mode = self._c("<text>")
        if chosen:
            sequence.learnt([mode], self.layout)
        else:
            sequence.given(mode)
        if turn.thought:
            thinking = [self._c("<thought>"), *self.text.encode(turn.thought), self._c("<answer>")]
            sequence.learnt(thinking, self.layout)
        sequence.learnt([*self.text.encode(turn.answer), self._c("<end>")], self.layout)

    def _say(self, sequence: Sequence, line: str) -> bool:
        """A text said word for word, whoever wrote it: only the sound is learnt. False where it has not enough."""
        before = len(sequence.targets)
        codes, sounds = self.spoken[line]
        tokens = interleave(self.layout, self.text.encode(line), codes)
        if tokens is None:
            return False
        sequence.given(self._c("<assistant>"), self._c("<speech>"))
        sequence.learnt(tokens, self.layout, sounds)
        sequence.targets[before:] = [NOTHING if t == TEXT else t for t in sequence.targets[before:]]
        return True

    def _call(self, sequence: Sequence, turn: Turn, learn: bool) -> None:
        call = [self._c("<call>"), *self.text.encode(turn.call), self._c("<end>")]
        sequence.given(self._c("<assistant>"))
        if learn:
            sequence.learnt(call, self.layout)
        else:
            sequence.given(*call)
        sequence.given(self._c("<result>"), *self.text.encode(turn.result), self._c("<end>"))

    def _turn(self, sequence: Sequence, turn: Turn, rng: random.Random, kind: str, tools: bool) -> bool:
        typed = kind in ("typed", "drill", "spoken drill")
        new = typed or kind in ("spliced", "spliced drill")
        question = varied(turn.question, rng) if new or turn.question not in self.heard else turn.question
        if not new and question in self.heard:
            self._hear(sequence, question, self._recorded(question, rng), rng)
        elif not typed and self._can_splice(question):
            self._hear(sequence, question, self._spliced(question, rng), rng)
        else:
            sequence.given(self._c("<user>"), self._c("<text>"), *self.text.encode(question), self._c("<end>"))
        said = kind == "spoken drill" or (kind == "dialogue" and rng.random() < _SAID)
        speak = said and turn.answer in self.spoken
        if turn.call:
            # Whether to call or to answer is learnt where an answer would be written: else calls would be the more.
            self._call(sequence, turn, learn=not speak)
        if speak:
            return self._say(sequence, turn.answer)
        self._write(sequence, turn, chosen=tools)
        return True

    def draw(self, rng: random.Random, mix: dict[str, float]) -> Sequence:
        """One sequence; `mix` weighs the kinds.

        `dialogue`: heard (put together from heard words where nobody recorded it), and answered in text, or with what
        is said; `typed` and `drill` (arithmetic): text only; `spoken drill`: typed, and the answer is said;
        `spliced`, `spliced drill`, `spliced free` and `salad`: those, any English, and no sense at all, put together
        from heard words (half of the last are lists that somebody read); `twisted`: questions in which words were
        replaced by ones that sound alike, heard only; `transcribe` and `aloud`: any English heard, or read aloud.
        """
        while True:
            sequence = Sequence()
            kind = rng.choices(list(mix), list(mix.values()))[0]
            whole = True
            if kind == "transcribe":
                line = rng.choice(self.free)
                self._hear(sequence, line, self._recorded(line, rng), rng)
            elif kind == "spliced free":
                line = rng.choice(self._unheard)
                self._hear(sequence, line, self._spliced(line, rng), rng)
            elif kind == "salad":
                recorded = self.lists and rng.random() < 0.5
                line = rng.choice(self.lists) if recorded else self._salad(rng)
                said = self._recorded(line, rng) if recorded else self._spliced(line, rng)
                self._hear(sequence, line, said, rng)
            elif kind == "twisted":
                line = self._twisted(rng)
                self._hear(sequence, line, self._spliced(line, rng), rng)
            elif kind == "aloud":
                whole = self._say(sequence, rng.choice(self.aloud))
            else:
                match kind:
                    case "typed" | "spliced":
                        dialogue = draw_dialogue(rng, TRAIN, some_skill(rng) if rng.random() < 0.5 else None)
                    case "drill" | "spliced drill":
                        dialogue = drill(rng)
                    case "spoken drill":
                        dialogue = drill(rng, most=2)
                    case _:
                        dialogue = rng.choice(self.dialogues)
                if dialogue.instructions:
                    instructions = self.text.encode(dialogue.instructions)
                    sequence.given(self._c("<system>"), *instructions, self._c("<end>"))
                for turn in dialogue.turns:
                    whole = whole and self._turn(sequence, turn, rng, kind, bool(dialogue.tools))
            if whole:
                return sequence
