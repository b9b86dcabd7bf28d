"""Problems to draw from a stub server, and servers as processes of their own."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

STUB = Path(__file__).with_name("stub_server.py")
pytest.importorskip("aiohttp", reason="pip install 'bestofl[serve]'")


@pytest.fixture(autouse=True)
def no_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("BESTOFL_API_KEY", raising=False)
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)


@pytest.fixture
def start_stub() -> Iterator[Callable[..., tuple[subprocess.Popen[str], int]]]:
    """Starts stub servers as processes: start_stub("--die-after", "20") returns (process, port)."""
    children = []

    def start(*arguments: str) -> tuple[subprocess.Popen[str], int]:
        child = subprocess.Popen([sys.executable, str(STUB), *arguments], stdout=subprocess.PIPE, text=True)
        children.append(child)
        assert child.stdout is not None
        return child, int(child.stdout.readline())

    yield start
    for child in children:
        child.kill()
        child.wait()
