"""Scoring: each candidate once, never a reward that is no number, and no forward pass twice."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

pytest.importorskip("torch")


from bestofl_lib.analysis.reward_quality import within_problem_auc
from bestofl_lib.progress import PROGRESS_FILE, read_snapshot
from bestofl_lib.rewards.backbone import RewardBackbone
from bestofl_lib.rewards.cache import cached_values
from bestofl_lib.rewards.opening import head_weights
from bestofl_lib.rewards.scoring import score
from bestofl_lib.rewards.spec import TrainingSettings
from bestofl_lib.rewards.training import train_reward_models


def train(world, candidates, base, folder):
    train_reward_models(
        candidates,
        world.readings,
        world.split("train"),
        base=base,
        folder=folder,
        settings=TrainingSettings(rows=20),
        device="cpu",
    )


@pytest.fixture
def folder(world, tiny_policy, tmp_path):
    train(world, world.candidates, tiny_policy, tmp_path)
    return tmp_path


def test_mono_models_score_their_own_language_or_all_on_request(world, folder):
    test = world.split("test")
    own = score(world.candidates, test, folder, device="cpu").rewards
    everything = score(world.candidates, test, folder, scope="all", device="cpu").rewards
    assert own.filter(pl.col("reward_model") == "mono-en")["language"].unique().to_list() == ["en"]
    assert everything.height == 5 * 144
    assert own.height == 2 * 144 + 144
    assert own.join(everything, on=own.columns).height == own.height
    only = score(world.candidates, test, folder, names=["multi"], device="cpu").rewards
    assert only.equals(own.filter(pl.col("reward_model") == "multi"))


@pytest.fixture
def ran(monkeypatch) -> list[int]:
    """Completions that went through the model, one number per pass."""
    ran: list[int] = []
    original = RewardBackbone.batches

    def counting(self, prompts, prompt_of, completions, share=True):
        ran.append(len(completions))
        return original(self, prompts, prompt_of, completions, share)

    monkeypatch.setattr(RewardBackbone, "batches", counting)
    return ran


def test_a_second_scoring_runs_no_model_and_new_candidates_are_run_alone(world, folder, ran):
    test = world.split("test")
    first = score(world.candidates.filter(pl.col("sample_index") < 3), test, folder, device="cpu")
    again = score(world.candidates.filter(pl.col("sample_index") < 3), test, folder, device="cpu")
    assert len(ran) == 1
    assert again.rewards.equals(first.rewards)
    more = score(world.candidates, test, folder, device="cpu")
    assert len(ran) == 2
    assert ran[1] <= 36
    assert more.rewards.join(first.rewards, on=first.rewards.columns).height == first.rewards.height


def test_identical_completions_are_computed_once(world, tiny_policy, ran):
    backbone = RewardBackbone(tiny_policy, device="cpu")
    same = world.candidates.with_columns(completion=pl.lit("the same"))
    values = cached_values(backbone, same, world.problems, None)
    assert sum(ran) == world.problems.height
    assert values.values.shape == (288, 32)


def test_a_damaged_cache_file_is_named_and_computed_again(world, folder):
    test = world.split("test")
    first = score(world.candidates, test, folder, device="cpu").rewards
    for shard in folder.glob("cache/*/part-*.parquet"):
        data = bytearray(shard.read_bytes())
        data[len(data) // 2] ^= 1
        shard.write_bytes(data)
    with pytest.warns(UserWarning, match="is damaged and is removed"):
        again = score(world.candidates, test, folder, device="cpu").rewards
    assert again.equals(first)


def test_rewards_that_are_not_finite_are_set_aside_and_counted(world, folder, monkeypatch):
    def broken(place, spec):
        return head_weights(place, spec) * (np.nan if spec.name == "cross" else 1)

    monkeypatch.setattr("bestofl_lib.rewards.scoring.head_weights", broken)
    scores = score(world.candidates, world.split("test"), folder, device="cpu")
    aside = scores.rewards.filter(pl.col("reward").is_null())
    assert aside["reward_model"].to_list() == ["cross"] * 144
    assert scores.rewards["reward"].drop_nulls().is_finite().all()
    assert "cross" not in within_problem_auc(scores.rewards, world.readings)["reward_model"].to_list()
    assert scores.set_aside["reward_model"].to_list() == ["cross"] * 144
    assert scores.summary.filter(pl.col("reward_model") == "cross").select("candidates", "set_aside").row(0) == (0, 144)


@pytest.mark.parametrize("name", ["cross", "mono-sw"])
def test_a_damaged_head_is_an_error_with_a_remedy(world, folder, name):
    (folder / name / "head.safetensors").unlink()
    with pytest.raises(ValueError, match=f"reward model '{name}' in .* damaged or missing; .*train it again"):
        score(world.candidates, world.split("test"), folder, device="cpu")


def test_a_candidate_that_was_never_finished_gets_no_reward(world, folder):
    failed = world.candidates.with_columns(
        finish_reason=pl.when(pl.col("problem_id") == "p01", pl.col("sample_index") == 0)
        .then(pl.lit("error"))
        .otherwise("finish_reason")
    )
    scores = score(failed, world.split("test"), folder, names=["multi"], device="cpu")
    assert scores.rewards.height == 144 - 3
    assert set(scores.set_aside["reason"]) == {"no completion"}


def test_candidates_without_a_known_finish_reason_are_learnt_from_and_scored(world, tiny_policy, folder, tmp_path):
    pool = world.candidates.with_columns(finish_reason=pl.lit(None, pl.String))
    place = tmp_path / "again"
    train(world, pool, tiny_policy, place)
    expected = score(world.candidates, world.split("test"), folder, device="cpu").rewards
    assert expected.height and score(pool, world.split("test"), place, device="cpu").rewards.equals(expected)


def test_bad_input_is_named(world, folder, tmp_path):
    test = world.split("test")
    with pytest.raises(ValueError, match="unknown scope 'mine'"):
        score(world.candidates, test, folder, scope="mine")
    with pytest.raises(ValueError, match=r"no reward model 'cros' in .*; it has: cross, mono-en"):
        score(world.candidates, test, folder, names=["cros"])
    with pytest.raises(ValueError, match="of 0 candidates none belongs"):
        score(world.candidates.head(0), test, folder)
    (folder / "multi" / "reward_model.json").write_text('{"name": "multi"}')
    with pytest.raises(ValueError, match="is not the record of a reward model"):
        score(world.candidates, test, folder)
    with pytest.raises(FileNotFoundError, match="run 04_train_reward_models first"):
        score(world.candidates, test, tmp_path / "nothing")


def test_scoring_says_how_many_completions_are_done(world, folder, tmp_path, monkeypatch):
    monkeypatch.setenv(PROGRESS_FILE, str(tmp_path / "p.json"))
    score(world.candidates, world.split("test"), folder, device="cpu")
    found = read_snapshot(tmp_path / "p.json")
    assert (
        found and found.done == found.total > 100 and found.unit.startswith("completions scored by reward model 1 of ")
    )
