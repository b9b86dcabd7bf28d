"""Trained weights on several devices, and after the process was killed: the same as on one device, undisturbed."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from safetensors.torch import load_file  # noqa: E402

from bestofl_lib.rewards.spec import reward_models  # noqa: E402

TESTS = Path(__file__).resolve().parents[1]
TRAIN = """
import os
import sys
from made_up_world import make_world
from bestofl_lib.rewards.spec import TrainingSettings
from bestofl_lib.rewards.training import train_reward_models

base, folder, batch_pairs, epochs, readout, hold_out, *variants = sys.argv[1:]
world = make_world()
settings = TrainingSettings(
    rows=32, readout=readout, tuning="full", loss="bce", epochs=float(epochs), batch_pairs=int(batch_pairs),
    learning_rate=3e-3, hold_out=float(hold_out),
)
train_reward_models(
    world.candidates, world.readings, world.split("train"), base=base, folder=folder, variants=variants,
    settings=settings, device="cpu",
)
print("process", os.environ.get("RANK", 0), "of", os.environ.get("WORLD_SIZE", 1))
"""


def _command(place: Path, *arguments: object) -> list[str]:
    (place / "train.py").write_text(TRAIN)
    return [str(place / "train.py"), *map(str, arguments)]


def _environment() -> dict[str, str]:
    places = [str(TESTS), str(TESTS.parent), os.environ.get("PYTHONPATH", "")]
    return os.environ | {"PYTHONPATH": os.pathsep.join(places), "OMP_NUM_THREADS": "1"}


def _run(command: list[str]) -> str:
    done = subprocess.run(command, env=_environment(), capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def _largest_difference(first: Path, second: Path) -> float:
    """Of any weight of any reward model in two folders; scales and offsets count as weights."""
    found = []
    for folder in (first, second):
        models = reward_models(folder)
        assert models
        weights = {
            f"{spec.name} {name}": weight
            for place, spec in models
            for name, weight in load_file(place / "model.safetensors").items()
        }
        found.append(weights | {f"{spec.name} scale": torch.tensor([spec.scale, spec.offset]) for _, spec in models})
    one, other = found
    assert one.keys() == other.keys()
    return max(float((one[name] - other[name]).abs().max()) for name in one)


@pytest.mark.slow
@pytest.mark.parametrize("how", [("implicit", 0.0, "multi", "cross"), ("head", 0.3, "cross")])
def test_two_processes_of_accelerate_end_with_the_weights_of_one(tiny_policy, tmp_path, how):
    """Four pairs per step on each of two devices are the step of eight pairs on one. What is learnt from is a multiple of
    eight pairs: accelerate fills the last step.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    launch = [
        *(sys.executable, "-m", "accelerate.commands.launch", "--num_processes", "2", "--num_machines", "1"),
        *("--multi_gpu", "--mixed_precision", "no", "--dynamo_backend", "no"),  # --cpu would start one process
        *("--main_process_ip", "127.0.0.1", "--main_process_port", str(port)),
    ]
    said = _run(launch + _command(tmp_path, tiny_policy, tmp_path / "two", 4, 3, *how))
    assert "process 0 of 2" in said and "process 1 of 2" in said
    _run([sys.executable, *_command(tmp_path, tiny_policy, tmp_path / "one", 8, 3, *how)])
    assert _largest_difference(tmp_path / "two", tmp_path / "one") < 1e-4
    assert not list((tmp_path / "two").glob("*/checkpoints"))


@pytest.mark.slow
def test_a_training_that_was_killed_twice_ends_with_the_weights_of_an_undisturbed_one(tiny_policy, tmp_path):
    """The second kill falls into the writing of a checkpoint, which is then not whole."""
    how = (4, 12, "implicit", 0.3, "cross")
    killed = [sys.executable, *_command(tmp_path, tiny_policy, tmp_path / "killed", *how)]
    reached = 0
    for _ in range(2):
        process = subprocess.Popen(killed, env=_environment(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        while process.poll() is None and max(_steps(tmp_path), default=0) <= reached:
            time.sleep(0.01)
        process.kill()
        assert process.wait() == -signal.SIGKILL, "it ended before it could be killed"
        reached = max(_steps(tmp_path))
    newest = tmp_path / "killed" / "cross" / "checkpoints" / f"checkpoint-{reached}"
    (newest / "trainer_state.json").unlink()
    with (newest / "module.safetensors").open("r+b") as weights:
        weights.truncate(1000)
    _run(killed)
    _run([sys.executable, *_command(tmp_path, tiny_policy, tmp_path / "whole", *how)])
    assert _largest_difference(tmp_path / "killed", tmp_path / "whole") == 0


def _steps(place: Path) -> list[int]:
    """Optimiser steps of each whole checkpoint."""
    whole = place.glob("killed/cross/checkpoints/checkpoint-*/trainer_state.json")
    return [int(path.parent.name.removeprefix("checkpoint-")) for path in whole]
