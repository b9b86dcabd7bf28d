"""Reward models of steps: they learn the labels of steps, are read where they were trained, and refuse what cannot be."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from made_up_world import WORDS, make_world  # noqa: E402

from bestofl_lib.analysis.reward_choices import quality_by_aggregation  # noqa: E402
from bestofl_lib.analysis.reward_quality import within_problem_auc  # noqa: E402
from bestofl_lib.analysis.step_values import where_lost  # noqa: E402
from bestofl_lib.display import takeaways  # noqa: E402
from bestofl_lib.models.identity import folder_hash  # noqa: E402
from bestofl_lib.rewards import finetuning  # noqa: E402
from bestofl_lib.rewards.backbone import RewardBackbone  # noqa: E402
from bestofl_lib.rewards.finetuning import finetune  # noqa: E402
from bestofl_lib.rewards.heads import fit_head, fit_values  # noqa: E402
from bestofl_lib.rewards.opening import open_reward_model, read_by  # noqa: E402
from bestofl_lib.rewards.readouts import Likelihood  # noqa: E402
from bestofl_lib.rewards.scoring import score  # noqa: E402
from bestofl_lib.rewards.spec import RewardModelSpec, TrainingSettings  # noqa: E402
from bestofl_lib.rewards.step_texts import OwnSteps  # noqa: E402
from bestofl_lib.rewards.steps import beginnings  # noqa: E402
from bestofl_lib.rewards.training import train_reward_models  # noqa: E402
from bestofl_lib.tables import KEYS, check_table  # noqa: E402

PROMPTS = [("what is 2 + 3?", "en"), ("2 + 4 ni ngapi?", "sw")]
COMPLETIONS = ["so right. So right.", "sahihi. Kosa.", "wrong. so right. So so.", "kosa."]


@pytest.fixture(scope="module")
def world():
    """Each completion has three steps; its second names the right or the wrong word, and decides."""
    made = make_world()
    said = pl.col("completion").str.strip_prefix("so ").str.strip_prefix("so ").str.strip_prefix("so ")
    return made.__class__(
        made.problems, made.candidates.with_columns(completion=pl.format("so.\n{}.\nso so.", said)), made.readings
    )


@pytest.fixture(scope="module")
def labels(world):
    steps = beginnings(world.candidates.join(world.split("train"), on=["problem_id", "language"], how="semi"))
    judged = steps.join(world.readings.select(*KEYS, "is_correct"), on=KEYS)
    is_first, is_last = pl.col("step") == 0, pl.col("step") == 2
    rollouts = pl.when(is_last).then(1).otherwise(4)
    right = pl.when(is_first).then(2).when("is_correct").then(rollouts).otherwise(0)
    return check_table("step_labels", judged.with_columns(rollouts=rollouts, right=right))


def train(world, base, folder, labels, *, variants=("multi",), trainings=1, **settings):
    return train_reward_models(
        world.candidates, world.readings, world.split("train"), base=base, folder=folder, variants=variants,
        settings=TrainingSettings(**{"readout": "steps", "loss": "bce", "rows": 40} | settings), trainings=trainings,
        device="cpu", step_labels=labels,
    )  # fmt: skip


def scored(world, folder):
    return score(world.candidates, world.split("test"), folder, device="cpu")


@pytest.mark.parametrize("tuning", ["frozen", "full", "lora"])
def test_every_tuning_learns_where_the_answer_is_decided(world, labels, tiny_policy, tmp_path, tuning):
    pytest.importorskip("peft")
    how = {"full": {"epochs": 6.0, "learning_rate": 3e-3, "batch_pairs": 8},
           "lora": {"epochs": 8.0, "learning_rate": 1e-2, "batch_pairs": 8}}.get(tuning, {})  # fmt: skip
    table = train(
        world,
        tiny_policy,
        tmp_path,
        labels,
        variants=("mono", "multi", "cross"),
        tuning=tuning,
        aggregation="min",
        **how,
    )
    assert table["rows"].to_list() == [40] * (len(WORDS) + 2) and set(table["status"]) == {"trained"}
    found = scored(world, tmp_path)
    of_multi = found.rewards.filter(pl.col("reward_model").is_in(["multi", "cross"]))
    overall = within_problem_auc(of_multi, world.readings).filter(pl.col("language").is_null())
    assert overall.height == 2 and overall["auc"].min() > 0.75
    steps = found.steps.filter(reward_model="multi").join(world.readings, on=KEYS)
    mean = {(s, ok): r for s, ok, r in steps.group_by("step", "is_correct").agg(pl.col("reward").mean()).iter_rows()}
    assert len(mean) == 6 and abs(mean[0, True] - mean[0, False]) < 0.05  # nothing is decided in the first step
    assert min(mean[1, True] - mean[1, False], mean[2, True] - mean[2, False]) > 0.1
    smallest = steps.group_by(KEYS).agg(pl.col("reward").min())
    joined = smallest.join(found.rewards.filter(reward_model="multi"), on=KEYS, suffix="_min")
    assert np.allclose(joined["reward"], joined["reward_min"])


def test_another_aggregation_keeps_the_weights_and_changes_the_rewards(world, labels, tiny_policy, tmp_path):
    train(world, tiny_policy, tmp_path, labels, aggregation="min")
    by_min, weights = scored(world, tmp_path), folder_hash(tmp_path / "multi")
    table = train(world, tiny_policy, tmp_path, labels, aggregation="product")
    by_product = scored(world, tmp_path)
    assert table["status"].to_list() == ["kept"] and folder_hash(tmp_path / "multi") == weights
    assert by_product.steps.equals(by_min.steps) and (by_product.rewards["reward"] < by_min.rewards["reward"]).all()
    expected = by_min.steps.group_by(KEYS, maintain_order=True).agg(pl.col("reward").product())
    assert np.allclose(
        by_product.rewards.join(expected, on=KEYS, suffix="_whole")["reward_whole"], by_product.rewards["reward"]
    )
    assert quality_by_aggregation(by_min.steps, world.readings)["aggregation"].to_list() == [
        "last",
        "min",
        "product",
        "mean",
    ]


def test_other_labels_are_another_recipe(world, labels, tiny_policy, tmp_path):
    train(world, tiny_policy, tmp_path, labels)
    assert train(world, tiny_policy, tmp_path, labels)["status"].to_list() == ["kept"]
    assert train(world, tiny_policy, tmp_path, labels, step_target="any")["status"].to_list() == ["trained"]
    before = folder_hash(tmp_path / "multi")
    fewer = labels.with_columns(right=pl.when(pl.col("step") == 0).then(1).otherwise("right").cast(pl.Int32))
    assert train(world, tiny_policy, tmp_path, fewer, step_target="any")["status"].to_list() == ["kept"]  # same targets
    assert train(world, tiny_policy, tmp_path, fewer)["status"].to_list() == ["trained"]
    assert folder_hash(tmp_path / "multi") != before


def test_the_value_that_is_trained_is_the_one_that_is_scored(tiny_policy, tmp_path):
    settings = TrainingSettings(readout="steps", loss="bce", tuning="full", epochs=1.0, learning_rate=1e-3)
    backbone = RewardBackbone(tiny_policy, readout=Likelihood(), device="cpu")
    read_by(backbone, OwnSteps)
    texts, _ = backbone.whole_texts(PROMPTS, [0, 1, 0, 1], COMPLETIONS)
    for text, marks in zip(texts, backbone.texts.marks, strict=True):
        text["targets"] = [(text["start"] + mark - 1, 0.5) for mark in marks]
    assert [len(marks) for marks in backbone.texts.marks] == [2, 2, 3, 1]
    pairs = [(texts[0], texts[2]), (texts[1], texts[3])]
    finetune(backbone, pairs, [], settings, tmp_path, "r")
    spec = RewardModelSpec(
        "x", "steps", "full", str(tiny_policy), None, "", "native", None, 512, digest=folder_hash(tmp_path)
    )
    opened = open_reward_model(tmp_path, spec, device="cpu")
    found = opened.values(PROMPTS, [0, 1, 0, 1], COMPLETIONS)[0]
    whole = opened.values(PROMPTS, [0, 1, 0, 1], COMPLETIONS, share=False)[0]
    module = finetuning.RewardModule(transformers.AutoModelForCausalLM.from_pretrained(tmp_path), settings)
    module.value_head.weight.data, module.value_head.bias.data = _head(tmp_path)
    batch = finetuning._Collator(backbone.texts.pad)([{"chosen": a, "rejected": b} for a, b in pairs])
    with torch.inference_mode():
        last = torch.sigmoid(module.eval()(**batch)[1]).numpy()
    assert np.allclose(found[[0, 1, 2, 3], -1], last[[0, 1, 2, 3]], atol=1e-5)
    assert np.allclose(found, whole, atol=1e-5, equal_nan=True)
    assert (~np.isnan(found)).sum(1).tolist() == [2, 2, 3, 1]


def _head(folder):
    from safetensors.torch import load_file

    weights = load_file(folder / "readout.safetensors")
    return weights["weight"][None], weights["bias"]


def test_a_completion_that_is_too_long_loses_its_first_steps_and_never_the_last(tiny_policy):
    backbone = RewardBackbone(tiny_policy, readout=Likelihood(), device="cpu", max_tokens=24)
    read_by(backbone, OwnSteps)
    _, body, truncated = backbone.texts.encode(PROMPTS, [0], ["one two. " * 8 + "The end."])
    assert truncated.tolist() == [True] and len(backbone.texts.marks[0]) < 9
    short = RewardBackbone(tiny_policy, readout=Likelihood(), device="cpu")
    read_by(short, OwnSteps)
    _, whole, _ = short.texts.encode(PROMPTS, [0], ["one two. " * 8 + "The end."])
    lost = len(whole[0]) - len(body[0])
    assert backbone.texts.marks[0] == [mark - lost for mark in short.texts.marks[0] if mark > lost]


def test_shares_are_fitted_as_so_many_labelled_rows():
    rng = np.random.default_rng(0)
    features = rng.normal(size=(60, 3))
    targets = rng.integers(0, 5, 60) / 4
    head = fit_values(features, targets, np.arange(60), strengths=[0.1])
    rows = [(x, y) for x, t in zip(features, targets, strict=True) for y in [1] * round(4 * t) + [0] * round(4 - 4 * t)]
    x, y = np.array([x for x, _ in rows]), np.array([y for _, y in rows])
    mean, scale = features.mean(0), features.std(0)

    def loss(v):
        z = ((x - mean) / scale) @ v[:3] + v[3]
        return np.logaddexp(0, np.where(y == 1, -z, z)).mean() + 0.05 * (v[:3] ** 2).sum()

    from scipy.optimize import minimize

    best = minimize(loss, np.zeros(4), tol=1e-12).x
    assert np.allclose(head.weights * scale, best[:3], atol=1e-3)
    assert np.allclose(head.rewards(features), ((features - mean) / scale) @ best[:3] + best[3], atol=1e-3)
    chosen = fit_head(features[:30], features[30:], np.arange(30), "bce", strengths=[0.1])
    same = fit_values(features, np.repeat([1.0, 0.0], 30), np.arange(60), strengths=[0.1])
    assert np.allclose(chosen.weights, same.weights, atol=1e-4)


@pytest.mark.parametrize("target", [0.0, 1.0])
def test_labels_that_are_all_alike_are_refused(target):
    with pytest.raises(ValueError, match=f"all 5 steps have the label {target}.*candidates of more problems"):
        fit_values(np.ones((5, 2)), np.full(5, target), np.arange(5))


def test_what_steps_cannot_be_trained_on_is_refused_with_a_remedy(world, labels, tiny_policy, tmp_path):
    with pytest.raises(ValueError, match=r"there are none; run 12_label_steps first, or use readout 'verifier'"):
        train(world, tiny_policy, tmp_path, None)
    with pytest.raises(ValueError, match="no step of these training candidates is labelled; run 12_label_steps"):
        train(world, tiny_policy, tmp_path, labels.with_columns(sample_index=pl.col("sample_index") + 50))
    with pytest.raises(ValueError, match="end elsewhere than the steps of these candidates; run 12_label_steps again"):
        train(world, tiny_policy, tmp_path, labels.with_columns(end=pl.col("end") - 1))
    with pytest.raises(ValueError, match="readout 'steps' needs loss 'bce', not 'pairwise'"):
        TrainingSettings(readout="steps")
    with pytest.raises(ValueError, match="unknown aggregation 'max'; use one of: last, min, product, mean"):
        TrainingSettings(readout="steps", loss="bce", aggregation="max")
    with pytest.raises(ValueError, match="aggregation and step_target belong to readout 'steps'"):
        TrainingSettings(aggregation="product")


def test_candidates_without_labels_are_not_trained_on(world, labels, tiny_policy, tmp_path):
    half = labels.filter(pl.col("sample_index") < 2)
    kept = world.readings.join(half, on=KEYS, how="semi")
    table = train(world, tiny_policy, tmp_path, half, rows=10_000)
    pairs = kept.group_by("problem_id", "language").agg(
        (pl.col("is_correct").sum() * (~pl.col("is_correct")).sum()).alias("n")
    ).group_by("language").agg(pl.col("n").sum())  # fmt: skip
    assert table["available"].to_list() == [3 * pairs["n"].min()]


def test_where_wrong_solutions_are_lost_is_counted_by_language(labels):
    lost = where_lost(labels)
    whole = lost.row(-1, named=True)
    assert whole["language"] is None and whole["n_candidates"] == labels.select(KEYS).n_unique() and whole["steps"] == 3
    assert (whole["first"], whole["later"], whole["last"]) == (0.0, 1.0, 0.0)
    said = takeaways.steps_lost(lost).data
    assert "3.0 steps" in said and "100.0 % are lost later" in said
    early = labels.with_columns(right=pl.when(pl.col("step") == 0).then(0).otherwise("right"))
    assert where_lost(early).row(-1, named=True)["first"] == 1.0
    none = where_lost(labels.with_columns(right=pl.col("rollouts")))
    assert "None of them is wrong" in takeaways.steps_lost(none).data
