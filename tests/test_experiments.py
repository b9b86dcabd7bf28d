"""Ways to train reward models are compared on the dev split, each from the data that it names."""

from __future__ import annotations

import polars as pl
import pytest
from made_up_world import make_world

pytest.importorskip("torch")

from bestofl_lib.analysis.reward_quality import within_problem_auc
from bestofl_lib.display import charts, takeaways
from bestofl_lib.experiments import OWN, Trial, compare_trials, training_part, trials_of
from bestofl_lib.rewards.scoring import score
from bestofl_lib.rewards.spec import TrainingSettings
from bestofl_lib.tables import KEY

SETTINGS = TrainingSettings(rows=40, readout="probe")


@pytest.fixture(scope="module")
def world():
    """Half of the problems train, half are the dev split."""
    made = make_world()
    dev = pl.col("split").replace({"test": "dev"})
    return made.problems.with_columns(dev), made.candidates, made.readings


@pytest.fixture(scope="module")
def compared(world, tiny_policy, tmp_path_factory):
    problems, candidates, readings = world
    folder = tmp_path_factory.mktemp("trials")
    trials = trials_of(tiny_policy, SETTINGS, ["rows 12", "languages 2", "readout head, loss bce"])
    return compare_trials(
        candidates, readings, problems, trials=trials, folder=folder, trainings=2, device="cpu"
    ), folder


def test_each_trial_changes_what_it_names_and_nothing_else():
    own, few, two = trials_of("policy", SETTINGS, ["rows 12", "languages 2, loss bce, base other"])
    assert own == Trial(OWN, SETTINGS, "policy")
    assert (few.settings.rows, few.settings.readout, few.base) == (12, "probe", "policy")
    assert (two.languages, two.settings.loss, two.settings.rows, two.base) == (2, "bce", 40, "other")


def test_ways_that_differ_in_the_aggregation_of_steps_alone_share_their_trainings():
    settings = TrainingSettings(readout="steps", loss="bce")
    trials = trials_of(
        "policy", settings, ["aggregation min", "rows 12", "aggregation mean, rows 12", "rows 12, base a"]
    )
    assert [trial.place for trial in trials] == ["as_the_run", "as_the_run", "rows_12", "rows_12", "rows_12__base_a"]


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ("rows", "a name and its value"),
        ("row 5", "did you mean 'rows'"),
        ("seed 5", "is not a change"),
        ("rows many", "integer"),
        ("rows 0", "above 0"),
        ("loss hinge", "use one of: pairwise, bce"),
        ("tuning lora", "probe"),
        ("english 1.5", "use a share"),
        ("  ", "is not a change"),
    ],
)
def test_what_is_no_change_is_refused_with_what_would_be(change, told):
    with pytest.raises(ValueError, match=told):
        trials_of("policy", SETTINGS, [change])


def test_every_trial_is_judged_on_dev_over_its_trainings(compared):
    table, _ = compared
    assert table["trial"].unique(maintain_order=True).to_list() == [
        OWN, "rows 12", "languages 2", "readout head, loss bce"
    ]  # fmt: skip
    assert set(table["trainings"]) == {2} and set(table["n_problems"]) <= set(range(1, 13))
    rows = {(trial, model): n for trial, model, n, *_ in table.iter_rows()}
    assert rows[OWN, "cross"] == 40 and rows["rows 12", "cross"] == 12
    assert table["auc"].is_between(table["low"], table["high"]).all()
    assert table["across"].null_count() == 0
    for name in ("mixed", "english"):
        assert table[name].is_between(table[f"{name}_low"], table[f"{name}_high"]).all()


def test_the_best_completion_is_chosen_by_the_rewards_of_each_training(compared, world):
    table, folder = compared
    problems, candidates, readings = world
    shares = []
    for seed in range(2):
        place = folder / "rows_12" / str(seed)
        rewards = score(candidates, problems.filter(pl.col("split") == "dev"), place, device="cpu").rewards
        mine = rewards.filter((pl.col("reward_model") == "cross") & (pl.col("language") == "en"))
        judged = mine.join(readings.select(*KEY, "is_correct"), on=list(KEY))
        best = judged.filter(pl.col("reward") == pl.col("reward").max().over("problem_id"))
        shares += best.group_by("problem_id").agg(pl.col("is_correct").mean())["is_correct"].to_list()
    row = table.filter((pl.col("trial") == "rows 12") & (pl.col("reward_model") == "cross"))
    assert row["english"].item() == pytest.approx(sum(shares) / len(shares))


def test_what_was_trained_is_not_trained_again_and_each_way_is_told_when_it_is_done(
    compared, world, tiny_policy, capsys
):
    table, folder = compared
    problems, candidates, readings = world
    heads = {path: path.stat().st_mtime_ns for path in folder.rglob("head.safetensors")}
    assert len(heads) == 4 * 2 * 2
    again = compare_trials(
        candidates, readings, problems, trials=trials_of(tiny_policy, SETTINGS, ["rows 12"]), folder=folder,
        trainings=2, device="cpu",
    )  # fmt: skip
    told = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0] for line in told] == [OWN, "rows 12"]
    assert f"AUC multi {table['auc'][0]:.3f}, cross {table['auc'][1]:.3f}" in told[0]
    assert again.equals(table.filter(pl.col("trial").is_in([OWN, "rows 12"]))), "seconds are those of the training"
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("head.safetensors")} == heads


def test_models_of_single_languages_are_one_way_each_in_its_language(world, tiny_policy, tmp_path):
    problems, candidates, readings = world
    table = compare_trials(
        candidates, readings, problems, trials=trials_of(tiny_policy, SETTINGS, []), folder=tmp_path,
        variants=("mono", "cross"), trainings=2, device="cpu",
    )  # fmt: skip
    assert table["reward_model"].to_list() == ["mono", "cross"] and set(table["trainings"]) == {2}
    assert table.null_count().sum_horizontal().item() == 0
    dev = problems.filter(pl.col("split") == "dev")
    rewards = pl.concat(score(candidates, dev, tmp_path / "as_the_run" / str(i), device="cpu").rewards for i in (0, 1))
    own = within_problem_auc(rewards.filter(pl.col("reward_model") != "cross"), readings).drop_nulls("language")
    assert own["reward_model"].to_list() == [f"mono-{code}" for code in own["language"]]
    assert table["auc"][0] == pytest.approx((own["auc"] * own["n_problems"]).sum() / own["n_problems"].sum())
    assert charts.reward_trials(table) and "mono ranks best" in takeaways.reward_trials(table).data


def test_languages_and_the_share_of_english_shape_what_is_learnt_from(world):
    problems, candidates, _ = world
    train = problems.filter(pl.col("split") == "train")
    two = [training_part(candidates, train, Trial("two", SETTINGS, "policy", languages=2), seed) for seed in range(9)]
    assert {part["language"].n_unique() for part in two} == {2}
    assert len({tuple(sorted(part["language"].unique())) for part in two}) > 1, "each training draws its own"
    for share in (0.2, 0.5, 0.8):
        part = training_part(candidates, train, Trial("share", SETTINGS, "policy", english=share), 0)
        assert (part["language"] == "en").mean() == pytest.approx(share, abs=0.02)
        whole = (
            part.group_by("problem_id", "language")
            .len()
            .join(candidates.group_by("problem_id", "language").len(), on=["problem_id", "language", "len"], how="anti")
        )
        assert whole.is_empty(), "single candidates make no pairs: a problem of a language is left out or kept whole"
    with pytest.raises(ValueError, match="3 languages"):
        training_part(candidates, train, Trial("four", SETTINGS, "policy", languages=4), 0)


def test_without_a_dev_split_it_says_how_to_draw_one(world, tiny_policy, tmp_path):
    problems, candidates, readings = world
    train = problems.filter(pl.col("split") == "train")
    with pytest.raises(ValueError, match="dev_problems=100"):
        compare_trials(candidates, readings, train, trials=trials_of(tiny_policy, SETTINGS, []), folder=tmp_path)


def test_chart_and_sentence_name_the_best_way(compared):
    table, _ = compared
    best = table.filter(pl.col("reward_model") == "cross").sort("auc").row(-1, named=True)
    assert f"cross ranks best with *{best['trial']}*, {best['auc']:.3f}" in takeaways.reward_trials(table).data
    top = table.sort("across").row(-1, named=True)
    for measure in ("mixed", "english"):
        assert "best candidate" in str(charts.reward_trials(table, measure).to_dict())
    spec = charts.reward_trials(table, "across").to_dict()
    assert f"{top['reward_model']} ranks best with {top['trial']}".casefold() in str(spec["title"]).casefold()
