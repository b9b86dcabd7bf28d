"""The explorer's widget: asks `analysis/run_scan.py` and `analysis/what_if.py` for what was chosen, and shows it.

It holds the choices of one run and remembers them for the next time the cell runs. It computes no figure, and draws
nothing itself: the page is `view.js` and `view.css`, which insert every text as text.
"""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import anywidget
import polars as pl
import traitlets

from bestofl_lib.analysis import run_scan
from bestofl_lib.analysis.arms import REWARDED
from bestofl_lib.analysis.picks import pick_candidates
from bestofl_lib.analysis.reading_quality import precision_of_reader
from bestofl_lib.analysis.what_if import Numbers, averaged
from bestofl_lib.display import words
from bestofl_lib.display.embed import asset
from bestofl_lib.display.explorer import state as choices
from bestofl_lib.display.explorer.problem import precision, problem_view
from bestofl_lib.display.explorer.what_if import describe, what_if_view
from bestofl_lib.display.text import visible
from bestofl_lib.tables import KEY, KEYS, TABLES

FOLDER = Path(__file__).resolve().parent
_REMEMBERED: dict[tuple[str, str | None], choices.State] = {}  # run folder and split → the last choices there
_ATLAS = {"sort", "filters", "page", "reward_model"}


class Explorer(anywidget.AnyWidget):
    """A run to explore, as the last expression of a cell."""

    _esm = asset("common.js") + "\n" + (FOLDER / "view.js").read_text("utf8")
    _css = FOLDER / "view.css"
    meta = traitlets.Dict().tag(sync=True)  # what does not change: languages, choices, counts
    state = traitlets.Dict().tag(sync=True)  # what was chosen
    atlas = traitlets.Dict().tag(sync=True)  # see run_scan.grid_page
    problem = traitlets.Dict().tag(sync=True)  # see explorer.problem.problem_view
    what_if = traitlets.Dict().tag(sync=True)  # see explorer.what_if.what_if_view

    def __init__(self, source: run_scan.Source, setting: str = "", **kwargs: Any):
        """`setting`: text of a saved setting (see `setting`) to open with; empty: what was chosen last."""
        super().__init__(**kwargs)
        self._source = source
        self._numbers = Numbers(source)
        self._place = (str(source.run.folder.resolve()), source.split)
        self._order: list[str] = []
        self._rows: tuple[str, pl.DataFrame] | None = None  # of the problem that is open
        self._mistakes: dict[str, pl.DataFrame] = {}
        cells = source.cells
        self.meta = {
            "run": source.run.name,
            "languages": [words.describe_language(code) for code in source.languages],
            "sorts": words.SORTS,
            "filters": words.FILTERS,
            "strategies": words.STRATEGIES,
            "needs_reward": list(REWARDED),
            "reward_models": source.reward_models,
            "reward_labels": words.REWARD_MODELS,
            "n_problems": cells["problem_id"].n_unique(),
            "n_candidates": int(cells["n"].sum()),
            "share": int(cells["n_correct"].sum()) / int(cells["n"].sum()),
        }
        first = choices.first_state(source, self._numbers.most)
        self._state = choices.restored(_REMEMBERED.get(self._place), first, source, self._numbers.most)
        if setting:
            self._state = choices.opened_with(self._state, setting, source, self._numbers.most)
        self._stale = {"problem", "what_if"}
        self._show_atlas()
        if self._state.problem is None and self._order:
            first_problem = run_scan.most_telling(source, self._mistakes.get(self._state.reward_model or ""))
            self._state = choices.next_state(self._state, {"problem": [first_problem, ""]}, source, self._numbers.most)
        self._show()
        self.on_msg(self._hear)

    def choose(self, **change: Any) -> Explorer:
        """Change one choice from Python, as the page does: `choose(problem=["lab-test-0004", "sw"])`,
        `choose(budget=4)`.
        """
        self._take([change])
        return self

    def judge(self, problem_id: str, language: str, sample_index: int, right: bool | None) -> Explorer:
        """Record whether the reading of a candidate is what its completion says; None withdraws the judgement.

        Stored in the run's table `labels`, which no study touches.

        Raises:
            ValueError: the run has no such candidate.
        """
        key = pl.DataFrame([(problem_id, language, sample_index)], schema=dict(KEY), orient="row")
        row = self._source.readings.select(*KEY, "answer").join(key.lazy(), on=list(KEY), how="semi").collect()
        if row.is_empty():
            raise ValueError(
                f"run {self._source.run.name!r} has no candidate {language} #{sample_index} of problem {problem_id!r}"
            )
        labels = self.labels().join(key, on=list(KEY), how="anti")
        if right is not None:
            now = datetime.now(UTC).isoformat(timespec="seconds")
            labels = pl.concat([labels, row.with_columns(is_right=pl.lit(right), judged=pl.lit(now))])
        self._source.run.write("labels", labels.sort(*KEY))
        self._stale.add("problem")
        return self

    def labels(self) -> pl.DataFrame:
        """The judgements so far: table `labels`."""
        run = self._source.run
        return run.read("labels") if run.has("labels") else TABLES["labels"].schema.to_frame()

    def setting(self) -> str:
        """What is set under *What if*, as a YAML file that opens the explorer as it is now: `bestofl explore RUN
        --setting FILE`.
        """
        chosen = choices.setting_of(self._state)
        return choices.written_setting(chosen, f"Best-of-L, run {self._source.run.name}: {describe(chosen)}")

    def selection(self) -> pl.DataFrame:
        """The candidates that the chosen strategy picks with the chosen allocation and seed, one row per problem.

        Returns:
            `problem_id`, `language`, `sample_index`, `is_correct`, `strategy`, `reward_model`, `budget`, `answer`,
            `completion`. No row where a vote had no answer to count.
        """
        state, most = self._state, self._numbers.most
        setting = choices.setting_of(state)
        model = setting.reward_model if setting.strategy in REWARDED else None
        arrays = averaged(self._numbers.ranked(model, setting.offsets if model else {}))
        used = {code: k for code, k in choices.allocation_of(state, most).items() if k}
        found = pick_candidates(arrays, used, setting.strategy, model, state.seed)
        key = list(KEYS)
        texts = self._source.candidates().select(*key, "completion").unique(key, keep="first")
        read = self._source.readings.select(*key, "answer")
        return found.lazy().join(read, on=key, how="left").join(texts, on=key, how="left").sort("problem_id").collect()

    def _hear(self, widget: Any, content: dict[str, Any], buffers: Any) -> None:
        try:
            self._take(content.get("changes", []))
        finally:
            self.send({"done": True})

    def _take(self, changes: list[dict[str, Any]]) -> None:
        before = self._state
        for change in changes:
            if "label" in change:
                code, index, right = change["label"]
                self.judge(str(self._state.problem), code, int(index), right)
                continue
            self._state = choices.next_state(self._state, change, self._source, self._numbers.most)
        changed = {name for name in vars(before) if getattr(before, name) != getattr(self._state, name)}
        if changed & _ATLAS:
            self._show_atlas()
        if changed & {"problem", "seed", "reward_model", "budget", "allocation", "languages", "offsets"}:
            self._stale.add("problem")
        if changed & {"strategy", "reward_model", "budget", "allocation", "languages", "offsets", "kept"}:
            self._stale.add("what_if")
        self._show()

    def _show_atlas(self) -> None:
        model, source = self._state.reward_model, self._source
        if model and model not in self._mistakes:
            self._mistakes[model] = run_scan.count_mistakes(source, model)
        problems = run_scan.describe_problems(source.cells, self._mistakes[model] if model else None)
        self._order = run_scan.choose_problems(problems, self._state.sort, self._state.filters)
        self.atlas = run_scan.grid_page(source.cells, problems, self._order, source.languages, self._state.page)

    def _show(self) -> None:
        """Update what is on the page; what is hidden is updated when it is shown."""
        _REMEMBERED[self._place] = self._state
        shown = self._state.tab
        if shown in self._stale:
            self._stale.discard(shown)
            if shown == "what_if":
                self.what_if = self._answer(
                    lambda: (
                        what_if_view(self._numbers, choices.setting_of(self._state), self._state.kept)
                        | {"file": self.setting()}
                    )
                )
            elif self._state.problem is not None:
                self.problem = self._answer(self._problem)
        self.state = choices.describe_state(self._state, self._numbers.most)

    def _problem(self) -> dict[str, Any]:
        state = self._state
        problem_id = str(state.problem)
        if self._rows is None or self._rows[0] != problem_id:
            self._rows = (problem_id, run_scan.candidates_of(self._source, problem_id))
        labels = self.labels()
        shown = problem_view(
            self._source, problem_id, allocation=choices.allocation_of(state, self._numbers.most), seed=state.seed,
            reward_model=state.reward_model, offsets=state.offsets, table=self._rows[1], labels=labels,
        )  # fmt: skip
        return shown | {"judged": precision(precision_of_reader(labels, self._source.readings.collect()))}

    @staticmethod
    def _answer(make: Any) -> dict[str, Any]:
        try:
            return make()
        except (ValueError, OSError) as error:
            return {"error": visible(str(error))}
