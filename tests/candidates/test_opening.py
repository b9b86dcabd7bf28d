"""The sampler follows from the model's name and the engine; a parameter that it could not honour is refused."""

from __future__ import annotations

import subprocess
import sys

import pytest

from bestofl_lib.candidates.opening import open_sampler


def test_an_address_opens_servers_without_loading_a_model_library():
    code = (
        "import sys; from bestofl_lib.candidates.opening import open_sampler; "
        "s = open_sampler('http://h:1/v1, http://h:2/v1', 'r1', served_model='m', price=1.5, engine='ray'); "
        "print(type(s).__name__, len(s.addresses), s.identity, 'torch' in sys.modules, 'ray' in sys.modules)"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.split() == ["EndpointSampler", "2", "served:m@r1", "False", "False"]


@pytest.mark.parametrize(
    ("model", "options", "message"),
    [
        ("http://h:1/v1", {"workers": 4}, r"workers 4 would be ignored.*leave it at 0"),
        ("http://h:1/v1", {"batch_rows": 8}, r"batch_rows 8 would be ignored"),
        ("data/lab/policy", {"served_model": "m"}, r"served_model 'm' would be ignored.*no address such as http"),
        ("data/lab/policy", {"seeded": False}, r"seeded False would be ignored"),
        ("data/lab/policy", {"engine": "slurm"}, r"unknown engine 'slurm'; use 'local', 'ray'"),
        ("http://h:1", {}, r"does not end in /v1"),
    ],
)
def test_no_parameter_is_silently_ignored(model, options, message):
    with pytest.raises(ValueError, match=message):
        open_sampler(model, **options)


def test_a_folder_opens_the_sampler_of_this_process():
    assert open_sampler("data/lab/policy").identity.startswith("sha256:")
