"""Steps labelled by rollouts: known continuations give known labels, and nothing is drawn twice or out of its split."""

from __future__ import annotations

import polars as pl
import pytest

from bestofl_lib.candidates import rollouts as drawing
from bestofl_lib.candidates.sampling import candidate_seed, generate
from bestofl_lib.candidates.store import Store
from bestofl_lib.models.contract import Completion, Sampling
from bestofl_lib.problems import lab, load
from bestofl_lib.rewards.step_labels import label_steps
from bestofl_lib.rewards.steps import MOST_STEPS, split_steps, step_ends
from bestofl_lib.tables import KEYS, SCHEMAS

GOOD, BAD = "Add 3 + 5 = 8.", "Add 3 + 5 = 9."
RIGHT, WRONG = " The answer is 8.", "\nThe answer is 9."
TEXTS = [f"{GOOD} So 8.\nThe answer is 8.", f"{BAD} So 9.\nThe answer is 9.", f"{GOOD} Or 7. The answer is 7.", GOOD]
KNOWN = {  # what the policy writes after each beginning, by number of the rollout; "": it breaks off
    GOOD: [RIGHT, WRONG, RIGHT, RIGHT],
    f"{GOOD} So 8.": [RIGHT] * 4,
    f"{GOOD} Or 7.": [WRONG, WRONG, "", RIGHT],
    BAD: [WRONG] * 4,
    f"{BAD} So 9.": [WRONG, WRONG, WRONG, RIGHT],
}


class KnownPolicy:
    """Writes what `KNOWN` says, and counts what it was asked."""

    name, identity = "known", "known@1"

    def __init__(self, stop_after: int | None = None, failing: str = ""):
        self.stop_after, self.failing, self.asked = stop_after, failing, []

    def sample(self, requests, settings):
        for request in reversed(requests):
            if self.stop_after is not None and len(self.asked) >= self.stop_after:
                raise KeyboardInterrupt
            self.asked.append(request)
            begun = request.messages[-1]
            assert begun["role"] == "assistant" and request.messages[-2]["content"].endswith("How many are 3 and 5?")
            text = KNOWN[begun["content"]][request.sample_index % 4]
            finish = "error" if self.failing == begun["content"] else "stop"
            yield request, Completion("" if finish == "error" else text, 5, finish, -1.0, 0.01)


def tables(texts=TEXTS, splits=("train", "test")):
    problems = pl.DataFrame([
        {"problem_id": split, "language": "en", "split": split, "question": "How many are 3 and 5?", "reference": "8"}
        for split in splits
    ])  # fmt: skip
    rows = [
        {"problem_id": split, "language": "en", "sample_index": i, "completion": text, "finish_reason": "stop"}
        for split in splits for i, text in enumerate(texts)
    ]  # fmt: skip
    candidates = pl.DataFrame(rows, schema_overrides={"sample_index": pl.Int32}).with_columns(
        pl.lit(None, pl.String).alias(name) for name in SCHEMAS["candidates"] if name.endswith("_language")
    )
    readings = candidates.select(*KEYS, is_correct=pl.col("completion").str.contains("8.$"))
    return candidates, readings, problems


def label(folder, policy, *, rollouts=4, given=None, **options):
    return label_steps(*(given or tables()), Store(folder), policy, rollouts, progress=False, **options)


def test_labels_count_the_known_continuations_and_the_last_step_is_the_answer_itself(tmp_path):
    labels = label(tmp_path, KnownPolicy())
    assert labels.schema == SCHEMAS["step_labels"]
    assert labels.select("sample_index", "step", "end", "rollouts", "right").rows() == [
        (0, 0, 14, 4, 3), (0, 1, 20, 4, 4), (0, 2, 37, 1, 1),
        (1, 0, 14, 4, 0), (1, 1, 20, 4, 1), (1, 2, 37, 1, 0),
        (2, 0, 14, 4, 3), (2, 1, 20, 4, 1), (2, 2, 37, 1, 0),
        (3, 0, 14, 1, 1),  # a single step is its answer, and is not continued
    ]  # fmt: skip


def test_only_training_problems_are_continued(tmp_path):
    policy = KnownPolicy()
    assert set(label(tmp_path, policy)["problem_id"]) == {r.problem_id for r in policy.asked} == {"train"}
    with pytest.raises(ValueError, match=r"no candidates of training problems.*train_problems=300"):
        label(tmp_path, policy, given=tables(splits=("dev", "test")))


def test_equal_beginnings_are_continued_once_and_each_rollout_has_a_stream_of_its_own(tmp_path):
    policy = KnownPolicy()
    label(tmp_path, policy)
    assert len(policy.asked) == 4 * len(KNOWN)  # GOOD begins three candidates
    seeds = {request.seed for request in policy.asked}
    assert len(seeds) == 4 * len(KNOWN)
    assert not seeds & {candidate_seed(0, "train", "en", i) for i in range(2000)}


def test_a_killed_labelling_draws_nothing_twice_and_gives_the_same_labels(tmp_path):
    whole = label(tmp_path / "whole", KnownPolicy())
    killed, after = KnownPolicy(stop_after=7), KnownPolicy()
    with pytest.raises(KeyboardInterrupt):
        label(tmp_path / "killed", killed)
    assert label(tmp_path / "killed", after).equals(whole)
    names = [(request.sample_index, request.seed) for request in killed.asked + after.asked]
    assert len(killed.asked) == 7 and len(names) == len(set(names)) == 4 * len(KNOWN)
    again = KnownPolicy()
    assert label(tmp_path / "killed", again).equals(whole) and not again.asked


def test_more_rollouts_add_to_those_that_are_stored(tmp_path):
    first, more = KnownPolicy(), KnownPolicy()
    assert label(tmp_path, first, rollouts=1)["rollouts"].max() == 1
    assert label(tmp_path, more).equals(label(tmp_path / "other", KnownPolicy()))
    assert len(first.asked) == len(KNOWN) and len(more.asked) == 3 * len(KNOWN)


def test_fewer_candidates_may_be_labelled_and_failed_rollouts_leave_a_candidate_out(tmp_path):
    assert label(tmp_path, KnownPolicy(), samples=2)["sample_index"].unique().to_list() == [0, 1]
    labels = label(tmp_path / "failing", KnownPolicy(failing=BAD))
    assert labels["sample_index"].unique().to_list() == [0, 2, 3]


@pytest.mark.parametrize(
    ("rollouts", "settings", "texts", "message"),
    [
        (0, Sampling(), TEXTS, "0 rollouts per step were asked for; draw 1 to 256, such as 4"),
        (300, Sampling(), TEXTS, "300 rollouts per step were asked for; draw 1 to 256"),
        (2, Sampling(temperature=0), TEXTS, "temperature 0 writes the same continuation.*2 rollouts.*draw 1"),
        (4, Sampling(), [GOOD], "no step can be continued: every completion is a single step.*readout 'verifier'"),
    ],
)
def test_what_cannot_be_labelled_is_refused_with_a_remedy(tmp_path, rollouts, settings, texts, message):
    with pytest.raises(ValueError, match=message):
        label(tmp_path, KnownPolicy(), rollouts=rollouts, settings=settings, given=tables(texts))


def test_candidates_without_a_reading_are_refused(tmp_path):
    candidates, readings, problems = tables()
    with pytest.raises(ValueError, match=r"1 of 4 training candidates without a reading; run 03_check_answers"):
        label(tmp_path, KnownPolicy(), given=(candidates, readings[1:], problems))


def test_a_step_whose_rollouts_would_be_stored_as_those_of_another_candidate_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(drawing, "_STEPS", 1)
    with pytest.raises(ValueError, match="a step outside 0 to 0; merge its last steps"):
        label(tmp_path, KnownPolicy())


@pytest.mark.parametrize(
    ("text", "steps"),
    [
        ("先骑：19 × 4 = 76。再骑：9 × 3 = 27。\n答案是103。", ["先骑：19 × 4 = 76。", "再骑：9 × 3 = 27。", "答案是103。"]),
        ("ครึ่งหนึ่งคือ 22 ÷ 2 = 11 ผล เขาเหลือ 3 ผล\nคำตอบคือ 3", ["ครึ่งหนึ่งคือ 22 ÷ 2 = 11 ผล", "เขาเหลือ 3 ผล", "คำตอบคือ 3"]),
        ("1. It costs 2.5 each.\n\n2. So 5.  \n", ["1. It costs 2.5 each.", "2. So 5."]),
        ("", [""]),
    ],
)  # fmt: skip
def test_lines_and_sentences_are_steps_in_every_script(text, steps):
    ends = step_ends(text)
    assert [text[begin:end].strip() for begin, end in zip([0, *ends], ends, strict=False)] == steps


def test_a_long_completion_has_at_most_so_many_steps_and_ends_where_it_ends():
    text = "Then one. " * 100
    assert len(step_ends(text)) == len(split_steps(text)) == MOST_STEPS and step_ends(text)[-1] == len(text) - 1


def test_the_policy_of_the_lab_goes_on_from_every_step_as_it_did_when_it_wrote(tmp_path):
    """At temperature 0 a continuation of a completion's own beginning is that completion."""
    from bestofl_lib.answers.columns import read_answers
    from bestofl_lib.candidates.transformers_sampler import TransformersSampler

    problems = load.load("lab", ["en", "th", "zh"], limit={"train": 4, "dev": 0, "test": 0})
    sampler = TransformersSampler(lab.FOLDER / "policy", device="cpu", workers=1)
    settings, how = Sampling(temperature=0, max_new_tokens=120), {"style": "question", "progress": False}
    candidates = generate(problems, Store(tmp_path / "candidates"), sampler, 1, settings, **how)
    readings = read_answers(candidates, problems)
    rollouts = Store(tmp_path / "rollouts")
    labels = label_steps(candidates, readings, problems, rollouts, sampler, 1, settings, **how)
    last = labels.group_by(KEYS).agg(pl.col("right").last(), same=pl.col("right").n_unique() == 1)
    assert labels.height > 2.5 * len(candidates) and last["same"].all()
    judged = last.join(readings, on=KEYS)
    assert (judged["right"] == judged["is_correct"].cast(pl.Int32)).all() and 0 < judged["right"].sum() < len(judged)
    sampled = label_steps(
        candidates, readings, problems, Store(tmp_path / "sampled"), sampler, 3, Sampling(max_new_tokens=120), **how
    )
    assert 0 < sampled.filter(pl.col("right").is_between(1, 2)).height < sampled.height
