"""Whatever is altered in a folder of reward models: the same rewards after training again, or an error with a remedy."""

from __future__ import annotations

import collections
import json
import os
import random
import shutil
import warnings

import polars as pl
import pytest
from made_up_world import make_world

pytest.importorskip("torch")

from bestofl_lib.rewards.scoring import score
from bestofl_lib.rewards.spec import RewardModelSpec, TrainingSettings
from bestofl_lib.rewards.training import train_reward_models

EXAMPLES = int(os.environ.get("BESTOFL_FUZZ", "500")) // 25
WORLD = make_world(8)


def train(tiny_policy, folder) -> None:
    settings = TrainingSettings(rows=10)
    train_reward_models(
        WORLD.candidates, WORLD.readings, WORLD.split("train"),
        base=tiny_policy, folder=folder, settings=settings, device="cpu",
    )  # fmt: skip


def rewards(folder) -> pl.DataFrame:
    return score(WORLD.candidates, WORLD.split("test"), folder, device="cpu").rewards


@pytest.fixture(scope="module")
def trained(tiny_policy, tmp_path_factory):
    """A folder of reward models with its cache, which is only copied, and its rewards."""
    folder = tmp_path_factory.mktemp("trained")
    train(tiny_policy, folder)
    return folder, rewards(folder)


def altered(data: bytes, draw: random.Random) -> bytes:
    at = draw.randrange(len(data))
    digits = [place for place, byte in enumerate(data) if 48 <= byte <= 57]
    kind = draw.choice(["flip", "digit", "cut"])
    if kind == "digit" and digits:
        at = draw.choice(digits)
        return data[:at] + bytes([draw.choice(b"0123456789")]) + data[at + 1 :]
    return data[:at] if kind == "cut" else data[:at] + bytes([data[at] ^ 1 << draw.randrange(8)]) + data[at + 1 :]


def test_no_altered_byte_of_a_reward_model_changes_a_reward_in_silence(trained, tiny_policy, tmp_path):
    finished, undisturbed = trained
    outcomes: collections.Counter[str] = collections.Counter()
    draw = random.Random(os.environ.get("BESTOFL_FUZZ_SEED", "0"))
    for number in range(EXAMPLES):
        folder = shutil.copytree(finished, tmp_path / str(number))
        path = draw.choice(sorted(file for file in folder.rglob("*") if file.is_file()))
        path.write_bytes(altered(path.read_bytes(), draw))
        for step in ("scored", "trained again and scored"):
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")  # a damaged part of the cache is said and computed again
                    if step != "scored":
                        train(tiny_policy, folder)
                    found = rewards(folder)
            except (ValueError, OSError) as refusal:
                assert str(folder) in str(refusal), refusal
                outcomes[f"{step}: refused"] += 1
                continue
            assert found.equals(undisturbed), f"other rewards once {step} after an alteration of {path}"
            outcomes[f"{step}: same rewards"] += 1
        shutil.rmtree(folder)
    print("\n" + ", ".join(f"{what}: {n}" for what, n in sorted(outcomes.items())))
    assert outcomes["scored: refused"] and outcomes["trained again and scored: same rewards"]


@pytest.mark.parametrize(("field", "value"), [("scale", 2.0), ("offset", 1.0), ("max_tokens", 9), ("style", "x")])
def test_a_record_that_was_altered_is_refused_by_name(trained, tmp_path, field, value):
    folder = shutil.copytree(trained[0], tmp_path / "copy")
    path = folder / "multi" / "reward_model.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {field: value}))
    with pytest.raises(ValueError, match="multi.*does not match its own digest.*delete the folder and train again"):
        RewardModelSpec.read(path.parent)
