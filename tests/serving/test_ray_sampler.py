"""A Ray cluster draws the same candidates as one machine, whatever happens to its workers."""

from __future__ import annotations

import sys
import time

import pytest
from made_up_samplers import problems

from bestofl_lib.candidates.sampling import generate
from bestofl_lib.candidates.store import Store
from bestofl_lib.models.contract import Sampling
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
            if "timed out during startup" not in str(error) or attempt == 3:
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


def test_without_ray_the_extra_is_named(monkeypatch):
    from bestofl_lib.candidates.ray_sampler import RaySampler

    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ImportError, match=r"pip install 'bestofl\[cluster\]'"):
        RaySampler(POLICY)


@pytest.mark.parametrize(
    ("options", "message"),
    [({"address": "head:10001"}, "'ray://head:10001'"), ({"device": "mps"}, "'mps'"), ({"chunk": 0}, "chunk is 0")],
)
def test_options_that_cannot_be_are_named(options, message):
    from bestofl_lib.candidates.ray_sampler import RaySampler

    with pytest.raises(ValueError, match=message):
        RaySampler(POLICY, **options)
