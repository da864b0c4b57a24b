"""Parts of the training that decide what the model learns; the training itself is measured by `antiphon eval`."""

import collections
import copy
import itertools
import multiprocessing.dummy
import pickle
import random
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from model import EMBEDDED
from model.audio_tokenizer import AudioTokenizer, AudioTokenizerConfig
from model.evaluation import turn_taking
from model.layout import TokenLayout
from model.text_tokenizer import TextTokenizer
from model.training import align, corpus, sequences
from model.training.__main__ import MIX, QUESTIONS_MIX
from model.training.corpus import Recording
from model.training.run import Run, apart, in_parallel, mean_of, rank
from model.training.tokenizer import DELAY
from model.training.transformer import FactoredCodes, Learner, misspoken
from model.training.turns import HELDOUT, Dialogue, Turn
from model.transformer import TransformerConfig
from server.engine.rules import TextRule, ThinkingRule

WORDNET = 'gloss | a meaning; "The {0} cat sat down there"\n'
WORDS = {"one": 3, "two": 2, "three": 3}


@pytest.fixture
def recording(monkeypatch: pytest.MonkeyPatch) -> Recording:
    """Three words of eight sounds, 1000 samples each."""
    monkeypatch.setattr(sequences, "sounds_of", lambda word: list(range(WORDS[word])))
    return Recording("one two three", "v", "free", 0, 8000, 16_000, tuple((1000 * i, "a") for i in range(8)))


def test_a_word_ends_with_its_last_sound(recording: Recording) -> None:
    assert sequences.word_borders(recording) == [0, 3000, 5000, 8000]


def test_a_word_lies_between_the_codes_before_and_behind_it(recording: Recording) -> None:
    before, *heard = sequences.in_codes(sequences.word_borders(recording), 2 * 640, 1.0)
    assert before == 1 + DELAY  # two codes of silence: the second is the last one before the word
    assert heard == [2 + at // 640 + DELAY for at in (3000, 5000, 8000)]


@pytest.mark.parametrize("seed", range(6))
def test_a_pause_lies_behind_a_word(recording: Recording, seed: int) -> None:
    longer = turn_taking.hesitant(recording, np.full(8000, 1000, np.int16), random.Random(seed))
    pause = len(longer) - 8000
    assert 0.3 * 16_000 <= pause <= 16_000
    [at] = [end for end in (3000, 5000) if not longer[end : end + pause].any()]
    assert longer[: at - 200].all()
    assert longer[at + pause + 200 :].all()


def test_a_hesitation_moves_the_words_behind_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sequences, "_HESITANT_SHARE", 1.0)
    for seed in range(6):
        pause, borders = sequences._hesitation([0, 3000, 5000, 8000], random.Random(seed))
        assert 0.3 * 16_000 <= pause.samples <= 16_000
        moved = pause.samples
        assert (pause.cut, borders) in (
            (3000, [0, 3000, 5000 + moved, 8000 + moved]),
            (5000, [0, 3000, 5000, 8000 + moved]),
        )
    assert sequences._hesitation([0, 3000], random.Random(0)) == (sequences.Pause(), [0, 3000])


def test_free_sentences_are_for_training_or_for_measuring(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    letters = "abcdefghijklmnopqrst"
    for part in ("noun", "verb", "adj", "adv"):
        (tmp_path / f"data.{part}").write_text("".join(WORDNET.format(letter) for letter in letters))
    monkeypatch.setattr(corpus, "_WORDNET", tmp_path)
    monkeypatch.setattr(corpus, "_HELDOUT_FREE", slice(5, 9))
    train, heldout = corpus.free_sentences(), corpus.free_sentences(HELDOUT)
    assert len(heldout) == 4
    assert sorted(train + heldout) == [f"The {letter} cat sat down there." for letter in letters]
    assert [*train[:5], *heldout, *train[5:]] != sorted(train + heldout)
    assert corpus.free_sentences() == train


def test_definitions_are_of_common_words_and_none_is_measured_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    common = ["a small red cat", "a red small cat (or dog)", "small a red cat; a pet", "red a small cat"]
    glosses = [*common, "a cat of a small red cat", "a cat", "cat a small red"]
    for part in ("noun", "verb", "adj", "adv"):
        (tmp_path / f"data.{part}").write_text("".join(f'gloss | {gloss}; "An example of it"\n' for gloss in glosses))
    monkeypatch.setattr(corpus, "_WORDNET", tmp_path)
    monkeypatch.setattr(corpus, "free_sentences", lambda split: ["Cat a small red."] if split == HELDOUT else [])
    corpus.definitions.cache_clear()
    found = corpus.definitions()
    corpus.definitions.cache_clear()
    # "of" is rare, "a cat" too short, and one is for measuring.
    assert sorted(found) == ["A red small cat.", "A small red cat.", "Red a small cat.", "Small a red cat."]


def test_every_word_is_heard_often_enough(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for size, words in ((10, "what of moment isn't"), (20, "what élan kettle")):
        (tmp_path / f"english-words.{size}").write_text("\n".join(words.split()), encoding="latin-1")
    monkeypatch.setattr(corpus, "_SCOWL", tmp_path)
    questions = ["What is the capital of Peru?", "Is it what?"]
    lists = corpus.word_lists(questions)
    assert all(row[0].isupper() and row.endswith(".") and len(row.split()) <= 6 for row in lists)
    words = " ".join(lists).replace(".", "").split()
    heard = collections.Counter(sequences.spelt(word) for text in [*questions, *lists] for word in text.split())
    asked = {"what", "is", "the", "capital", "of", "peru", "it"}
    assert heard == dict.fromkeys(asked, corpus._ASKED) | {"moment": 8, "élan": 3, "kettle": 3}
    assert "peru" not in words  # names keep their capital, and what begins a sentence does not
    assert "what" in words


@pytest.fixture
def drawn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> sequences.Sequences:
    """One heard recording and one spoken answer."""
    monkeypatch.setattr(sequences.corpus, "free_sentences", lambda: ["Two one."])
    monkeypatch.setattr(sequences.corpus, "definitions", list)
    monkeypatch.setattr(sequences, "misheard", lambda codes, rng: codes)
    # Silence, "one" (codes 10 to 12), "two" (20 and 21), silence that is nothing else from code 8 on.
    codes = torch.tensor([1, 1, 10, 11, 12, 20, 21, 2, 3, 3, 3, 3, 3, 3, 3, 3], dtype=torch.int16)
    torch.save([("One two.", "free", codes, 8, [1, 4, 6], "a 0")], tmp_path / "heard_codes.pt")
    spoken = torch.arange(100, 116, dtype=torch.int16)
    sounds = torch.tensor([sequences.phones.UNKNOWN_SOUND, *range(15)], dtype=torch.int16)
    torch.save([("Two.", "free", spoken, sounds)], tmp_path / "spoken_codes.pt")
    return sequences.Sequences(TokenLayout(), TextTokenizer.load(EMBEDDED / "tokenizer.json"), tmp_path)


def _codes(sequence: sequences.Sequence, layout: TokenLayout) -> list[int]:
    return [token - layout.heard_start for token in sequence.tokens if layout.is_heard(token)]


def test_a_line_that_nobody_said_is_put_together_from_words_that_somebody_did(
    drawn: sequences.Sequences, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sequences, "_HESITANT_SHARE", 0.0)
    rng, sequence = random.Random(0), sequences.Sequence()
    drawn._hear(sequence, "Two one.", drawn._spliced("Two one.", rng), rng)
    heard = _codes(sequence, drawn.layout)
    assert heard == [1, 1, 20, 21, 10, 11, 12, 2, 3, 3, 3, 3, 3, 3, 3, 3]
    pieces = [t for t in sequence.hints if t >= 0]
    assert drawn.text.decode(pieces).split() == ["Two", "one."]
    assert sequence.hints[4] == pieces[0]  # where "two" has been heard
    again = sequences.Sequence()
    drawn._turn(again, Turn("free", "One two.", "Yes.", "yes"), random.Random(0), "spliced", tools=False)
    assert 10 in _codes(again, drawn.layout)  # also where somebody did say it


def test_one_speaker_says_every_word_that_there_is_of_him(
    drawn: sequences.Sequences, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sequences, "_HESITANT_SHARE", 0.0)
    others = np.array([5, 5, 50, 51, 60, 61, 6, 6, 6, 6], np.int16)
    drawn.fill([("One three.", "free", others, 6, [1, 3, 5], "b 0")], [])

    def voices() -> set[tuple[int, ...]]:
        said = (drawn._spliced("Two one three.", random.Random(seed))[0] for seed in range(40))
        return {(codes[0], codes[2], codes[4]) for codes in said}

    monkeypatch.setattr(sequences, "_ONE_SPEAKER", 1.0)
    assert voices() == {(1, 20, 10), (5, 20, 50)}  # of the second there is no "two"
    monkeypatch.setattr(sequences, "_ONE_SPEAKER", 0.0)
    assert voices() == {(1, 20, 10), (5, 20, 50), (1, 20, 50), (5, 20, 10)}


def test_every_kind_of_the_mix_can_be_drawn(drawn: sequences.Sequences) -> None:
    """Lines of two words with their sound; what no dialogue can be spliced from is typed."""
    dialogue = Dialogue((Turn("sums", "One two.", "Two.", "two"),))
    for kind in MIX | QUESTIONS_MIX:
        drawn.dialogues, drawn.free, drawn.aloud = [dialogue], ["One two."], ["Two."]
        sequence = drawn.draw(random.Random(0), {kind: 1.0})
        assert len(sequence.tokens) == len(sequence.targets) == len(sequence.hints) > 4
        heard = any(drawn.layout.is_heard(token) for token in sequence.tokens)
        assert heard or kind in ("typed", "drill", "spoken drill", "spliced", "spliced drill", "aloud")


@pytest.mark.parametrize("said", [0.0, 1.0])
def test_an_answer_is_written_or_said_aloud(
    drawn: sequences.Sequences, monkeypatch: pytest.MonkeyPatch, said: float
) -> None:
    layout, turn = drawn.layout, Turn("sums", "One two.", "Two.", "two", thought="One one.")
    monkeypatch.setattr(sequences, "_SAID", said)
    for kind, heard, spoken in (("spoken drill", False, True), ("drill", False, False), ("dialogue", True, said > 0)):
        sequence = sequences.Sequence()
        assert drawn._turn(sequence, turn, random.Random(0), kind, tools=False)
        assert any(map(layout.is_heard, sequence.tokens)) == heard
        assert any(map(layout.is_spoken, sequence.tokens)) == spoken
        # What to say is learnt where it is written, with the thought before it; aloud it is only read.
        answer = len(sequence.tokens) - sequence.tokens[::-1].index(layout.control("<assistant>"))
        assert (sequences.TEXT in sequence.targets[answer:]) == (not spoken)
        assert (sequences.SPEECH in sequence.targets[answer:]) == spoken
        assert (layout.control("<thought>") in sequence.tokens) == (not spoken)


@pytest.mark.parametrize("said", [0.0, 1.0])
def test_calls_are_learnt_as_often_as_the_choice_of_an_answer(
    drawn: sequences.Sequences, monkeypatch: pytest.MonkeyPatch, said: float
) -> None:
    monkeypatch.setattr(sequences, "_SAID", said)
    layout = drawn.layout
    for call in ("", 'light {"on": true}'):
        sequence, turn = sequences.Sequence(), Turn("tools", "One two.", "Two.", "two", call=call, result="{}")
        assert drawn._turn(sequence, turn, random.Random(0), "dialogue", tools=True)
        places = [i for i, token in enumerate(sequence.tokens) if token == layout.control("<assistant>")]
        assert {sequence.targets[i] for i in places} == {sequences.NOTHING if said else sequences.TEXT}


def test_what_was_recorded_teaches_when_a_turn_is_over_and_what_was_spliced_does_not(
    drawn: sequences.Sequences, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng, recorded, spliced = random.Random(0), sequences.Sequence(), sequences.Sequence()
    drawn._hear(recorded, "One two.", drawn._recorded("One two.", rng), rng)
    over = 8 + sequences._OVER_AFTER_TOKENS
    heard = recorded.targets[1 : len(_codes(recorded, drawn.layout)) + 1]
    assert heard == [sequences.GOES_ON] * over + [sequences.IS_OVER] * (len(heard) - over)
    monkeypatch.setattr(sequences, "_HESITANT_SHARE", 1.0)
    said = drawn._spliced("Two one.", rng)
    drawn._hear(spliced, "Two one.", said, rng)
    codes = _codes(spliced, drawn.layout)
    pause = codes.index(10) - codes.index(21) - 1
    assert 8 <= pause <= 25
    assert said[2] == [3, 6 + pause]  # the words are heard before and behind it
    assert not {sequences.GOES_ON, sequences.IS_OVER} & set(spliced.targets)


def test_a_list_of_words_is_heard_without_an_end(drawn: sequences.Sequences) -> None:
    codes = np.array([1, 1, 10, 11, 12, 20, 21, 2, 3, 3], np.int16)
    drawn.fill([("Two one two.", "words", codes, 8, [1, 4, 6, 7], "a 1")], [])
    assert drawn.lists == ["Two one two."]
    assert "Two one two." not in drawn.free
    found = [drawn.draw(random.Random(seed), {"salad": 1.0}) for seed in range(20)]
    recorded = [sequence for sequence in found if _codes(sequence, drawn.layout) == codes.tolist()]
    assert 0 < len(recorded) < 20
    assert not {sequences.GOES_ON, sequences.IS_OVER} & set(recorded[0].targets)
    assert sequences.TEXT in recorded[0].targets


def test_a_salad_is_made_of_words_that_somebody_said(drawn: sequences.Sequences) -> None:
    salads = [drawn._salad(random.Random(seed)) for seed in range(20)]
    assert {sequences.spelt(word) for salad in salads for word in salad.split()} == {"one", "two"}
    assert all(3 <= len(salad.split()) <= 12 for salad in salads)
    assert any(" two two" in salad.lower() for salad in salads)  # no sense


def test_a_question_is_twisted_into_words_that_sound_alike_but_into_none_that_is_measured_with(
    drawn: sequences.Sequences, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(drawn, "_can_splice", lambda line: True)
    drawn._sound_alikes = {"what": ["watt"], "plus": ["class"], "is": ["his"]}

    def words_of() -> set[str]:
        lines = [drawn._twisted(random.Random(seed)) for seed in range(200)]
        return {word for line in lines for word in line.split()}

    assert words_of() >= {"What", "Watt", "class", "plus", "is", "his"}
    monkeypatch.setattr(sequences, "is_kept_for_measuring", lambda line: "class" in line)
    assert words_of() >= {"Watt", "plus"}
    assert "class" not in words_of()


def _encode(job: tuple[Path, int]) -> list[tuple[str, np.ndarray]]:
    log, number = job
    with log.open("a") as file:
        file.write(f"{number} ")
    return [(f"line {number}", np.array([number], np.int16))]


def test_codes_that_were_made_before_a_kill_are_not_made_again(tmp_path: Path) -> None:
    log = tmp_path / "log"
    jobs = {"first": (log, 1), "second": (log, 2)}
    made = sequences._encoded(tmp_path / "codes", _encode, jobs, "encoding", 1)
    assert [(text, codes.tolist()) for text, codes in made] == [("line 1", [1]), ("line 2", [2])]
    (tmp_path / "codes" / "second.pt").unlink()
    assert sequences._encoded(tmp_path / "codes", _encode, jobs, "encoding", 1) == made
    assert log.read_text() == "1 2 2 "


def test_other_weights_have_another_digest() -> None:
    one, other = torch.nn.Linear(2, 2), torch.nn.Linear(2, 2)
    assert sequences._digest(one) == sequences._digest(copy.deepcopy(one))
    assert sequences._digest(one) != sequences._digest(other)


def test_the_processes_that_train_can_be_sent_what_they_draw_from(drawn: sequences.Sequences) -> None:
    mix = {"transcribe": 1.0}
    sent = pickle.loads(pickle.dumps(drawn))
    assert sent.draw(random.Random(0), mix) == drawn.draw(random.Random(0), mix)


def test_before_each_spoken_code_its_sound_is_asked_for(drawn: sequences.Sequences) -> None:
    sequence, layout = sequences.Sequence(), drawn.layout
    assert drawn._say(sequence, "Two.")
    asked = {
        token - layout.spoken_start: hint
        for hint, token in zip(sequence.hints, sequence.tokens[1:], strict=False)
        if layout.is_spoken(token)
    }
    assert asked == {100: -1} | {101 + sound: layout.text + sound for sound in range(15)}


def test_some_spoken_codes_and_nothing_else_become_others_of_the_batch() -> None:
    layout, rng = TokenLayout(), np.random.default_rng(0)
    tokens = rng.integers(0, layout.spoken_start, (8, 1000))
    tokens[:, 200:700] = rng.integers(layout.spoken_start, layout.size, (8, 500))
    said = misspoken(tokens, layout, rng)
    changed = said != tokens
    assert not changed[:, :200].any()
    assert not changed[:, 700:].any()
    assert set(said[changed].tolist()) <= set(tokens[:, 200:700].ravel().tolist())
    shares = changed[:, 200:700].mean(1)
    assert shares.max() < 0.45
    assert shares.max() - shares.min() > 0.1
    assert np.array_equal(misspoken(tokens[:, :200], layout, rng), tokens[:, :200])


def test_misheard_codes_are_one_level_off_in_one_digit() -> None:
    codes = np.random.default_rng(0).integers(0, 4096, 2000)
    changed = [sequences.misheard(codes, random.Random(seed)) for seed in range(8)]
    shares = [float((heard != codes).mean()) for heard in changed]
    assert min(shares) == 0.0
    assert 0.1 < max(shares) < 0.35
    for heard in changed:
        digits = np.stack([np.abs(heard // 8**i % 8 - codes // 8**i % 8) for i in range(4)])
        assert set(digits.sum(0).tolist()) <= {0, 1}


def test_other_codes_for_the_same_sounds_begin_with_the_same_embeddings() -> None:
    torch.manual_seed(0)
    layout = TokenLayout()
    config = TransformerConfig(layout.size, hidden_size=32, num_hidden_layers=1, intermediate_size=32)
    before = Learner(config, layout, torch.rand(layout.heard, 20))
    order = torch.randperm(layout.heard)
    after = Learner(config, layout, before.heard_prior[order])
    with torch.no_grad():
        before.heard.factors.zero_()  # all that it knows of a code is what is heard in it
    after.read(before.export(), spoken=True, heard_prior=before.heard_prior)
    heard = slice(layout.heard_start, layout.spoken_start)
    with torch.no_grad():
        wanted, found = before.embeddings()[heard][order], after.embeddings()[heard]
    assert float((wanted - found).square().mean() / wanted.square().mean()) < 0.01


@pytest.mark.parametrize("early", [0, 2])
def test_a_tokenizer_that_has_grown_hears_what_it_heard_before(early: int) -> None:
    torch.manual_seed(0)
    small = AudioTokenizer(AudioTokenizerConfig(channels=32, early_blocks=early // 2, blocks=2)).eval()
    large = AudioTokenizer(AudioTokenizerConfig(channels=32, early_blocks=early, blocks=4)).eval()
    large.grow_from(small.state_dict())
    sound = torch.randn(2, 8000) / 10
    assert torch.equal(small.encode(sound), large.encode(sound))
    with pytest.raises(ValueError, match="at most 2 blocks"):
        small.grow_from(large.state_dict())


def _likeliest(log_probs: torch.Tensor, sounds: list[int]) -> float:
    """Of all ways to say these sounds in so many frames, with silence (0) between any two."""
    states = [0, *(s for sound in sounds for s in (sound, 0))]
    best = -float("inf")
    for path in itertools.combinations_with_replacement(range(len(states)), len(log_probs)):
        whole = path[0] < 2 and path[-1] >= len(states) - 2
        if whole and set(range(1, len(states), 2)) <= set(path):
            best = max(best, sum(float(log_probs[t, states[s]]) for t, s in enumerate(path)))
    return best


def test_the_best_path_is_the_likeliest_of_all() -> None:
    torch.manual_seed(1)
    log_probs = (2 * torch.randn(4, 7, 4)).log_softmax(-1)
    frames, sounds = torch.tensor([7, 5, 6, 2]), [[1, 2], [3], [1, 1, 2], [1, 2, 3]]
    *paths, none = align.best_paths(log_probs, frames, sounds)
    assert none == []  # three sounds in two frames
    for row, (path, said) in enumerate(zip(paths, sounds, strict=False)):
        count = int(frames[row])
        assert [sound for _, sound in path if sound] == said
        ends = [*(first for first, _ in path[1:]), count]
        found = sum(float(log_probs[row, t, s]) for (a, s), b in zip(path, ends, strict=True) for t in range(a, b))
        assert found == pytest.approx(_likeliest(log_probs[row, :count], said), abs=1e-5)


def test_a_table_of_codes_takes_the_values_it_is_given() -> None:
    torch.manual_seed(0)
    codes, wanted = FactoredCodes(8, 0.02), torch.randn(4096, 8)
    codes.become(wanted)
    assert torch.allclose(codes.table(), wanted, atol=1e-5)
    assert float(codes.rest.detach().square().mean()) < float(wanted.square().mean())


def _fit(folder: Path, net: nn.Linear, rows: list[torch.Tensor]) -> None:
    run = Run(folder, net, 5, 0.1, {}, warmup=1)
    for _ in run.steps():
        loss = net(rows[rank()]).square().mean()
        run.update(loss, {"loss": loss})


def test_processes_that_train_together_learn_what_one_learns_from_all(tmp_path: Path) -> None:
    torch.manual_seed(0)
    net, rows = nn.Linear(3, 1), torch.randn(2, 4, 3)
    in_parallel(2, _fit, tmp_path / "two", net, [rows[0], rows[1]])
    before = net.weight.detach().clone()
    _fit(tmp_path / "one", net, [rows.flatten(0, 1)])
    assert not torch.allclose(net.weight, before)
    learnt = torch.load(tmp_path / "two" / "checkpoint.pt", weights_only=True)["network"]
    torch.testing.assert_close(learnt, dict(net.state_dict()))


def _fit_alone(folder: Path, net: nn.Linear, rows: torch.Tensor) -> None:
    _fit(folder, net, [rows])


def test_networks_that_go_different_ways_have_a_mean(tmp_path: Path) -> None:
    torch.manual_seed(0)
    net, rows = nn.Linear(3, 1), torch.randn(2, 4, 3)
    before = net.weight.detach().clone()
    apart(_fit_alone, [(tmp_path / str(way), net, rows[way]) for way in range(2)])
    assert torch.equal(net.weight, before)
    learnt = [torch.load(tmp_path / str(way) / "checkpoint.pt", weights_only=True)["network"] for way in range(2)]
    mean = mean_of([dict(net.state_dict()), *learnt])
    torch.testing.assert_close(mean["weight"], (before + learnt[0]["weight"] + learnt[1]["weight"]) / 3)
    assert not torch.equal(learnt[0]["weight"], learnt[1]["weight"])


def test_a_thought_is_learnt_as_the_engine_lets_it_be_said(drawn: sequences.Sequences) -> None:
    rng, layout, thoughts = random.Random(4), drawn.layout, 0
    for _ in range(30):
        sequence = drawn.draw(rng, {"drill": 1.0})
        answers = [i for i, token in enumerate(sequence.tokens) if token == layout.control("<assistant>")]
        for first in answers:
            rule = ThinkingRule(layout, TextRule(layout), 500)
            for at in itertools.count(first + 2):
                token, allowed = sequence.tokens[at], rule.allowed()
                assert allowed.start <= token < allowed.stop or token in allowed.also
                assert sequence.targets[at - 1] == sequences.TEXT
                thoughts += token == layout.control("<thought>")
                if rule.accept(token):
                    break
    assert thoughts > 10


def test_words_that_sound_alike_take_the_place_of_words(
    drawn: sequences.Sequences, monkeypatch: pytest.MonkeyPatch
) -> None:
    sounds = {"one": [1, 2, 3], "won": [1, 2, 3], "two": [4, 5], "ton": [4, 2, 3], "tool": [4, 5, 6]}
    monkeypatch.setattr(sequences, "sounds_of", sounds.__getitem__)
    assert sequences.sound_alikes(sorted(sounds)) == {
        "one": ["won", "ton"],
        "won": ["one", "ton"],
        "two": ["tool"],
        "ton": ["one", "won"],
        "tool": ["two"],
    }
    drawn._said |= dict.fromkeys(sounds, drawn._said["one"] * 3)
    drawn.find_sound_alikes()
    monkeypatch.setattr(sequences, "_MISTAKEN", 1.0)
    layout, found = drawn.layout, set()
    for seed in range(200):
        rng, sequence = random.Random(seed), sequences.Sequence()
        drawn._hear(sequence, "One two.", drawn._recorded("One two.", rng), rng)
        start = sequence.tokens.index(layout.control("<transcript>")) + 1
        written = drawn.text.decode(sequence.tokens[start:-1]).split()
        found.add(" ".join(written))
        learnt = [
            token
            for token, target in zip(sequence.tokens[start:], sequence.targets[start - 1 :], strict=False)
            if target == sequences.TEXT
        ]
        right = [word for word in written if word in ("One", "two.")]
        assert drawn.text.decode(learnt).split() == right  # and the end, which is no text
        assert learnt[-1] == layout.control("<end>")
    assert found >= {"One two.", "Won two.", "Ton two.", "One tool.", "Won tool."}


def test_a_folder_of_other_amounts_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spoken: list[Path] = []
    monkeypatch.setattr(corpus, "_make_shard", lambda job: spoken.append(job[0]))
    threads = SimpleNamespace(get_context=lambda _: multiprocessing.dummy)
    monkeypatch.setattr(corpus, "multiprocessing", threads)
    lines = [corpus.Line("Hello.", "nobody", "free", 1.0, corpus.HEARD_HZ)]
    corpus.make(tmp_path, lines, 1)
    corpus.make(tmp_path, lines, 1)
    with pytest.raises(corpus.OtherAmounts):
        corpus.make(tmp_path, lines * 2, 1)
    assert len(spoken) == 2
    assert corpus.kept_dialogues(tmp_path, 3) == corpus.kept_dialogues(tmp_path, 3)
    with pytest.raises(corpus.OtherAmounts, match="expected 4 dialogues, found 3"):
        corpus.kept_dialogues(tmp_path, 4)
    old = corpus.kept_dialogues(tmp_path, 3)
    for dialogue in old:
        for turn in dialogue.turns:
            vars(turn).pop("thought")
    (tmp_path / "dialogues.pickle").write_bytes(pickle.dumps(old))
    with pytest.raises(corpus.OtherAmounts, match="expected turns with thoughts"):
        corpus.kept_dialogues(tmp_path, 3)
