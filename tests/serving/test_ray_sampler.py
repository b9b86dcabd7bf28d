"""A Ray cluster draws the same candidates as one machine, whatever happens to its workers."""

from __future__ import annotations

import contextlib
import os
import pickle
import sys
import time

import pytest
from made_up_samplers import problems
from made_up_world import make_world

from bestofl_lib.candidates.sampling import generate
from bestofl_lib.candidates.store import Store
from bestofl_lib.display.servers import server_sentences
from bestofl_lib.models.contract import Sampling
from bestofl_lib.models.ray_crew import RayCluster
from bestofl_lib.tables import KEY

ray = pytest.importorskip("ray", reason="pip install 'bestofl[cluster]'")
SETTINGS = Sampling(max_new_tokens=40)
POLICY = "data/lab/policy"


def written(table):
    return table.select(*KEY, "draw", "completion", "n_tokens", "finish_reason", "seed")


def draw(folder, sampler, count=12):
    return generate(problems(count), Store(folder), sampler, 8, SETTINGS, progress=False)


def _started(start):
    """Ray gives a node 30 seconds to start, which a busy machine may not keep."""
    for attempt in range(4):
        try:
            return start()
        except Exception as error:
            if "timed out" not in str(error).lower() or attempt == 3:
                raise


@pytest.fixture
def cluster(monkeypatch):
    from ray.cluster_utils import Cluster

    monkeypatch.setenv("RAY_DISABLE_MEMORY_MONITOR", "1")
    made = _started(lambda: Cluster(initialize_head=True, head_node_args={"num_cpus": 1}))
    made.second = _started(lambda: made.add_node(num_cpus=1))
    ray.init(address=made.address, log_to_driver=False)
    yield made
    ray.shutdown()
    made.shutdown()


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_two_nodes_of_which_one_is_killed_draw_what_one_process_draws(cluster, tmp_path):
    from bestofl_lib.candidates.ray_sampler import RaySampler
    from bestofl_lib.candidates.transformers_sampler import TransformersSampler

    class Killing(RaySampler):
        def sample(self, requests, settings):
            for number, item in enumerate(super().sample(requests, settings)):
                if number == 8:
                    time.sleep(20)  # until the other worker has loaded the model as well
                if number == 48:
                    cluster.remove_node(cluster.second, allow_graceful=False)
                    time.sleep(5)  # until its death is known
                yield item

    sampler = Killing(POLICY, chunk=8, workers=2)
    served = draw(tmp_path / "cluster", sampler)
    assert sampler.facts["workers"] == 2 and sampler.facts["lost_workers"] >= 1
    local = TransformersSampler(POLICY, workers=1)
    assert local.identity == sampler.identity
    assert written(served).equals(written(draw(tmp_path / "local", local)))
    assert Store(tmp_path / "cluster").notes()[0]["engine"] == "ray"


def trained_world(base, tmp_path):
    """A small world, and a folder of reward models that learnt from its training split."""
    from bestofl_lib.rewards.spec import TrainingSettings
    from bestofl_lib.rewards.training import train_reward_models

    world, folder = make_world(12), tmp_path / "reward_models"
    train_reward_models(
        world.candidates, world.readings, world.split("train"), base=base, folder=folder, device="cpu",
        settings=TrainingSettings(readout="head", rows=20),
    )  # fmt: skip
    return world, folder


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_rewards_by_workers_of_which_one_is_killed_are_those_of_one_process(
    cluster, tiny_policy, tmp_path, monkeypatch
):
    from bestofl_lib.rewards import ray_reader
    from bestofl_lib.rewards.scoring import score

    world, folder = trained_world(tiny_policy, tmp_path)
    here = score(world.candidates, world.split("test"), folder, cache=tmp_path / "cache", device="cpu")
    monkeypatch.setattr(ray_reader.RayReader.__init__, "__defaults__", (7,))

    def dying(backbone, work):
        mark = tmp_path / "died"
        if not mark.exists():
            mark.touch()
            os._exit(1)
        return backbone.values(work[1], work[2], work[3])

    monkeypatch.setattr(ray_reader, "_read", dying)
    there = score(world.candidates, world.split("test"), folder, engine="ray", device="cpu")
    assert there.rewards.drop("reward").equals(here.rewards.drop("reward"))
    assert (there.rewards["reward"] - here.rewards["reward"]).abs().max() < 1e-5
    (facts,) = {str(facts | {"at": "", "reward_model": ""}) for facts in there.servers}
    assert "'lost_workers': 1" in facts
    again = score(world.candidates, world.split("test"), folder, device="cpu")  # what the cluster computed is known
    assert again.rewards.equals(there.rewards) and again.summary["seconds"].max() < 0.5


class HereAndNow(RayCluster):
    """A cluster of one worker in this process."""

    def connected(self):
        return contextlib.nullcontext()

    def work(self, make, chunks, call, facts):
        facts |= {"engine": "ray", "workers": 1, "on": "cpu", "lost_workers": 0}
        worker = make("cpu")
        for chunk in pickle.loads(pickle.dumps(chunks)):
            yield chunk, call(worker, chunk)


def test_a_cluster_reads_in_chunks_what_one_process_reads_at_once(tiny_policy, tmp_path, monkeypatch):
    from bestofl_lib.rewards import ray_reader, scoring

    world, folder = trained_world(tiny_policy, tmp_path)
    here = scoring.score(world.candidates, world.split("test"), folder, cache=tmp_path / "cache", device="cpu")
    monkeypatch.setattr(scoring, "RayCluster", HereAndNow)
    monkeypatch.setattr(ray_reader.RayReader.__init__, "__defaults__", (7,))
    there = scoring.score(world.candidates, world.split("test"), folder, engine="ray", device="cpu")
    assert there.rewards.drop("reward").equals(here.rewards.drop("reward"))
    assert (there.rewards["reward"] - here.rewards["reward"]).abs().max() < 1e-5
    assert server_sentences(there.servers)[0].endswith("ray, 1 worker at a time; 0 workers lost and replaced.")
    again = scoring.score(world.candidates, world.split("test"), folder, device="cpu")  # what it computed is known
    assert again.rewards.equals(there.rewards)


def test_an_unknown_engine_for_scoring_is_named(tmp_path):
    from bestofl_lib.rewards.scoring import score

    world = make_world(2)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="unknown engine 'dask'; use 'local', 'ray'"):
        score(world.candidates, world.problems, tmp_path / "empty", engine="dask")


def test_without_ray_the_extra_is_named(monkeypatch):
    from bestofl_lib.candidates.ray_sampler import RaySampler

    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ImportError, match=r"pip install 'bestofl\[cluster\]'"):
        RaySampler(POLICY)


@pytest.mark.parametrize(
    ("options", "message"),
    [({"engine": "head:10001"}, "'ray://head:10001'"), ({"device": "mps"}, "'mps'"), ({"chunk": 0}, "chunk is 0")],
)
def test_options_that_cannot_be_are_named(options, message):
    from bestofl_lib.candidates.ray_sampler import RaySampler

    with pytest.raises(ValueError, match=message):
        RaySampler(POLICY, **options)
