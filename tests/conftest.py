"""Fixtures that several test files share."""

from pathlib import Path

import pytest
import torch

from model.checkpoint import SpeechModel, save
from tests.tiny_model import tiny_model


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def tiny() -> SpeechModel:
    return tiny_model()


@pytest.fixture(scope="session")
def tiny_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "tiny"
    save(folder, tiny_model())
    return folder
