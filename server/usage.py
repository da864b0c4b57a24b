"""Counted tokens as the wire shows them. No I/O."""

from typing import Any

from server.engine.messages import TranscriptDone, Usage

Wire = dict[str, Any]


def counts(used: Usage) -> Wire:
    """The three sums that every `usage` has."""
    return {
        "total_tokens": used.input_tokens + used.output_tokens,
        "input_tokens": used.input_tokens,
        "output_tokens": used.output_tokens,
    }


def of_response(used: Usage) -> Wire:
    """The `usage` of a response. What was written and not told is part of the text, as in the Responses API."""
    untold = {"reasoning_tokens": used.untold} if used.untold else {}
    cached = {"text_tokens": used.cached_text, "audio_tokens": used.cached_audio, "image_tokens": 0}
    return counts(used) | {
        "input_token_details": {
            "text_tokens": used.input_text,
            "audio_tokens": used.input_audio,
            "image_tokens": 0,
            "cached_tokens": used.cached_tokens,
            "cached_tokens_details": cached,
        },
        "output_token_details": {"text_tokens": used.output_text, "audio_tokens": used.output_audio, **untold},
    }


def of_transcript(done: TranscriptDone) -> Wire:
    """The `usage` of a transcript."""
    return {
        "type": "tokens",
        **counts(Usage(input_audio=done.audio_tokens, output_text=done.text_tokens)),
        "input_token_details": {"audio_tokens": done.audio_tokens, "text_tokens": 0},
    }
