"""Served rewards are those of the local model, or the run stops before anything is scored."""

from __future__ import annotations

import polars as pl
import pytest
from serving.stub_server import Stub

from bestofl_lib.models.server_answers import ServerError
from bestofl_lib.models.servers import Patience
from bestofl_lib.rewards.served import score_served

QUICK = Patience(timeout=5.0, attempts=4, without_answer=10.0, first_contact=2.0)


class MeanOfIds:
    """Stands for a local reward model: the reward is the mean of the token ids."""

    source, width, is_causal = "mean", 1, True

    def whole_texts(self, prompts, prompt_of, completions):
        import numpy as np

        return [{"input_ids": [len(text), 40 + len(text) % 7]} for text in completions], np.zeros(
            len(completions), bool
        )

    def values(self, prompts, prompt_of, completions):
        import numpy as np

        ids = [one["input_ids"] for one in self.whole_texts(prompts, prompt_of, completions)[0]]
        return np.array([[sum(one) / 2] for one in ids]), None


PROBLEMS = pl.DataFrame({"problem_id": [f"p{i}" for i in range(15)], "language": "en", "question": "How many?"})
CANDIDATES = PROBLEMS.select("problem_id", "language").join(
    pl.DataFrame({"sample_index": range(6)}, schema={"sample_index": pl.Int32}), how="cross"
).with_columns(
    completion=pl.concat_str("problem_id", pl.lit("x").repeat_by("sample_index").list.join("")),
    finish_reason=pl.when(pl.col("sample_index") == 5).then(pl.lit("error")).otherwise(pl.lit("stop")),
)  # fmt: skip


def score(stub, **options):
    return score_served(CANDIDATES, PROBLEMS, MeanOfIds(), stub.address, "lab", patience=QUICK, **options)


@pytest.mark.parametrize("endpoint", ["classify", "pooling"])
def test_rewards_are_the_local_ones_and_faults_cost_nothing(endpoint):
    faults = {1: "500", 3: "html", 4: "429"}
    with Stub(lambda count, body: faults.get(count)) as stub:
        scores = score(stub, endpoint=endpoint)
    assert all(body["use_activation"] is False for body in stub.bodies)
    assert len(scores.rewards) == 90 and scores.rewards["reward"].null_count() == 15 and scores.parity == 0
    table = scores.rewards.join(CANDIDATES, on=["problem_id", "language", "sample_index"]).drop_nulls("reward")
    expected, _ = MeanOfIds().values([], [], table["completion"].to_list())
    assert table["reward"].to_list() == expected[:, 0].tolist()
    assert sum(scores.facts["faults"].values()) == 3 and scores.facts["root"] == "/models/lab"


@pytest.mark.parametrize(
    ("reward", "message"),
    [
        (lambda text: sum(text) / 2 + 0.06, r"at most 0.05 apart is allowed.*nothing was scored"),
        (lambda text: 0.99999, r"without an activation"),
        (lambda text: float("nan"), r"gives nan where the local"),
    ],
)
def test_other_numbers_than_the_local_ones_stop_the_run_after_the_first_request(reward, message):
    with Stub() as stub:
        stub.reward = reward
        with pytest.raises(ServerError, match=message):
            score(stub)
    assert len(stub.bodies[0]["input"]) == 20


def test_a_model_that_is_served_as_embeddings_is_refused():
    with Stub() as stub:
        stub.score = lambda body: {
            "model": "lab",
            "data": [{"index": i, "data": [0.1] * 64} for i in range(len(body["input"]))],
        }
        with pytest.raises(ServerError, match=r"64 numbers per text.*--convert classify"):
            score(stub, endpoint="pooling")


def test_a_text_that_never_gets_a_reward_is_an_error_and_not_a_zero():
    stub = Stub(lambda count, body: "500" if count >= 2 else None)
    with stub, pytest.raises(ServerError, match=r"got no reward.*HTTP 500|no request was answered"):
        score(stub)


def test_an_unknown_endpoint_and_a_model_without_rewards_are_named():
    with pytest.raises(ValueError, match="unknown endpoint 'score'; use one of: classify, pooling"):
        score_served(CANDIDATES, PROBLEMS, MeanOfIds(), "http://h/v1", "lab", endpoint="score")
    local = MeanOfIds()
    local.width = 64
    with pytest.raises(ValueError, match="64 numbers per text"):
        score_served(CANDIDATES, PROBLEMS, local, "http://h/v1", "lab")
