"""Scoring by servers: no fault, and no end of client or server, loses a reward or has it asked for twice."""

from __future__ import annotations

import collections
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import polars as pl
import pytest
from made_up_world import make_world
from serving.stub_server import REFUSALS, Stub

from bestofl_lib.models.server_answers import ServerError
from bestofl_lib.models.servers import Patience
from bestofl_lib.rewards.opening import import_reward_models
from bestofl_lib.rewards.scoring import score
from bestofl_lib.rewards.served_models import served_facts

ROOT = Path(__file__).resolve().parents[2]
QUICK = Patience(timeout=20.0, attempts=5, without_answer=20.0, first_contact=2.0)
WAYS = {"classify": "", "pooling": ", endpoint=pooling", "judge": ", template=judge"}
WORLD = make_world(12)
PASSING = [
    "500", "502", "503", "429", "429-after", "hang", "hang in the middle", "cut", "drop", "html", "malformed", "list",
]  # fmt: skip
DAMAGED = ["empty choices", "no choices", "too few choices", "no model"]


def stub_of(way, plan=lambda count, body: None, **options):
    """A server whose rewards follow from the text."""
    stub = Stub(plan, **options)
    stub.reward = lambda chat: float(len(chat[-1]["content"]))
    if way == "judge":
        stub.verdict = lambda prompt: "Yes" if "right" in prompt else "No"
    return stub


def named(stub, way, in_flight=4):
    return f"{stub.address}, served_model=lab, name=served, in_flight={in_flight}{WAYS[way]}"


def scored(folder, text, world=WORLD, patience=QUICK):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("bestofl_lib.rewards.served.Patience", lambda: patience)
        import_reward_models([text], folder)
        return score(world.candidates, world.split("test"), folder, device="cpu")


def expected(tmp_path, way, world=WORLD):
    with stub_of(way) as stub:
        return scored(tmp_path / "expected", named(stub, way), world).rewards


def asked(stub):
    """How often each text was sent."""
    return collections.Counter(json.dumps(body["messages"]) for body in stub.bodies)


@pytest.mark.parametrize(
    ("way", "fault"),
    [("classify", fault) for fault in PASSING]
    + [(way, fault) for way in WAYS for fault in DAMAGED]
    + [("classify", "no number"), ("pooling", "no number"), ("judge", "null content"), ("judge", "no finish reason")],
)
def test_a_passing_fault_costs_no_reward_and_nothing_else_is_asked_twice(tmp_path, way, fault):
    patience = Patience(timeout=0.5 if "hang" in fault else 20.0, attempts=5, without_answer=20.0)
    with stub_of(way, lambda count, body: fault if count in (0, 3, 4) else None) as stub:
        scores = scored(tmp_path / "served", named(stub, way), patience=patience)
    assert scores.rewards.equals(expected(tmp_path, way)) and scores.rewards["reward"].null_count() == 0
    assert sum(scores.servers[0]["faults"].values()) == 3
    assert sorted(asked(stub).values(), reverse=True)[:4] == [2, 2, 2, 1]


@pytest.mark.parametrize("way", ["classify", "judge"])
@pytest.mark.parametrize(
    ("fault", "message"),
    [
        *REFUSALS,
        ("no template", r"cannot render a chat.*base model"),
        ("other model", r"'another-7b' where 'lab' was asked for"),
    ],
)
def test_what_no_repetition_mends_stops_at_once_and_the_next_run_asks_for_the_rest(
    tmp_path, monkeypatch, way, fault, message
):
    monkeypatch.setenv("BESTOFL_API_KEY", "sk-very-secret")
    with stub_of(way, lambda count, body: fault if count == 10 else None) as stub:
        with pytest.raises(ServerError, match=message) as caught:
            scored(tmp_path / "served", named(stub, way))
        assert 11 <= len(stub.bodies) <= 11 + 4
        scores = scored(tmp_path / "served", named(stub, way))
    assert scores.rewards.equals(expected(tmp_path, way))
    assert sum(asked(stub).values()) - len(asked(stub)) <= 4  # those that were in flight
    assert all("Bearer sk-very-secret" in head for head in stub.headers) and "sk-very-secret" not in str(caught.value)
    assert not any(b"sk-very-secret" in path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())


@pytest.mark.parametrize("way", ["classify", "judge"])
def test_a_server_that_answers_health_and_nothing_else_stops_the_scoring_in_bounded_time(tmp_path, way):
    patience = Patience(timeout=0.2, attempts=100, without_answer=1.0, first_contact=1.0)
    message = r"no request was answered for \d+ s.*1 s allowed.*time-out"
    with stub_of(way, lambda count, body: "hang") as stub, pytest.raises(ServerError, match=message):
        scored(tmp_path, named(stub, way), patience=patience)


def test_no_server_at_the_address_is_said_within_seconds(tmp_path):
    with stub_of("classify") as stub:
        text = named(stub, "classify")
    with pytest.raises(ServerError, match=rf"no server answers.*{stub.port}.*start it, or correct the address"):
        scored(tmp_path, text)


@pytest.mark.parametrize("way", ["classify", "judge"])
def test_a_server_that_dies_and_comes_back_costs_only_what_was_in_flight(tmp_path, way):
    def plan(count, body):
        if count == 20:
            stub.die_for(0.5)
        return "drop" if count == 20 else None

    with stub_of(way, plan, delay=0.01) as stub:
        scores = scored(tmp_path / "served", named(stub, way))
    assert scores.rewards.equals(expected(tmp_path, way))
    assert set(scores.servers[0]["faults"]) == {"connection lost", "no connection"}
    assert 1 <= sum(asked(stub).values()) - len(asked(stub)) <= 4


CLIENT = """
import sys
sys.path.insert(0, sys.argv[3])
from made_up_world import make_world
from bestofl_lib import files
from bestofl_lib.rewards.opening import import_reward_models
from bestofl_lib.rewards.scoring import score
files._SAVE_SECONDS = (0.05, 0.05)
world = make_world(60)
import_reward_models([sys.argv[2]], sys.argv[1])
score(world.candidates, world.split("test"), sys.argv[1], device="cpu")
"""
IN_FLIGHT = 8


@pytest.mark.parametrize(
    ("way", "number", "status"),
    [
        ("classify", signal.SIGKILL, -signal.SIGKILL),
        ("judge", signal.SIGKILL, -signal.SIGKILL),
        ("judge", signal.SIGINT, -signal.SIGINT),
        ("classify", signal.SIGTERM, 143),
    ],
)
def test_a_scoring_that_is_killed_goes_on_where_it_was(tmp_path, way, number, status):
    world = make_world(60)
    place = tmp_path / "served"
    with stub_of(way, delay=0.05) as stub:
        command = [sys.executable, "-c", CLIENT, str(place), named(stub, way, IN_FLIGHT), str(ROOT / "tests")]
        child = subprocess.Popen(command, stderr=subprocess.DEVNULL, cwd=ROOT)
        patience = time.monotonic() + 60
        while stored(place) < 40 and child.poll() is None and time.monotonic() < patience:
            time.sleep(0.02)
        os.kill(child.pid, number)
        assert child.wait(20) == status
        kept = stored(place)
        if number != signal.SIGKILL:
            assert served_facts(place)[-1]["answers"] == kept
        scores = scored(place, named(stub, way, 64), world)
    assert scores.rewards.equals(expected(tmp_path, way, world))
    assert 40 <= kept < len(asked(stub)) and scores.servers[-1]["answers"] == len(asked(stub)) - kept
    # those in flight; kill -9 also loses what had arrived since the last saving
    assert sum(asked(stub).values()) - len(asked(stub)) <= IN_FLIGHT * (4 if number == signal.SIGKILL else 1)


def stored(folder):
    """Rewards on the disk."""
    return sum(len(pl.read_parquet(path)) for path in (folder / "cache").glob("*/part-*.parquet"))
