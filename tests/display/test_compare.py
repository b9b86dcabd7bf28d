"""Two runs side by side: what differs, by how much, and why."""

from __future__ import annotations

import base64
import re
from dataclasses import replace

import polars as pl
import pytest
from made_up_runs import write_run

from bestofl_lib.analysis.comparison import compare_runs, completions_side_by_side, curves_side_by_side, settings
from bestofl_lib.display.origin import Origin
from bestofl_lib.display.report.compare import names_of, page, summary, write_page
from bestofl_lib.runs import Run

SHAPE = {"n_problems": 30, "n": 4, "languages": ("en", "th"), "mono": False}


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Runs: `base`; `reread` reads half of Thai worse; `rescored` has other rewards; `redrawn` has other completions."""
    root = tmp_path_factory.mktemp("runs")
    for name in ("base", "reread", "rescored"):
        write_run(root, name, **SHAPE)
    write_run(root, "redrawn", seed=6, **SHAPE)
    worse = (pl.col("language") == "th") & pl.col("is_correct") & (pl.col("sample_index") < 2)
    run = Run("reread", root)
    readings = run.read("readings").with_columns(
        answer=pl.when(worse).then(pl.lit("7")).otherwise("answer"), is_correct=pl.col("is_correct") & ~worse
    )
    run.write("readings", readings)
    run = Run("rescored", root)
    run.write("rewards", run.read("rewards").with_columns(reward=-pl.col("reward")))
    return root


def against_base(root, name):
    return compare_runs(Run("base", root), Run(name, root))


def test_a_change_of_reading_is_put_down_to_reading(root):
    found = against_base(root, "reread")
    thai = found.languages.filter(pl.col("language") == "th").row(0, named=True)
    english = found.languages.filter(pl.col("language") == "en").row(0, named=True)
    assert found.counts["same"] == found.counts["first"] == 240 and found.counts["rejudged"] > 0
    assert thai["by_reading"] == pytest.approx(thai["difference"]) and thai["by_reading"] == pytest.approx(
        -found.counts["rejudged"] / 120
    )
    assert thai["by_sampling"] == pytest.approx(0) and thai["p_holm"] < 0.05 and thai["high"] < 0
    assert english["difference"] == 0 and english["p_holm"] == 1


def test_a_change_of_rewards_moves_only_what_goes_by_rewards(root):
    found = against_base(root, "rescored")
    moved = {(row["strategy"], row["reward_model"]): row["difference"] for row in found.arms.iter_rows(named=True)}
    assert found.counts["rescored"] == 240 and found.counts["reread"] == 0
    assert moved["best_of_k", "cross"] < -0.1
    assert moved["random", None] == moved["majority", None] == moved["oracle", None] == 0
    assert found.flips.height > 0 and set(found.flips["why"]) == {"8 other rewards"}
    assert all((row["first"] > 0.5) != (row["second"] > 0.5) for row in found.flips.iter_rows(named=True))


def test_other_completions_are_put_down_to_sampling(root):
    found = against_base(root, "redrawn")
    for row in found.languages.iter_rows(named=True):
        assert row["by_sampling"] + row["by_reading"] == pytest.approx(row["difference"])
        assert row["by_reading"] == 0
    assert found.counts["same"] < 240


def test_shares_are_means_over_problems(root):
    found = against_base(root, "redrawn")
    for name, column in (("base", "first"), ("redrawn", "second")):
        readings = (
            Run(name, root).read("readings").group_by("language").agg(pl.col("is_correct").mean()).sort("language")
        )
        assert found.languages.sort("language")[column].to_list() == pytest.approx(readings["is_correct"].to_list())


def test_one_flipped_problem_is_never_significant(root, tmp_path):
    write_run(tmp_path, "one", **SHAPE)
    run = write_run(tmp_path, "two", **SHAPE)
    readings = run.read("readings")
    key = readings.filter(pl.col("is_correct")).row(0, named=True)
    hit = (pl.col("problem_id") == key["problem_id"]) & (pl.col("language") == key["language"])
    run.write(
        "readings",
        readings.with_columns(
            is_correct=pl.col("is_correct") & ~hit, answer=pl.when(hit).then(pl.lit("7")).otherwise("answer")
        ),
    )
    found = compare_runs(Run("one", tmp_path), run)
    assert found.languages["p"].to_list() == [1.0, 1.0] and (found.arms["p_holm"] == 1.0).all()


def test_settings_are_told_apart_by_step():
    def record(temperature, code, epochs):
        return {"notebooks": {
            "01_generate_candidates": {"parameters": {"temperature": temperature, "run": str(code)}, "versions": {"torch": "2.13"}},
            "03_check_answers": {"library": {"bestofl_lib/answers/reading.py": code}, "parameters": {}},
            "04_train_reward_models": {"parameters": {"epochs": epochs}},
        }}  # fmt: skip

    table = settings(record(0.7, "a", 1), record(1.0, "b", 1))
    assert table.rows() == [
        ("sampling", "temperature", "0.7", "1.0"),
        ("reading", "code of bestofl_lib/answers/reading.py", "one", "another"),
    ]
    assert settings(record(0.7, "a", 1), record(0.7, "a", 2))["step"].to_list() == ["rewards"]
    assert settings({}, {}).is_empty()


def test_the_terminal_says_it_in_a_few_lines(root):
    lines = summary(against_base(root, "reread"), {"base": "base", "reread": "reread"})
    assert len(lines) < 16 and "reread against base, on 30 problems in 2 languages" in lines[0]
    assert any("Thai −" in line for line in lines) and any(
        line.strip().startswith("best of k by cross") for line in lines
    )


def test_the_page_holds_no_script_and_asks_for_nothing(root, tmp_path):
    runs = [Run("base", root), Run("rescored", root)]
    (tmp_path / "base").mkdir()
    (tmp_path / "base" / "atlas.html").write_text("")
    text = write_page(runs, [compare_runs(*runs)], tmp_path).read_text("utf8")
    assert "<script" not in text and "http" not in text.replace("http-equiv", "") and "default-src 'none'" in text
    assert 'href="base/atlas.html#lab-test-' in text and 'href="rescored/atlas.html' not in text
    assert (tmp_path / "compare-base-rescored.html").exists()


def test_several_runs_stand_in_one_chart_and_side_by_side(root, tmp_path):
    runs = [Run(name, root) for name in ("base", "rescored", "redrawn")]
    found = [compare_runs(runs[0], other) for other in runs[1:]]
    text = write_page(runs, found, tmp_path).read_text("utf8")
    assert (tmp_path / "compare-base-rescored-redrawn.html").exists()
    for name in ("rescored", "redrawn"):
        assert f"<h2>{name} (made-up) against base (made-up)</h2>" in text
    pictures = [base64.b64decode(part).decode() for part in re.findall(r"data:image/svg\+xml;base64,([\w+/=]+)", text)]
    phone, page = (float(re.search(r'viewBox="0 0 ([\d.]+)', picture)[1]) for picture in pictures)
    assert phone < 400 < page, "one picture for a phone, one for a page"
    for picture in pictures:
        assert all(f"{run.name} (made-up)" in picture for run in runs)
        assert "runs base, rescored, redrawn" in picture and "30 problems in 2 languages" in picture
    problem = found[0].flips["problem_id"][0]
    shown = completions_side_by_side(runs, [problem])
    assert shown["run"].to_list() == [run.name for run in runs] and text.count(f"<h3>{problem}: right answer") == 1
    best = runs[0].read("rewards").filter((pl.col("problem_id") == problem) & (pl.col("reward_model") == "cross"))
    key = best.sort("reward").row(-1, named=True)
    assert shown["language"][0] == key["language"]
    texts = runs[0].candidates().filter(
        (pl.col("problem_id") == problem) & (pl.col("language") == key["language"]) & (pl.col("sample_index") == key["sample_index"])
    )  # fmt: skip
    assert shown["completion"][0] == texts["completion"][0]


@pytest.mark.slow
def test_each_difference_is_drawn_in_its_own_row(root, tmp_path, opened):
    runs = [Run("base", root), Run("rescored", root)]
    page, _, said = opened(write_page(runs, [compare_runs(*runs)], tmp_path))
    outside = page.evaluate("""() => Array.from(document.querySelectorAll('.forest .dot')).filter((dot) => {
        const [a, b] = [dot.getBoundingClientRect(), dot.closest('tr').getBoundingClientRect()];
        return a.top < b.top || a.bottom > b.bottom;
    }).length""")
    assert page.locator(".forest .dot").count() > 4 and outside == 0 and not said


def test_curves_side_by_side_are_those_of_each_run(root):
    runs = [Run(name, root) for name in ("base", "redrawn")]
    table = curves_side_by_side(runs, replicates=100)
    found = compare_runs(*runs)
    for row in found.arms.iter_rows(named=True):
        mine = table.filter(
            (pl.col("strategy") == row["strategy"])
            & pl.col("reward_model").eq_missing(pl.lit(row["reward_model"]))
            & (pl.col("budget") == row["budget"])
        )
        assert dict(mine.select("run", "accuracy").iter_rows()) == pytest.approx(
            {"base": row["first"], "redrawn": row["second"]}
        )


def test_runs_are_called_by_their_models_where_these_differ(root, monkeypatch):
    runs = [Run(name, root) for name in ("base", "redrawn")]
    assert names_of(runs) == {"base": "base (made-up)", "redrawn": "redrawn (made-up)"}
    origins = {"base": ("Qwen",), "redrawn": ("Gemma",)}
    monkeypatch.setattr("bestofl_lib.display.report.compare.origin", lambda run: Origin("p", origins[run.name], "", ""))
    assert names_of(runs) == {"base": "Qwen", "redrawn": "Gemma"}


def test_expressions_are_typeset_and_scripts_within_them_are_text(root, tmp_path):
    root_of_three, bad = r"\frac{\sqrt{3}}{2}", r"\text{</td><script>1</script>}^2"
    texts = completions_side_by_side([Run("base", root)], ["lab-test-0001"]).with_columns(
        reference=pl.lit(root_of_three),
        answer=pl.lit(bad),
        is_correct=pl.lit(False),
        completion=pl.lit(rf"So it is $\boxed{{{root_of_three}}}$ < 1"),
    )
    names = {"base": "base", "rescored": "rescored"}
    text = page([against_base(root, "rescored")], names, tmp_path, "<svg></svg>", texts)
    assert text.count("<msqrt>") == 2 and "&lt; 1" in text and r"\boxed" not in text
    assert "<script" not in text and "✗ wrong: <math" in text


def test_text_in_a_run_is_inert_on_the_page(root, tmp_path):
    found = against_base(root, "rescored")
    bad = "</td><script>window.PWN=1</script>"
    rows = pl.DataFrame({"step": [bad], "what": [bad], "first": [bad], "second": [bad]})
    texts = completions_side_by_side([Run("base", root)], ["lab-test-0001"]).with_columns(
        completion=pl.lit(bad), question=pl.lit(bad)
    )
    changed = replace(found, settings=rows, flips=found.flips.with_columns(why=pl.lit(bad)))
    text = page([changed], {"base": bad, "rescored": bad}, tmp_path, ["<svg></svg>"] * 2, texts)
    assert "<script" not in text and "&lt;script&gt;" in text


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda table: table.with_columns(problem_id=pl.lit("other-") + pl.col("problem_id")), "share no problem"),
        (lambda table: table.with_columns(reference=pl.lit("99999")), "has the reference"),
    ],
)
def test_runs_about_different_problems_are_refused(root, tmp_path, change, message):
    write_run(tmp_path, "here", **SHAPE)
    run = write_run(tmp_path, "there", **SHAPE)
    for name in ("problems", "readings"):
        table = run.read(name)
        if name == "problems" or "other" in str(change(run.read("problems"))["problem_id"][0]):
            run.write(name, change(table) if "reference" in table.columns or message == "share no problem" else table)
    with pytest.raises(ValueError, match=message):
        compare_runs(Run("here", tmp_path), run)


def test_a_run_is_not_compared_with_itself_or_with_none(root):
    with pytest.raises(ValueError, match="compared with itself"):
        against_base(root, "base")
    with pytest.raises(FileNotFoundError, match="no run 'nowhere'"):
        against_base(root, "nowhere")
