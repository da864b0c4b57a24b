"""`make train`: from nothing to a checkpoint, in less than a day of two cores. Each stage can be run alone and resumes
where it was killed.

corpus       texts -> speech in many voices
tokenizer    the audio tokenizer, inside a recogniser; on the way it finds out itself when which sound is made
speaker      the detokenizer and its encoder; then the spoken recordings -> codes
text         the Transformer without heard audio
sequences    the heard recordings -> codes
transformer  the Transformer on everything at once
questions    and then on questions above all, on two ways from there
export       the mean of these and of where they began, in a model directory
evaluation   held-out questions, and Whisper listening to the answers
"""

import argparse
import copy
import dataclasses
import os
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from model import EMBEDDED
from model.audio_detokenizer import AudioDetokenizerConfig
from model.checkpoint import CheckpointError, SpeechModel, load, load_weights, rounded, save, save_weights
from model.evaluation.command import main as evaluate
from model.layout import TokenLayout
from model.text_tokenizer import TextTokenizer
from model.training import corpus, people, sequences, speaker, tokenizer, transformer, voices
from model.training.align import align
from model.training.run import apart, draw_curves, in_parallel, mean_of
from model.training.sequences import Sequences
from model.training.speaker import Speaker
from model.training.tokenizer import EARS, RECOGNISER, Recogniser, load_recogniser
from model.training.transformer import Learner
from model.training.turns import Dialogue
from model.transformer import TransformerConfig

STAGES = ("corpus", "tokenizer", "speaker", "text", "sequences", "transformer", "questions", "export", "evaluation")
# Beside a model, for training that begins with it: the encoder of its spoken codes.
VOICE_ENCODER = "voice_encoder.safetensors"


@dataclass(frozen=True)
class Recipe:
    """How much of everything."""

    dialogues: int = 24_000
    heard_free: int = 28_000
    spoken_free: int = 26_000
    spoken_definitions: int = 12_000
    tokenizer_steps: int = 12_000
    speaker_steps: int = 2000  # 0: the voice of the model to begin with, whose spoken codes keep their meaning
    heard_copies: int = 4
    text_steps: int = 2500  # 0: the Transformer of the model to begin with, its heard codes found again by their sounds
    transformer_steps: int = 15_000
    learning_rate: float = 2e-3
    questions_steps: int = 2100  # 0: none
    questions_learning_rate: float = 8e-4


TEXT_MIX = {"typed": 0.45, "drill": 0.35, "dialogue": 0.12, "aloud": 0.08}
# Hearing is what is left to learn by then, and saying: any English at all, for questions and answers alone are soon
# known by heart (4 % of the words of trained questions were misheard, and 37 % of new ones in the same voices).
MIX = {
    "dialogue": 0.24,
    "typed": 0.06,
    "drill": 0.07,
    "spoken drill": 0.03,
    "spliced": 0.14,
    "spliced drill": 0.08,
    "spliced free": 0.08,
    "salad": 0.04,
    "transcribe": 0.12,
    "aloud": 0.14,
}
# It then hears any English where it was asked a question ("walk" for "what"), and is taught what people ask for.
QUESTIONS_MIX = {
    "dialogue": 0.17,
    "typed": 0.05,
    "drill": 0.15,
    "spoken drill": 0.06,
    "spliced": 0.17,
    "spliced drill": 0.09,
    "spliced free": 0.06,
    "salad": 0.05,
    "twisted": 0.05,
    "transcribe": 0.06,
    "aloud": 0.19,
}
QUESTIONS_WAYS = 2  # runs of it, each in a process of its own, whose weights are averaged with those they began with


class Pipeline:
    """The stages of one recipe in one folder, each in `processes` processes of one thread."""

    def __init__(self, folder: Path, recipe: Recipe, start: Path | None, processes: int, device: str = "cpu") -> None:
        self.data, self.runs, self.recipe, self.processes = folder / "data", folder / "runs", recipe, processes
        self.device = device
        self.start_folder, self.start = start, load(start) if start else None
        # Said before the first hours of work, not after them.
        if device == "cuda" and not torch.cuda.is_available():
            raise SystemExit("--device cuda: expected a GPU that torch can use, found none")
        if recipe.speaker_steps == 0:
            self._kept("speaker", VOICE_ENCODER)
        if recipe.text_steps == 0:
            self._kept("text", RECOGNISER)
        self.layout = TokenLayout()

    def corpus(self) -> None:
        voices.fetch_kokoro_styles()
        people.fetch()
        heard = corpus.heard_lines(self._dialogues(), self.recipe.heard_free)
        spoken = corpus.spoken_lines(self._dialogues(), self.recipe.spoken_free, self.recipe.spoken_definitions)
        corpus.make(self.data / "heard", heard, self.processes)
        people.make(self.data / "heard", self.processes)
        corpus.make(self.data / "spoken", spoken, self.processes)

    def tokenizer(self) -> None:
        corpus.joined(self.data / "heard")  # once, not in every process
        net, first = Recogniser(EARS), 0
        if self.start:
            net.tokenizer.grow_from(self.start.tokenizer.state_dict())
        if self.start_folder and (self.start_folder / RECOGNISER).exists():
            net.load_state_dict(load_weights(self.start_folder / RECOGNISER), strict=False)
        else:
            first = self.recipe.tokenizer_steps // 4
            self._train(tokenizer.train, self.data, self.runs / "tokenizer-first", net, first)
            net.load_state_dict(_weights(self.runs / "tokenizer-first"))
        aligned = self.data / "aligned"
        if not aligned.exists():
            align(self.data / "heard", net, self.processes)
            aligned.touch()
        net.train().requires_grad_(True)
        steps = self.recipe.tokenizer_steps - first
        self._train(tokenizer.train, self.data, self.runs / "tokenizer", net, steps, 1)
        draw_curves(self.runs / "tokenizer", "audio tokenizer")

    def speaker(self) -> None:
        if self.recipe.speaker_steps:
            net = Speaker(self._recogniser(), AudioDetokenizerConfig())
            if self.start:
                self._take_voice(net)
            speaker.pitch_of(self.data)  # once, not in every process
            steps = self.recipe.speaker_steps
            in_parallel(self.processes, speaker.train, self.data, self.runs / "speaker", net, steps)
            draw_curves(self.runs / "speaker", "spoken codes and detokenizer")
        sequences.encode_spoken(self.data, self._speaker(), self._recogniser(), self.processes)

    def sequences(self) -> None:
        recogniser = self._recogniser().to(self.device)
        with torch.device(self.device):
            sequences.encode_heard(self.data, recogniser, self.recipe.heard_copies, self.processes)

    def text(self) -> None:
        """The Transformer without heard audio: what is right to answer, and how to say it, are learnt cheaper so."""
        if not self.recipe.text_steps:
            return
        learner = Learner(self._config(), self.layout)
        if self.start:
            learner.read(self.start.transformer, spoken=self.recipe.speaker_steps == 0)
        dialogues = self._dialogues()
        drawn = Sequences(self.layout, self._text(), self.data, dialogues, hears=False)
        recipe = self.recipe
        self._train(
            transformer.train, self.runs / "text", learner, drawn, TEXT_MIX, recipe.text_steps, recipe.learning_rate
        )
        draw_curves(self.runs / "text", "Transformer, typed dialogues")

    def transformer(self) -> None:
        drawn, learner = self._drawn(), self._learner()
        if self.recipe.text_steps:
            typed = Learner(self._config(), self.layout)
            typed.load_state_dict(_weights(self.runs / "text"))
            learner.begin_with(typed)
        else:
            start, heads = self._kept("text", RECOGNISER)
            heard_prior = load_recogniser(heads.parent).meanings()
            learner.read(start.transformer, self.recipe.speaker_steps == 0, heard_prior)
        recipe, folder = self.recipe, self.runs / "transformer"
        self._train(transformer.train, folder, learner, drawn, MIX, recipe.transformer_steps, recipe.learning_rate)
        draw_curves(self.runs / "transformer", "Transformer")

    def questions(self) -> None:
        if not self.recipe.questions_steps:
            return
        learner, drawn = self._learner(), self._drawn()
        learner.load_state_dict(_weights(self.runs / "transformer"))
        steps, rate = self.recipe.questions_steps, self.recipe.questions_learning_rate
        runs = self._questions_runs()
        # Each learns by itself, and what they have in common is exported: see `mean_of`.
        if self.device == "cpu":
            each = [(run, learner, drawn, QUESTIONS_MIX, steps, rate, seed) for seed, run in enumerate(runs, 1)]
            apart(transformer.train, each)
        else:
            for seed, run in enumerate(runs, 1):
                self._train(transformer.train, run, copy.deepcopy(learner), drawn, QUESTIONS_MIX, steps, rate, seed)
        for run in runs:
            draw_curves(run, "Transformer, questions above all")

    def _questions_runs(self) -> list[Path]:
        """The runs on questions: they begin with the same step of the run before, and go different ways from there."""
        begun_with = _checkpoint(self.runs / "transformer")["step"]
        return [self.runs / f"questions-{way}-from-{begun_with}" for way in range(1, QUESTIONS_WAYS + 1)]

    def export(self, target: Path) -> None:
        """Write the model directory from the newest checkpoints."""
        learner = self._learner()
        learner.load_state_dict(self._newest_weights())
        voice = self._speaker()
        model = SpeechModel(
            target.name, self.layout, self._text(), learner.export(), self._recogniser().tokenizer, voice.detokenizer
        )
        save(target, model)
        # One that was kept may be smaller than the ears of today.
        learnt = self.recipe.speaker_steps > 0
        encoder = (
            voice.recogniser.tokenizer.state_dict() if learnt else load_weights(self._kept("speaker", VOICE_ENCODER)[1])
        )
        save_weights(target / VOICE_ENCODER, encoder, bits=8)
        heads = self._recogniser().state_dict().items()
        save_weights(target / RECOGNISER, {k: v for k, v in heads if not k.startswith("tokenizer.")}, bits=8)

    def _newest_weights(self) -> dict[str, torch.Tensor]:
        """What the Transformer had learnt before the questions and, if it was asked any, on every way from there."""
        runs = [self.runs / "transformer", *(self._questions_runs() if self.recipe.questions_steps else ())]
        return mean_of([_weights(run) for run in runs])

    def _train(self, train: Callable[..., Any], *arguments: Any) -> None:
        """On the GPU, if one is to be used: in one process then, whose batches are larger. Not for the voice."""
        if self.device == "cpu":
            in_parallel(self.processes, train, *arguments)
            return
        networks = [a for a in arguments if isinstance(a, torch.nn.Module)]
        for network in networks:
            network.to(self.device)
        with torch.device(self.device):
            train(*arguments)
        for network in networks:
            network.cpu()  # the stages between are for processes on the CPU

    def _text(self) -> TextTokenizer:
        """The text tokenizer: that of the model to begin with, or one made from the texts of the training."""
        if self.start:
            return self.start.text
        if not self._text_path.exists():
            self._text_path.parent.mkdir(parents=True, exist_ok=True)
            dialogues = self._dialogues()
            texts = [text for d in dialogues for t in d.turns for text in (t.question, t.answer)]
            TextTokenizer.train(texts + corpus.free_sentences()[:20_000], self.layout.text).save(self._text_path)
        return TextTokenizer.load(self._text_path)

    def _dialogues(self) -> list[Dialogue]:
        return corpus.kept_dialogues(self.data, self.recipe.dialogues)

    def _drawn(self) -> Sequences:
        drawn = Sequences(self.layout, self._text(), self.data, self._dialogues())
        drawn.find_sound_alikes()  # once, not in every process
        return drawn

    def _learner(self) -> Learner:
        return Learner(self._config(), self.layout, self._recogniser().meanings())

    @property
    def _text_path(self) -> Path:
        return self.data / "tokenizer.json"

    def _config(self) -> TransformerConfig:
        return TransformerConfig(vocab_size=self.layout.size)

    def _recogniser(self) -> Recogniser:
        net = Recogniser(EARS)
        net.load_state_dict(rounded(_weights(self.runs / "tokenizer")))  # the codes of the ears that are exported
        return net

    def _speaker(self) -> Speaker:
        net = Speaker(Recogniser(EARS), AudioDetokenizerConfig())
        if self.recipe.speaker_steps:
            net.load_state_dict(_weights(self.runs / "speaker"))
        else:
            self._take_voice(net)
        return net

    def _take_voice(self, net: Speaker) -> None:
        start, encoder = self._kept("speaker", VOICE_ENCODER)
        net.detokenizer.load_state_dict(start.detokenizer.state_dict())
        net.recogniser.tokenizer.grow_from(load_weights(encoder))

    def _kept(self, stage: str, name: str) -> tuple[SpeechModel, Path]:
        """The model to begin with, and the file beside it that a stage of 0 steps keeps what was learnt by."""
        path = self.start_folder / name if self.start_folder else None
        if self.start is None or path is None or not path.exists():
            found = f"no {path}" if path else "no --start"
            raise SystemExit(
                f"--{stage}-steps 0 keeps what a model has learnt: expected --start with {name}, found {found}"
            )
        return self.start, path


def _checkpoint(run: Path) -> dict[str, Any]:
    """Raises `SystemExit` where the run was not made."""
    if not (run / "checkpoint.pt").exists():
        raise SystemExit(f"expected {run}: run the stage that makes it first")
    found: dict[str, Any] = torch.load(run / "checkpoint.pt", map_location="cpu", weights_only=True)
    return found


def _weights(run: Path) -> dict[str, torch.Tensor]:
    weights: dict[str, torch.Tensor] = _checkpoint(run)["network"]
    return weights


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="make train", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--stage", choices=STAGES, action="append", help="only these stages (default: all)")
    parser.add_argument(
        "--folder", type=Path, default=Path("runs/nano"), help="recordings and checkpoints (default: %(default)s)"
    )
    parser.add_argument("--target", type=Path, help="model directory to write (default: antiphon-nano in that folder)")
    parser.add_argument("--start", type=Path, help="model directory whose weights to begin with (default: random ones)")
    parser.add_argument(
        "--processes", type=int, default=os.cpu_count() or 1, help="one for each core (default: %(default)s)"
    )
    parser.add_argument(
        "--device",
        default="cpu",
        choices=("cpu", "cuda"),
        help="where the tokenizer and the Transformer are trained and recordings become codes; a step on a GPU learns "
        "from six and eight times as much as one on two cores (default: %(default)s)",
    )
    amounts = parser.add_argument_group("how much of everything")
    for field in dataclasses.fields(Recipe):
        name, default = f"--{field.name.replace('_', '-')}", field.default
        amounts.add_argument(name, type=type(default), default=default, help="(default: %(default)s)")
    options = parser.parse_args()
    target = options.target or options.folder / EMBEDDED.name
    recipe = Recipe(**{field.name: getattr(options, field.name) for field in dataclasses.fields(Recipe)})
    try:
        pipeline = Pipeline(options.folder, recipe, options.start, options.processes, options.device)
    except CheckpointError as error:
        parser.error(f"--start: {error}")
    for stage in options.stage or STAGES:
        started = time.perf_counter()
        try:
            if stage == "export":
                pipeline.export(target)
            elif stage == "evaluation":
                evaluate(["--model-dir", str(target), "--threads", str(options.processes)])
            else:
                getattr(pipeline, stage)()
        except corpus.OtherAmounts as error:
            raise SystemExit(f"--folder: {error}") from None
        except subprocess.CalledProcessError as error:
            told = error.stderr.decode(errors="replace").strip() if error.stderr else error
            raise SystemExit(f"stage {stage}: {' '.join(map(str, error.cmd))}: {told}") from error
        except OSError as error:
            raise SystemExit(f"stage {stage}: {error}: expected what `make apt` installs, and a network") from error
        print(f"stage {stage} took {(time.perf_counter() - started) / 3600:.2f} h", flush=True)


if __name__ == "__main__":
    main()
    os._exit(0)  # RHVoice's worker thread would keep the process alive
