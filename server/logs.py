"""How each of the server's processes logs: to stderr, in one format."""

import logging
from typing import Literal

Level = Literal["debug", "info", "warning", "error"]
"""What a log may begin with."""


def configure(level: int | str) -> None:
    """Log from `level` on, a number or a name in any case."""
    level = level.upper() if isinstance(level, str) else level
    logging.basicConfig(level=level, format="%(asctime)s %(name)s %(levelname)s %(message)s")
