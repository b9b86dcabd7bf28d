"""The measurements of a GPU, run on a CPU with models of the same architectures, small."""

from __future__ import annotations

import json

import pytest
from gpu.measure import main, shapes


@pytest.mark.slow
def test_every_measurement_runs_on_small_shapes_and_is_written_down(tmp_path):
    pytest.importorskip("peft")
    target = tmp_path / "gpu.json"
    arguments = ["--shapes", "tiny", "--device", "cpu", "--prompts", "3", "--n", "2", "--tokens", "12", "--to"]
    rows = main([*arguments, str(target)])
    account = json.loads(target.read_text())
    assert len(account["rows"]) == len(rows) == 11 and account["device"] == "CPU"
    value = {(row.model, row.what): row.value for row in rows}
    assert value["lab policy", "same text on cpu and CPU"] == 1.0
    for model in shapes("tiny"):
        assert value[model, "sampling"] > 0 and value[model, "sampling by generate"] > 0
        assert value[model, "scoring"] > 0 and value[model, "LoRA training of 64 pairs"] > 0
        assert value[model, "all rows at once: completions lost to memory"] == 0


def test_the_real_shapes_have_the_size_of_their_models():
    import torch
    from transformers import AutoModelForCausalLM

    for name, (least, most) in {"Qwen2.5-7B": (7.5e9, 7.7e9), "Gemma-3-4B": (3.8e9, 4.4e9)}.items():
        with torch.device("meta"):
            model = AutoModelForCausalLM.from_config(shapes("real")[name])
        assert least < sum(p.numel() for p in model.parameters()) < most, name


def test_without_a_gpu_it_says_so_at_once():
    import torch

    if torch.cuda.is_available():
        pytest.skip("there is one here")
    with pytest.raises(SystemExit, match="no CUDA device.*--shapes tiny --device cpu"):
        main([])
