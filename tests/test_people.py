"""Recordings of people: the games' compression, and which clips are written down."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from model.training import corpus, people


class _Packer:
    """Writes what `_unpacked` reads: words of bits, and bytes between them."""

    def __init__(self) -> None:
        self.packed, self.free, self.word = bytearray(), 0, 0

    def bits(self, value: int, count: int) -> None:
        for i in range(count):
            if not self.free:
                self.word, self.free = len(self.packed), 16
                self.packed += b"\0\0"
            at = 16 - self.free
            self.packed[self.word + at // 8] |= (value >> i & 1) << at % 8
            self.free -= 1


@pytest.mark.parametrize("blocks", [1, 3])
def test_what_a_game_packed_is_unpacked(blocks: int) -> None:
    packer = _Packer()
    packer.bits(0, 2)
    for _ in range(blocks):
        # Lengths of the codes: of six literals and of none, of one distance, of one match.
        for lengths in ((1, 0, 0, 1), (0, 0, 0, 1), (0, 0, 0, 0, 1)):
            packer.bits(len(lengths), 5)
            for length in lengths:
                packer.bits(length, 4)
        packer.bits(2, 16)
        packer.bits(1, 1)  # 4 to 7 literals:
        packer.bits(6 - 4, 2)
        packer.packed += b"hello "
        packer.bits(0, 1)  # 4 to 7 back, but one:
        packer.bits(6 - 1 - 4, 2)
        packer.bits(0, 1)  # 8 to 15 to copy, but two:
        packer.bits(12 - 2 - 8, 3)
        packer.bits(0, 1)  # no literals
    packed, size = np.frombuffer(bytes(packer.packed), np.uint8), 18 * blocks
    assert people._unpacked(packed, size, blocks).tobytes() == b"hello " * 3 * blocks
    assert len(people._unpacked(packed[:-9], size, blocks)) == size


class _Judge:
    def __init__(self, heard: list[tuple[float, str, float]]) -> None:
        self.heard, self.samples = heard, 0

    def words(self, samples: np.ndarray) -> Iterator[tuple[float, str, float]]:
        self.samples = len(samples)
        yield from self.heard


def test_each_clip_gets_its_words_and_an_unsure_one_none() -> None:
    second = np.ones(16_000, np.float32)
    judge = _Judge(
        [
            (0.2, " Open", 0.9),
            (0.8, " it.", 0.8),
            (1.6, " No", 0.9),
            (2.3, " way.", 0.1),
            (3.4, " 42", 0.9),
            (5.1, " I'm", 1.0),
            (5.4, " in!", 1.0),
        ]
    )
    texts = people.written_down(judge, [second] * 5)  # type: ignore[arg-type]
    assert texts == ["Open it.", "", "", "I'm in!", ""]
    assert judge.samples == 5 * 24_000


def test_what_was_understood_is_a_shard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(people, "_judge", lambda: _Judge([(0.5, " Hello.", 0.9), (3.5, " Bye.", 0.8)]))
    window = [(f"people-{i}", np.full(16_000, (i + 1) / 10, np.float32)) for i in range(3)]
    index = tmp_path / "people-0000.jsonl"
    people._make_shard((index, [window, window[:1]]))
    (first, pcm), (last, other), (again, same) = corpus.load_shard(index)
    assert [(r.text, r.voice, r.kind, r.start) for r in (first, last, again)] == [
        ("Hello.", "people-0", "free", 0),
        ("Bye.", "people-2", "free", 16_000),
        ("Hello. Bye.", "people-0", "free", 32_000),
    ]
    assert (pcm == 3277).all()
    assert (other == 9830).all()
    assert np.array_equal(pcm, same)
