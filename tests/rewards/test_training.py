"""Training: every variant gets the same rows, the result opens again, and nothing is trained or trusted by mistake."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from typer.testing import CliRunner

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from bestofl_lib.analysis.arrays import CandidateArrays  # noqa: E402
from bestofl_lib.analysis.claims import claims_of  # noqa: E402
from bestofl_lib.analysis.reward_quality import across_language_accuracy, within_problem_auc  # noqa: E402
from bestofl_lib.cli import app  # noqa: E402
from bestofl_lib.display.charts.claims import claim_controls, claim_details  # noqa: E402
from bestofl_lib.display.report.overview import overview  # noqa: E402
from bestofl_lib.rewards import forecast  # noqa: E402
from bestofl_lib.rewards.opening import export_reward_model, import_reward_model, open_reward_model  # noqa: E402
from bestofl_lib.rewards.scoring import score  # noqa: E402
from bestofl_lib.rewards.spec import RewardModelSpec, TrainingSettings, reward_models  # noqa: E402
from bestofl_lib.rewards.training import train_reward_models  # noqa: E402
from bestofl_lib.rewards.ways import ExternalModel  # noqa: E402
from bestofl_lib.runs import Run  # noqa: E402
from bestofl_lib.tables import KEY  # noqa: E402


def _train(
    world, base, folder, *, problems=None, readings=None, variants=("mono", "multi", "cross"), trainings=1, **settings
):
    return train_reward_models(
        world.candidates,
        world.readings if readings is None else readings,
        world.split("train") if problems is None else problems,
        base=base,
        folder=folder,
        variants=variants,
        settings=TrainingSettings(**{"rows": 40} | settings),
        trainings=trainings,
        device="cpu",
    )


@pytest.fixture(scope="module")
def trained(world, tiny_policy, tmp_path_factory):
    folder = tmp_path_factory.mktemp("reward_models")
    return folder, _train(world, tiny_policy, folder)


def test_all_variants_are_trained_on_the_same_number_of_rows(trained):
    table = trained[1]
    assert table["reward_model"].to_list() == ["mono-en", "mono-sw", "mono-zh", "multi", "cross"]
    assert table["rows"].to_list() == [40] * 5
    assert set(table["status"]) == {"trained"}


def test_the_variant_with_the_fewest_pairs_sets_the_rows_of_all(world, tiny_policy, tmp_path):
    few = world.readings.with_columns(
        is_correct=pl.col("is_correct") & ((pl.col("language") != "sw") | (pl.col("problem_id") < "p08"))
    )
    table = _train(world, tiny_policy, tmp_path, readings=few)
    assert table["rows"].to_list() == [4 * 4] * 5


def test_heads_learn_what_the_text_gives_away_within_and_across_languages(world, trained):
    scores = score(world.candidates, world.split("test"), trained[0], device="cpu")
    assert within_problem_auc(scores.rewards, world.readings)["auc"].min() > 0.8
    across = across_language_accuracy(scores.rewards, world.readings)
    assert (
        across.filter(pl.col("reward_model") == "cross", pl.col("chosen_language").is_null())["accuracy"].item() > 0.8
    )


def test_a_head_with_the_same_recipe_is_kept_and_a_changed_setting_trains_again(world, tiny_policy, trained, tmp_path):
    folder = shutil.copytree(trained[0], tmp_path / "again")
    assert set(_train(world, tiny_policy, folder)["status"]) == {"kept"}
    assert _train(world, tiny_policy, folder)["rows"].to_list() == [40] * 5
    for change in ({"loss": "bce"}, {"rows": 20}, {"seed": 1}, {"style": "question"}):
        assert "kept" not in _train(world, tiny_policy, folder, **change)["status"].to_list(), change


def test_an_exported_head_is_an_ordinary_checkpoint_with_the_same_rewards(world, trained, tmp_path):
    folder = trained[0]
    target = export_reward_model(folder / "cross", tmp_path / "cross")
    assert sorted(p.suffix for p in target.iterdir() if "model" in p.name) == [".safetensors"]
    import_reward_model(ExternalModel(str(target), "exported"), tmp_path / "imported", style="native")
    test = world.split("test")
    ours = score(world.candidates, test, folder, names=["cross"], device="cpu").rewards.sort(
        "problem_id", "language", "sample_index"
    )
    theirs = score(world.candidates, test, tmp_path / "imported", device="cpu").rewards
    theirs = theirs.sort("problem_id", "language", "sample_index")
    offset = RewardModelSpec.read(folder / "cross").offset
    assert np.allclose(ours["reward"] - offset, theirs["reward"], atol=1e-4)


def test_a_reward_model_is_exported_from_the_command_line(trained, tmp_path, monkeypatch):
    monkeypatch.setenv("BESTOFL_RUNS", str(tmp_path / "runs"))
    run = tmp_path / "runs" / "mine"
    shutil.copytree(trained[0], run / "reward_models")
    (run / "run.json").write_text("{}")
    asked = ["export", "mine", "cross", "--to", str(tmp_path / "out")]
    answer = CliRunner().invoke(app, asked)
    assert answer.exit_code == 0 and (tmp_path / "out" / "model.safetensors").exists(), answer.output
    assert "exists already" in CliRunner().invoke(app, asked).stderr
    assert "did you mean 'cross'" in CliRunner().invoke(app, ["export", "mine", "crss", "--to", "x"]).stderr


def test_a_probe_learns_too_and_says_that_it_is_no_ordinary_checkpoint(world, tiny_policy, tmp_path):
    _train(world, tiny_policy, tmp_path / "rm", variants=["multi"], readout="probe")
    rewards = score(world.candidates, world.split("test"), tmp_path / "rm", device="cpu").rewards
    assert within_problem_auc(rewards, world.readings)["auc"].min() > 0.8
    with pytest.raises(ValueError, match="'multi' has readout 'probe'"):
        export_reward_model(tmp_path / "rm" / "multi", tmp_path / "out")


def test_a_policy_that_changed_after_the_head_was_trained_is_noticed(world, tiny_policy, tmp_path):
    base = shutil.copytree(tiny_policy, tmp_path / "policy")
    _train(world, base, tmp_path / "rm", variants=["multi"])
    config = json.loads((base / "config.json").read_text())
    (base / "config.json").write_text(json.dumps(config | {"rms_norm_eps": 0.1}))
    with pytest.raises(ValueError, match="'multi' was trained on other weights"):
        score(world.candidates, world.split("test"), tmp_path / "rm", device="cpu")


def test_problems_that_a_model_learnt_from_are_never_scored(world, trained):
    with pytest.raises(ValueError, match="was trained on 12 of the problems to be scored"):
        score(world.candidates, world.problems, trained[0], device="cpu")


def test_cross_fitting_scores_every_problem_by_a_model_that_did_not_see_it(world, tiny_policy, tmp_path):
    table = _train(world, tiny_policy, tmp_path, problems=world.problems, variants=["mono-en", "cross"], folds=3)
    assert table.height == 6
    assert table["rows"].n_unique() == 1
    rewards = score(world.candidates, world.problems, tmp_path, device="cpu").rewards
    assert rewards.filter(pl.col("reward_model") == "cross").height == world.candidates.height
    assert rewards.filter(pl.col("reward_model") == "mono-en").height == world.candidates.height // 3
    assert within_problem_auc(rewards, world.readings)["auc"].min() > 0.7


def test_a_frozen_base_is_trained_three_times_by_default_and_every_training_scores(world, tiny_policy, tmp_path):
    table = _train(world, tiny_policy, tmp_path, variants=["mono-en", "cross"], trainings=None)
    assert table.select("reward_model", "seed").rows() == [(m, s) for m in ("mono-en", "cross") for s in (0, 1, 2)]
    assert table["rows"].to_list() == [40] * 6
    test = world.split("test")
    scores = score(world.candidates, test, tmp_path, device="cpu")
    cross = scores.rewards.filter(pl.col("reward_model") == "cross")
    first, second = (cross.filter(pl.col("seed") == seed).sort(*KEY)["reward"] for seed in (0, 1))
    assert first.len() == second.len() == len(cross) // 3
    assert not np.allclose(first, second)  # other pairs, another model
    assert scores.summary.filter(pl.col("reward_model") == "cross")["candidates"].item() == first.len()
    found = CandidateArrays.of(world.candidates, world.readings, scores.rewards, world.problems)
    assert found.seeds == (0, 1, 2)


def test_a_frozen_base_says_first_how_many_trainings_there_are_their_memory_and_time(
    world, tiny_policy, tmp_path, capsys, monkeypatch
):
    monkeypatch.setattr(forecast, "_TRIED", (4, 8))
    monkeypatch.setattr(forecast, "WORTH_SAYING", 0.0)
    settings = TrainingSettings(folds=2, readout="probe")
    arguments = dict(base=tiny_policy, settings=settings, variants=("multi", "cross"), trainings=None, device="cpu")
    train_reward_models(world.candidates, world.readings, world.problems, folder=tmp_path / "a", **arguments)
    first, rest = capsys.readouterr().out.splitlines()
    assert re.match(
        r"12 trainings \(probe, frozen\) of \d+ pairs: one pass over \d+ completions, about .* at [\d,.e+]+ "
        r"completions/s \(measured now\); memory at most \d+\.\d GB, .* GB are free",
        first,
    )
    assert re.match(r"1 of 12 trained in .*, about .* left", rest)
    shutil.copytree(tmp_path / "a" / "cache", tmp_path / "b" / "cache")
    train_reward_models(world.candidates, world.readings, world.problems, folder=tmp_path / "b", **arguments)
    assert "nothing to read, all are known" in capsys.readouterr().out


def test_a_slow_first_pass_does_not_count_for_the_forecast(world, tiny_policy, tmp_path, capsys, monkeypatch):
    """The first few texts warm up; taken for the speed, they forecast 50 minutes for half a minute."""
    seconds = iter([100.0, 4.0])
    read = forecast.cached_values
    monkeypatch.setattr(forecast, "cached_values", lambda *given: replace(read(*given), seconds=next(seconds)))
    settings = TrainingSettings(readout="probe")
    train_reward_models(
        world.candidates, world.readings, world.problems, base=tiny_policy, folder=tmp_path, settings=settings,
        variants=("cross",), device="cpu",
    )  # fmt: skip
    assert "at 1 completions/s (measured now)" in capsys.readouterr().out  # four more in four seconds


def test_trainings_with_other_seeds_are_not_left_behind_to_be_scored(world, tiny_policy, tmp_path):
    _train(world, tiny_policy, tmp_path, variants=["cross"], trainings=2)
    again = _train(world, tiny_policy, tmp_path, variants=["cross"])
    assert again["status"].to_list() == ["kept"]
    assert score(world.candidates, world.split("test"), tmp_path, device="cpu").rewards["seed"].unique().to_list() == [
        0
    ]


def test_cross_fitted_trainings_divide_the_problems_each_in_its_own_way(world, tiny_policy, tmp_path):
    table = _train(world, tiny_policy, tmp_path, problems=world.problems, variants=["cross"], folds=2, trainings=2)
    assert table.select("seed", "fold").rows() == [(0, 0), (0, 1), (1, 0), (1, 1)]
    rewards = score(world.candidates, world.problems, tmp_path, device="cpu").rewards
    assert rewards.height == 2 * world.candidates.height


def test_full_tuning_learns_saves_safetensors_and_opens_again(world, tiny_policy, tmp_path):
    _train(world, tiny_policy, tmp_path, variants=["cross"], tuning="full", epochs=6, learning_rate=3e-3, batch_pairs=8)
    names = {path.name for path in (tmp_path / "cross").iterdir()}
    assert {"model.safetensors", "tokenizer.json", "reward_model.json"} <= names
    assert not {n for n in names if n.endswith((".bin", ".pt")) or n == "checkpoints"}
    scores = score(world.candidates, world.split("test"), tmp_path, device="cpu")
    assert within_problem_auc(scores.rewards, world.readings)["auc"].min() > 0.8


def test_an_adapter_is_trained_and_merged_back(world, tiny_policy, tmp_path):
    pytest.importorskip("peft")
    settings = {"epochs": 1.0, "learning_rate": 1e-2, "batch_pairs": 8, "loss": "bce"}
    _train(world, tiny_policy, tmp_path, variants=["multi"], tuning="lora", **settings)
    assert (tmp_path / "multi" / "adapter_model.safetensors").exists()
    opened = open_reward_model(tmp_path / "multi", RewardModelSpec.read(tmp_path / "multi"), device="cpu")
    plain = transformers.AutoModelForCausalLM.from_pretrained(tiny_policy)
    name = "model.layers.0.self_attn.q_proj.weight"
    assert not torch.equal(dict(opened.model.named_parameters())[name], dict(plain.named_parameters())[name])
    assert score(world.candidates, world.split("test"), tmp_path, device="cpu").rewards.height == 144


def test_settings_that_do_not_exist_or_do_not_apply_are_refused(world, tiny_policy, tmp_path, monkeypatch):
    for settings, words in (
        ({"loss": "hinge"}, "unknown loss 'hinge'; use one of: pairwise, bce"),
        ({"tuning": "head"}, "unknown tuning 'head'; use one of: frozen, lora, full"),
        ({"readout": "heads"}, "unknown readout 'heads'; use one of: head, probe, implicit, verifier"),
        ({"readout": "implicit"}, "readout 'implicit' needs tuning 'lora' or 'full'"),
        ({"hold_out": 0.1}, "hold_out: tuning 'frozen' is solved exactly"),
        ({"readout": "probe", "tuning": "full"}, "readout 'probe' needs tuning 'frozen'"),
        ({"rows": 0}, "rows=0: use a number above 0"),
        ({"epochs": 3.0}, "epochs: tuning 'frozen' is solved exactly and has no such setting"),
        ({"variants": ["multy"]}, "unknown reward model variant 'multy'"),
        ({"base": "no/such/model/here"}, "no model folder 'no/such/model/here'"),
        (
            {"problems": world.problems.with_columns(problem_id=pl.lit("x") + pl.col("problem_id"))},
            "of 288 candidates none belongs",
        ),
    ):
        with pytest.raises((ValueError, FileNotFoundError), match=words):
            _train(world, settings.pop("base", tiny_policy), tmp_path, **settings)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"needs peft, which is not installed; pip install 'bestofl\[lora\]'"):
        _train(world, tiny_policy, tmp_path, tuning="lora")
    with pytest.raises(FileNotFoundError, match="run 04_train_reward_models first"):
        reward_models(tmp_path / "nothing")


def test_a_language_without_pairs_is_reported_and_the_others_are_trained(world, tiny_policy, tmp_path):
    never = world.readings.with_columns(is_correct=pl.col("is_correct") & (pl.col("language") != "zh"))
    table = _train(world, tiny_policy, tmp_path, readings=never, rows=20)
    assert table.filter(pl.col("status").str.starts_with("no pairs"))["reward_model"].to_list() == ["mono-zh"]
    assert set(table.filter(pl.col("status") == "trained")["rows"]) == {20}
    hopeless = world.readings.with_columns(is_correct=pl.lit(False))
    none = _train(world, tiny_policy, tmp_path / "none", readings=hopeless)
    assert set(none["status"]) == {"no pairs: 0 of 144 training candidates are correct"}
    scores = score(world.candidates, world.split("test"), tmp_path / "none", device="cpu")
    assert (scores.rewards.height, scores.summary.height) == (0, 0)


def test_a_name_of_a_trained_variant_cannot_be_taken_by_an_import(tiny_policy, tmp_path):
    with pytest.raises(ValueError, match="'mono-en' belongs to a trained variant"):
        import_reward_model(ExternalModel(str(tiny_policy), "mono-en"), tmp_path)
    with pytest.raises(ValueError, match="is a language model; say how its reward is read"):
        import_reward_model(ExternalModel(str(tiny_policy), "tiny"), tmp_path)


def test_without_right_answers_the_study_goes_on_and_its_first_page_says_what_is_needed(world, tiny_policy, tmp_path):
    wrong = world.readings.with_columns(is_correct=pl.lit(False))
    trained = _train(world, tiny_policy, tmp_path / "reward_models", readings=wrong)
    scores = score(world.candidates, world.split("test"), tmp_path / "reward_models", device="cpu")
    assert scores.rewards.is_empty()
    arrays = CandidateArrays.of(world.candidates, wrong, scores.rewards, world.problems)
    found = claims_of(arrays, trained=trained)
    needed = (
        "0 of 144 training candidates are correct.*draw more candidates, or take easier problems or a stronger model"
    )
    for claim in ("H1", "H2"):
        row = found.claims.filter(claim=claim).row(0, named=True)
        assert row["verdict"] == "not tested" and re.search(needed, row["sentence"])
    for chart, table in ((claim_details, found.details.clear()), (claim_controls, found.controls)):
        chart(table).to_dict()
    run = Run("weak", tmp_path / "runs")
    for name, table in (("problems", world.problems), ("claims", found.claims), ("trained", trained)):
        run.write(name, table)
    tiles = overview(run, "", judged=True).tiles
    assert [tile.verdict for tile in tiles[:2]] == ["not tested", "not tested"]
    assert all(re.search(needed, tile.sentence) for tile in tiles[:2])
