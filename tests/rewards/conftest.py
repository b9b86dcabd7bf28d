"""The made-up world for tests of rewards."""

from __future__ import annotations

import pytest
from made_up_world import World, make_world


@pytest.fixture(scope="session")
def world() -> World:
    return make_world()
