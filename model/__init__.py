"""The model: its networks, its checkpoint, its training and its evaluation."""

from pathlib import Path

EMBEDDED = Path(__file__).parent / "checkpoints" / "antiphon-nano"
"""The model directory that ships with the repository. Here, for whoever wants its name and not torch."""
