"""Audio tokenizer and detokenizer: streaming is the same as whole, batched the same as alone, and causal."""

import pytest
import torch

from model.audio_detokenizer import DELAY_SAMPLES, LOOKAHEAD_TOKENS, AudioDetokenizer
from model.audio_detokenizer import TOKEN_SAMPLES as SPOKEN
from model.audio_tokenizer import FSQ, TOKEN_SAMPLES, AudioTokenizer
from model.checkpoint import SpeechModel
from model.streaming import LocalAttention


@pytest.fixture(scope="module")
def tokenizer(tiny: SpeechModel) -> AudioTokenizer:
    return tiny.tokenizer


@pytest.fixture(scope="module")
def detokenizer(tiny: SpeechModel) -> AudioDetokenizer:
    return tiny.detokenizer


def _pcm(batch: int, tokens: int, seed: int = 0) -> torch.Tensor:
    return 0.2 * torch.randn(batch, tokens * TOKEN_SAMPLES, generator=torch.Generator().manual_seed(seed))


def _mel_latents(tokenizer: AudioTokenizer, pcm: torch.Tensor) -> torch.Tensor:
    mel, _ = tokenizer.log_mel(pcm, tokenizer.log_mel.initial_state(len(pcm)))
    return tokenizer.encoder(mel, tokenizer.encoder.initial_state(len(pcm)))[0]


@pytest.mark.parametrize("chunk", [1, 2, 5])
def test_tokenizing_in_chunks_gives_the_codes_of_the_whole(tokenizer: AudioTokenizer, chunk: int) -> None:
    pcm = _pcm(2, 20)
    state, pieces = tokenizer.initial_state(2), []
    for first in range(0, 20, chunk):
        codes, state = tokenizer(pcm[:, first * TOKEN_SAMPLES : (first + chunk) * TOKEN_SAMPLES], state)
        pieces.append(codes)
    assert torch.equal(torch.cat(pieces, 1), tokenizer.encode(pcm))


def test_tokenizing_a_batch_gives_the_codes_of_each_row_alone(tokenizer: AudioTokenizer) -> None:
    pcm = _pcm(3, 8)
    assert torch.equal(tokenizer.encode(pcm), torch.cat([tokenizer.encode(row[None]) for row in pcm]))


def test_what_comes_later_does_not_change_earlier_codes(tokenizer: AudioTokenizer) -> None:
    pcm, other = _pcm(1, 12), _pcm(1, 12, seed=1)
    changed = torch.cat([pcm[:, : 7 * TOKEN_SAMPLES], other[:, 7 * TOKEN_SAMPLES :]], 1)
    before, after = _mel_latents(tokenizer, pcm), _mel_latents(tokenizer, changed)
    assert torch.equal(before[:, :, :7], after[:, :, :7])
    assert not torch.equal(before[:, :, 7:], after[:, :, 7:])


def test_attention_sees_its_window_however_it_is_cut() -> None:
    torch.manual_seed(0)
    attention = LocalAttention(8, 2, window=5)
    x = torch.randn(2, 8, 16)
    whole, _ = attention(x, attention.initial_state(2))
    state, pieces = attention.initial_state(2), []
    for piece in x.split([1, 2, 9, 4], 2):
        y, state = attention(piece, state)
        pieces.append(y)
    torch.testing.assert_close(torch.cat(pieces, 2), whole, atol=1e-5, rtol=1e-5)
    changed = x.clone()
    changed[:, :, 3] = torch.randn(2, 8)
    moved = (attention(changed, attention.initial_state(2))[0] - whole).abs().amax((0, 1)) > 1e-5
    assert moved.nonzero().flatten().tolist() == [3, 4, 5, 6, 7]


def test_a_chunk_that_is_no_whole_token_is_refused(tokenizer: AudioTokenizer) -> None:
    with pytest.raises(ValueError, match="multiple of 640"):
        tokenizer(torch.zeros(1, 100), tokenizer.initial_state(1))


def test_fsq_codes_and_values_are_inverse() -> None:
    fsq = FSQ((8, 8, 8, 8))
    codes = torch.arange(4096)
    assert torch.equal(fsq.codes(fsq.values(codes)), codes)


@pytest.mark.parametrize("chunk", [1, 4, 6])
def test_detokenizing_in_chunks_gives_the_samples_of_the_whole(detokenizer: AudioDetokenizer, chunk: int) -> None:
    codes = torch.randint(0, 256, (2, 24), generator=torch.Generator().manual_seed(1))
    whole, _ = detokenizer(codes, detokenizer.initial_state(2))
    state, pieces = detokenizer.initial_state(2), []
    for first in range(0, 24, chunk):
        samples, state = detokenizer(codes[:, first : first + chunk], state)
        pieces.append(samples)
    assert whole.abs().max() > 0
    torch.testing.assert_close(torch.cat(pieces, 1), whole, atol=1e-3 * float(whole.abs().max()), rtol=0)


def test_detokenizing_a_batch_gives_the_samples_of_each_row_alone(detokenizer: AudioDetokenizer) -> None:
    codes = torch.randint(0, 256, (3, 10), generator=torch.Generator().manual_seed(2))
    alone = torch.cat([detokenizer.decode(row[None]) for row in codes])
    torch.testing.assert_close(detokenizer.decode(codes), alone, atol=1e-4, rtol=0)


def test_sound_depends_on_codes_only_up_to_the_look_ahead(detokenizer: AudioDetokenizer) -> None:
    codes = torch.randint(0, 256, (1, 16), generator=torch.Generator().manual_seed(3))
    changed = codes.clone()
    changed[:, 10:] = (changed[:, 10:] + 7) % 256
    before, after = detokenizer.decode(codes), detokenizer.decode(changed)
    # The synthesiser's own delay of 20 ms reaches back into the token before.
    safe = (10 - LOOKAHEAD_TOKENS) * SPOKEN - (DELAY_SAMPLES - LOOKAHEAD_TOKENS * SPOKEN)
    assert torch.equal(before[:, :safe], after[:, :safe])
    assert not torch.equal(before, after)


def test_decoded_speech_is_as_long_as_its_codes(detokenizer: AudioDetokenizer) -> None:
    assert detokenizer.decode(torch.zeros(1, 9, dtype=torch.long)).shape == (1, 9 * SPOKEN)


@pytest.mark.parametrize("speed", [0.25, 0.8, 1.0, 1.5])
def test_a_faster_voice_is_as_much_shorter_however_it_is_cut(tiny: SpeechModel, speed: float) -> None:
    net = tiny.detokenizer
    codes = torch.randint(0, 256, (1, 40), generator=torch.Generator().manual_seed(3))
    with torch.inference_mode():
        whole, _, _ = net.stretch(codes, net.initial_state(1), None, speed)
        state, past, pieces = net.initial_state(1), None, []
        for piece in codes.split([4, 1, 7, 20, 8], 1):
            samples, state, past = net.stretch(piece, state, past, speed)
            pieces.append(samples)
    assert whole.shape[1] == pytest.approx(40 * 960 / speed, abs=2 * 240 / speed)
    torch.testing.assert_close(torch.cat(pieces, 1), whole, atol=1e-3 * float(whole.abs().max()), rtol=0)


def test_at_speed_one_stretching_changes_nothing(tiny: SpeechModel) -> None:
    net = tiny.detokenizer
    codes = torch.randint(0, 256, (1, 12), generator=torch.Generator().manual_seed(4))
    with torch.inference_mode():
        plain, _ = net(codes, net.initial_state(1))
        stretched, _, _ = net.stretch(codes, net.initial_state(1), None, 1.0)
    torch.testing.assert_close(stretched, plain[:, : stretched.shape[1]], atol=1e-5, rtol=1e-4)
