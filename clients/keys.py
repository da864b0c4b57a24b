"""Which API key goes to which server."""

import os
from urllib.parse import urlsplit

_OPENAI_HOST = "api.openai.com"
KEY_HELP = "API key (default: $ANTIPHON_API_KEY; for OpenAI's server $OPENAI_API_KEY)"


def key_for(url: str, given: str | None) -> str | None:
    """The key that was given, else `$ANTIPHON_API_KEY`, else, for OpenAI's own server alone, `$OPENAI_API_KEY`."""
    if given:
        return given
    own = os.environ.get("ANTIPHON_API_KEY")
    theirs = os.environ.get("OPENAI_API_KEY") if urlsplit(url).hostname == _OPENAI_HOST else None
    return theirs or own
