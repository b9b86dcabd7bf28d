"""Served rewards are those of the local model, or the run stops before anything is scored; judges give P(Yes)."""

from __future__ import annotations

import json
import math

import polars as pl
import pytest
from made_up_world import make_world
from serving.stub_server import Stub

from bestofl_lib.models.server_answers import ServerError
from bestofl_lib.models.servers import Patience
from bestofl_lib.rewards.judging import judge_messages, verdict
from bestofl_lib.rewards.opening import import_reward_models, open_reward_model
from bestofl_lib.rewards.readouts import HeadReward
from bestofl_lib.rewards.scoring import score
from bestofl_lib.rewards.served_models import ServedModel, served_facts
from bestofl_lib.rewards.spec import RewardModelSpec, TrainingSettings
from bestofl_lib.rewards.training import train_reward_models

QUICK = Patience(timeout=5.0, attempts=4, without_answer=10.0, first_contact=2.0)
WORLD = make_world(12)
TEST = WORLD.split("test")
ADAPTERS = ("mono-en", "multi", "cross")


@pytest.fixture(scope="module")
def trained(tiny_policy, tmp_path_factory):
    """Three reward models, and what a server of each would say of a text."""
    folder = tmp_path_factory.mktemp("trained")
    settings = TrainingSettings(readout="head", rows=20)
    train_reward_models(
        WORLD.candidates, WORLD.readings, WORLD.split("train"), base=tiny_policy, folder=folder, settings=settings,
        variants=["mono", "multi", "cross"], device="cpu",
    )  # fmt: skip
    return folder, {name: forward(folder / name) for name in ADAPTERS}


def forward(place):
    """Rewards of token ids as Transformers computes them: the logit at the last token."""
    import torch

    opened = open_reward_model(place, RewardModelSpec.read(place), device="cpu")
    opened.readout = HeadReward()

    def reward(ids):
        with torch.inference_mode():
            return float(opened.model(torch.tensor([ids])).logits[0, 0])

    return reward


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    monkeypatch.setattr("bestofl_lib.rewards.served.Patience", lambda: QUICK)


def scored(folder, *named):
    import_reward_models(named, folder)
    return score(WORLD.candidates, TEST, folder, device="cpu")


@pytest.mark.parametrize("endpoint", ["classify", "pooling"])
def test_adapters_of_one_server_give_the_rewards_that_the_same_models_give_here(trained, tmp_path, endpoint):
    folder, rewards = trained
    faults = {1: "500", 3: "html", 4: "429"}
    with Stub(lambda count, body: faults.get(count), models=("base", *ADAPTERS)) as stub:
        stub.rewards = rewards
        named = [
            f"{stub.address}, served_model={name}, local={folder / name}, endpoint={endpoint}" for name in ADAPTERS
        ]
        served = scored(tmp_path, *named)
    here = score(WORLD.candidates, TEST, folder, device="cpu").rewards
    both = served.rewards.join(here, on=["problem_id", "language", "sample_index", "reward_model", "seed"])
    assert both.height == served.rewards.height == here.filter(pl.col("reward_model").is_in(ADAPTERS)).height > 0
    assert (both["reward"] - both["reward_right"]).abs().max() < 1e-4
    assert all(body["use_activation"] is False for body in stub.bodies)
    assert [facts["reward_model"] for facts in served.servers] == ["cross", "mono-en", "multi"]
    assert sum(sum(facts["faults"].values()) for facts in served.servers) == 3
    assert all(facts["parity"] < 1e-4 and facts["version"] == "0.32.0" for facts in served.servers)


def test_a_stopped_scoring_keeps_what_arrived_and_asks_for_nothing_twice(trained, tmp_path, monkeypatch):
    folder, rewards = trained
    monkeypatch.setattr("bestofl_lib.rewards.served._CHECKED", 5)
    monkeypatch.setattr("bestofl_lib.rewards.served._BATCH", 4)
    monkeypatch.setattr("bestofl_lib.rewards.served._Call.batch", 4)
    stub = Stub(lambda count, body: "401" if count == stub.ends_at else None, models=("cross",))
    stub.ends_at = 6
    with stub:
        stub.rewards = rewards
        named = f"{stub.address}, served_model=cross, local={folder / 'cross'}, in_flight=1"
        with pytest.raises(ServerError, match="refuses access"):
            scored(tmp_path, named)
        stub.ends_at = -1
        served = scored(tmp_path, named)
        asked = [json.dumps(text) for body in stub.bodies for text in body["input"]]
        before = len(stub.bodies)
        assert scored(tmp_path, named).rewards.equals(served.rewards) and len(stub.bodies) == before
    failed = {json.dumps(text) for text in stub.bodies[6]["input"]}
    assert len(set(asked)) > 8 and all(asked.count(text) == 1 for text in set(asked) - failed)
    assert served.summary["set_aside"].sum() == 0 and len(served_facts(tmp_path)) == 2


@pytest.mark.parametrize(
    ("reward", "message"),
    [
        (lambda good: lambda ids: good(ids) + 0.06, r"at most 0.05 apart is allowed.*nothing was scored"),
        (lambda good: lambda ids: 0.99999, r"at most 0.05 apart"),
        (lambda good: lambda ids: float("nan"), r"gives nan where the local"),
    ],
)
def test_other_numbers_than_the_local_ones_stop_the_run_after_the_first_request(trained, tmp_path, reward, message):
    folder, rewards = trained
    with Stub() as stub:
        stub.reward = reward(rewards["cross"])
        with pytest.raises(ServerError, match=message):
            scored(tmp_path, f"{stub.address}, served_model=lab, local={folder / 'cross'}")
    assert len(stub.bodies) == 1 and len(stub.bodies[0]["input"]) == 20


def test_a_sigmoid_on_the_server_is_named(trained, tmp_path):
    folder, _ = trained
    with Stub() as stub:
        stub.reward = lambda ids: 1.0
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(HeadReward, "read", lambda self, *_: HEAD_READ(self, *_) + 20)
            with pytest.raises(ServerError, match="without an activation"):
                scored(tmp_path, f"{stub.address}, served_model=lab, local={folder / 'cross'}")


HEAD_READ = HeadReward.read


def test_without_a_local_model_chats_are_sent_and_the_server_writes_the_texts(tmp_path):
    with Stub() as stub:
        stub.reward = lambda chat: float(len(chat[-1]["content"]))
        scores = scored(tmp_path, f"{stub.address}, served_model=lab, name=hosted")
    told = scores.rewards.join(WORLD.candidates, on=["problem_id", "language", "sample_index"])
    assert told.height > 0 and told["reward"].to_list() == told["completion"].str.len_chars().to_list()
    assert told["reward_model"].unique().to_list() == ["hosted"] and told["seed"].null_count() == told.height
    assert {body["messages"][-1]["role"] for body in stub.bodies} == {"assistant"}


def test_a_model_that_is_served_as_embeddings_is_refused(tmp_path):
    with Stub() as stub:
        stub.score = lambda body: {"model": "lab", "data": [{"index": 0, "data": [0.1] * 64}]}
        with pytest.raises(ServerError, match=r"64 numbers per text.*--convert classify"):
            scored(tmp_path, f"{stub.address}, served_model=lab, endpoint=pooling")


def test_a_text_that_is_too_long_for_the_server_is_set_aside_and_the_others_of_its_request_are_not(trained, tmp_path):
    folder, rewards = trained
    long = WORLD.candidates.with_columns(
        completion=pl.when(pl.int_range(pl.len()) == 70).then(pl.lit("so " * 60)).otherwise(pl.col("completion"))
    )
    with Stub(lambda count, body: "too long" if max(map(len, body["input"])) > 200 else None) as stub:
        stub.reward = rewards["cross"]
        import_reward_models([f"{stub.address}, served_model=lab, local={folder / 'cross'}, name=cross"], tmp_path)
        scores = score(long, TEST, tmp_path, device="cpu")
        rejected = [body["input"] for body in stub.bodies if max(map(len, body["input"])) > 200]
    assert (
        scores.set_aside.height == scores.rewards["reward"].null_count() == scores.servers[0]["prompts too long"] == 1
    )
    assert sorted(map(len, rejected)) == [1, 16] or sorted(map(len, rejected)) == [1, 20]


def test_a_server_whose_context_holds_no_text_is_named(trained, tmp_path):
    folder, _ = trained
    with Stub(lambda count, body: "too long") as stub, pytest.raises(ServerError, match="--max-model-len"):
        scored(tmp_path, f"{stub.address}, served_model=lab, local={folder / 'cross'}")


def test_a_text_that_never_gets_a_reward_is_an_error_and_not_a_zero(tmp_path, monkeypatch):
    monkeypatch.setattr("bestofl_lib.rewards.served.Patience", lambda: Patience(attempts=2, without_answer=1.0))
    stub = Stub(lambda count, body: "500" if count >= 2 else None)
    with stub, pytest.raises(ServerError, match=r"got no reward.*HTTP 500|no request was answered"):
        stub.reward = lambda chat: 1.0
        scored(tmp_path, f"{stub.address}, served_model=lab")


def test_a_judge_gives_the_probability_of_yes_and_is_never_asked_again_for_a_verdict(tmp_path):
    def judge(prompt):
        return "Perhaps." if "en: how many are 1 " in prompt else "Yes." if "right" in prompt else "No."

    with Stub() as stub:
        stub.verdict, stub.chance_of_yes = judge, 0.3
        named = f"{stub.address}, served_model=lab, template=judge, name=judge"
        scores = scored(tmp_path, named)
        before = len(stub.bodies)
        assert scored(tmp_path, named).rewards.equals(scores.rewards) and len(stub.bodies) == before
    assert set(scores.rewards["reward"].drop_nulls().round(6)) == {round(0.3 / 0.9, 6)}
    unsure = scores.set_aside.filter(pl.col("reason").str.contains("no verdict"))
    assert unsure.height == 4 == scores.rewards["reward"].null_count()
    body = stub.bodies[0]
    assert body["temperature"] == 0 and body["logprobs"] is True and body["max_tokens"] == 8


def test_a_written_verification_ends_with_a_verdict_that_words_tell_where_no_probability_is_sent(tmp_path):
    with Stub() as stub:
        stub.verdict = lambda prompt: f"No step is wrong.\nVerdict: {'Yes' if 'right' in prompt else 'No'}"
        scores = scored(tmp_path, f"{stub.address}, served_model=lab, template=verification, name=v, max_tokens=99")
    told = scores.rewards.join(WORLD.candidates, on=["problem_id", "language", "sample_index"])
    english = told.filter(pl.col("language") == "en")
    assert english["reward"].to_list() == english["completion"].str.contains("right").cast(pl.Float64).to_list()
    assert stub.bodies[0]["max_tokens"] == 99 and scores.servers[0]["verdicts"].startswith("words")


@pytest.mark.parametrize(
    ("template", "text", "expected"),
    [
        ("judge", "**Yes**", 1.0),
        ("judge", "No, although yes would be nicer", 0.0),
        ("judge", "I think yes", None),
        ("judge", "<think>yes or no?</think>\nno", 0.0),
        ("verification", "Yes, 3 + 4 = 7.\n**Verdict:** No", 0.0),
        ("verification", "Verdict: No. Wait. Verdict: yes", 1.0),
        ("verification", "Is the solution correct? Yes", 1.0),
        ("verification", "<think>Verdict: Yes", None),
        ("verification", "Verdict: Nothing to add", None),
        ("verification", "", None),
    ],
)
def test_a_verdict_is_read_or_there_is_none(template, text, expected):
    found = verdict(template, text)
    assert found == expected or (expected is None and math.isnan(found))


def test_the_probability_is_that_of_the_verdict_and_not_of_another_yes():
    tokens = [
        {"token": "Yes", "top_logprobs": [{"token": "Yes", "logprob": -0.1}]},
        {"token": " no", "top_logprobs": [{"token": " no", "logprob": math.log(0.6)},
                                          {"token": "YES", "logprob": math.log(0.2)}]},
    ]  # fmt: skip
    assert verdict("verification", "Yes … Verdict: no", tokens) == pytest.approx(0.25)
    assert verdict("judge", "Yes … no", tokens) == 1.0


def test_a_judge_reads_question_and_solution():
    (message,) = judge_messages("judge", "3 + 4?", " 7 ")
    assert "3 + 4?" in message["content"] and "Solution:\n7\n" in message["content"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("http://host:8000, served_model=x", "does not end in /v1"),
        ("http://host:8000/v1", "add served_model=NAME"),
        ("http://host:8000/v1, served=x", "served_model"),
        ("http://a/v1, http://b/v1, served_model=x", "separated by blanks"),
        ("http://a/v1, served_model=x, endpoint=score", "classify, pooling"),
        ("http://a/v1, served_model=x, template=chat", "judge, verification"),
        ("http://a/v1, served_model=x, template=judge, local=f", "a judge has no local"),
        ("http://a/v1, served_model=x, max_tokens=9", "a reward model has no max_tokens"),
        ("http://a/v1, served_model=x, template=judge, max_tokens=0", "use a number above 0"),
    ],
)
def test_what_cannot_be_read_of_a_served_model_is_named(text, message):
    with pytest.raises(ValueError, match=message):
        ServedModel.parse(text)


def test_names_of_trained_variants_need_the_local_model_so_that_what_it_learnt_from_is_known(trained, tmp_path):
    folder, _ = trained
    with pytest.raises(ValueError, match="local="):
        import_reward_models(["http://a/v1, served_model=cross"], tmp_path)
    import_reward_models([f"http://a/v1, served_model=cross, local={folder / 'cross'}"], tmp_path)
    with pytest.raises(ValueError, match="learn|train"):
        score(WORLD.candidates, WORLD.problems, tmp_path)
    with pytest.raises(ValueError, match="is here already"):
        import_reward_models([f"http://a/v1, served_model=cross, local={folder / 'cross'}"], folder)


def test_a_served_model_that_is_no_longer_named_is_forgotten(tmp_path):
    import_reward_models(["http://a/v1 http://b/v1, served_model=x"], tmp_path)
    assert RewardModelSpec.read(tmp_path / "x").served["addresses"] == "http://a/v1 http://b/v1"
    import_reward_models([], tmp_path)
    assert not (tmp_path / "x").exists()


def test_an_unknown_served_model_is_refused_with_the_servers_list(tmp_path):
    with Stub(models=("base", "mono-sw")) as stub, pytest.raises(ServerError, match="serves: base, mono-sw"):
        scored(tmp_path, f"{stub.address}, served_model=cross-2")
