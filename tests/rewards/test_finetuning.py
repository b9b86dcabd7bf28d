"""Trained weights: what is trained is what is scored, memory and interruptions change nothing, damage is noticed."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from bestofl_lib.analysis.reward_quality import within_problem_auc  # noqa: E402
from bestofl_lib.models.identity import folder_hash  # noqa: E402
from bestofl_lib.rewards import finetuning  # noqa: E402
from bestofl_lib.rewards.backbone import RewardBackbone  # noqa: E402
from bestofl_lib.rewards.finetuning import default_learning_rate, finetune  # noqa: E402
from bestofl_lib.rewards.opening import open_reward_model  # noqa: E402
from bestofl_lib.rewards.readouts import Likelihood  # noqa: E402
from bestofl_lib.rewards.reward_module import RewardModule  # noqa: E402
from bestofl_lib.rewards.scoring import score  # noqa: E402
from bestofl_lib.rewards.spec import RewardModelSpec, TrainingSettings  # noqa: E402
from bestofl_lib.rewards.training import train_reward_models  # noqa: E402

PROMPTS = [("what is 2 + 3?", "en"), ("2 + 4 ni ngapi?", "sw")]
OWNERS = [0, 1, 0, 1, 0, 1, 0, 1]
COMPLETIONS = ["so right", "sahihi", "right", "so so sahihi", "wrong", "kosa", "so so so wrong", "so kosa"]


def _train(world, base, folder, *, variants=("cross",), **settings):
    settings = {"rows": 40, "tuning": "full", "epochs": 3.0, "learning_rate": 3e-3, "batch_pairs": 8} | settings
    return train_reward_models(
        world.candidates, world.readings, world.split("train"), base=base, folder=folder, variants=variants,
        settings=TrainingSettings(**settings), device="cpu",
    )  # fmt: skip


def _pairs(backbone):
    texts, _ = backbone.whole_texts(PROMPTS, OWNERS, COMPLETIONS)
    return list(zip(texts[:4], texts[4:], strict=True))


@pytest.mark.parametrize("readout", ["implicit", "verifier"])
@pytest.mark.parametrize("tuning", ["full", "lora"])
def test_each_readout_learns_what_the_text_gives_away_and_opens_again(world, tiny_policy, tmp_path, readout, tuning):
    pytest.importorskip("peft")
    rate = {} if tuning == "full" else {"learning_rate": 1e-2}
    _train(world, tiny_policy, tmp_path, readout=readout, tuning=tuning, loss="bce", epochs=6.0, rows=80, **rate)
    rewards = score(world.candidates, world.split("test"), tmp_path, device="cpu").rewards
    assert rewards["reward"].is_finite().all()
    assert within_problem_auc(rewards, world.readings)["auc"].min() > 0.7


@pytest.mark.parametrize("readout", ["implicit", "verifier"])
def test_the_reward_that_is_trained_is_the_reward_that_is_scored(tiny_policy, tmp_path, readout):
    settings = TrainingSettings(readout=readout, tuning="full", epochs=1.0, learning_rate=1e-3)
    backbone = RewardBackbone(tiny_policy, readout=Likelihood(), device="cpu")
    pairs = _pairs(backbone)
    result = finetune(backbone, pairs, [], settings, tmp_path, "r")
    spec = RewardModelSpec("x", readout, "full", str(tiny_policy), None, "", "native", None, 512, digest="")
    module = RewardModule(transformers.AutoModelForCausalLM.from_pretrained(tmp_path), settings)
    if readout == "verifier":
        from safetensors.torch import load_file

        weights = load_file(tmp_path / "readout.safetensors")
        module.value_head.weight.data, module.value_head.bias.data = weights["weight"][None], weights["bias"]
    module.scale.data, module.offset.data = torch.tensor(result.scale), torch.tensor(result.offset)
    batch = finetuning._Collator(backbone.texts.pad)([{"chosen": a, "rejected": b} for a, b in pairs])
    with torch.inference_mode():
        expected = module.eval()(**batch)[1].numpy()

    spec = replace(spec, digest=folder_hash(tmp_path))
    opened = open_reward_model(tmp_path, spec, device="cpu")
    found = result.scale * opened.values(PROMPTS, OWNERS, COMPLETIONS)[0][:, 0] + result.offset
    assert np.allclose(found, expected, atol=1e-4)


def test_a_step_in_pieces_is_the_step_as_a_whole(tiny_policy, tmp_path, monkeypatch):
    """Memory that runs out above two pairs changes only how many are computed at a time."""
    settings = TrainingSettings(readout="implicit", tuning="full", epochs=2.0, batch_pairs=4, loss="bce")
    weights, sizes = [], []
    original = RewardModule.forward

    def limited(self, starts=None, **inputs):
        sizes.append(len(inputs["input_ids"]))
        if limit and len(inputs["input_ids"]) > limit:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")
        return original(self, starts, **inputs)

    monkeypatch.setattr(RewardModule, "forward", limited)
    for limit in (None, 2):
        backbone = RewardBackbone(tiny_policy, readout=Likelihood(), device="cpu")
        result = finetune(backbone, _pairs(backbone), [], settings, tmp_path / str(limit), "r")
        weights.append([result.scale, result.offset, *backbone.model.lm_head.weight.detach()[0, :5].tolist()])
    assert weights[0] == pytest.approx(weights[1], abs=1e-5)
    assert sizes[-1] == 2 and max(sizes) == 8


def test_memory_that_does_not_suffice_for_one_pair_is_an_error(tiny_policy, tmp_path, monkeypatch):
    def never(self, starts=None, **inputs):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")

    monkeypatch.setattr(RewardModule, "forward", never)
    backbone = RewardBackbone(tiny_policy, readout=Likelihood(), device="cpu")
    with pytest.raises(torch.OutOfMemoryError):
        finetune(backbone, _pairs(backbone), [], TrainingSettings(readout="implicit", tuning="full"), tmp_path, "r")


def test_training_that_was_stopped_continues_and_ends_with_the_same_weights(tiny_policy, tmp_path, monkeypatch):
    settings = TrainingSettings(readout="implicit", tuning="full", epochs=3.0, batch_pairs=2, learning_rate=1e-3)

    def run(folder):
        backbone = RewardBackbone(tiny_policy, readout=Likelihood(), device="cpu")
        result = finetune(backbone, _pairs(backbone), [], settings, folder, "r")
        return [result.scale, *backbone.model.lm_head.weight.detach()[0, :5].tolist()]

    whole = run(tmp_path / "whole")
    original, calls = RewardModule.forward, []

    def stopping(self, starts=None, **inputs):
        calls.append(1)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return original(self, starts, **inputs)

    monkeypatch.setattr(RewardModule, "forward", stopping)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "stopped")
    assert any((tmp_path / "stopped" / "checkpoints").glob("checkpoint-*"))
    assert run(tmp_path / "stopped") == pytest.approx(whole, abs=1e-6)
    assert len(calls) == 4 + 4, "the two steps of the first epoch were not repeated"
    assert not (tmp_path / "stopped" / "checkpoints").exists()


def test_a_training_of_one_step_moves_the_weights(tiny_policy, tmp_path):
    backbone = RewardBackbone(tiny_policy, readout=Likelihood(), device="cpu")
    before = backbone.model.lm_head.weight.detach().clone()
    finetune(
        backbone, _pairs(backbone), [], TrainingSettings(readout="implicit", tuning="full", epochs=1.0), tmp_path, "r"
    )
    assert not torch.equal(before, backbone.model.lm_head.weight)


@pytest.mark.parametrize("steps", [1, 2, 19, 20, 200])
def test_the_warm_up_is_a_small_share_of_the_steps_that_are_made(tiny_policy, tmp_path, steps):
    """Whatever the epochs, batches and processes say: the only step of a training has its full learning rate."""
    settings = TrainingSettings(readout="implicit", tuning="full", learning_rate=1e-3)
    backbone = RewardBackbone(tiny_policy, readout=Likelihood(), device="cpu")
    args = finetuning._arguments(settings, tmp_path, backbone, 4000, 16, 16, False)
    trainer = finetuning._PairTrainer(model=RewardModule(backbone.model, settings), args=args)
    optimizer = trainer.create_optimizer()
    scheduler = trainer.create_scheduler(steps, optimizer)
    rates = []
    for _ in range(steps):
        rates.append(max(group["lr"] for group in optimizer.param_groups))
        optimizer.step()
        scheduler.step()
    assert max(rates) > 0 and rates.index(max(rates)) <= steps / 20
    assert sum(rate == 0 for rate in rates) <= steps / 20


def test_held_out_problems_say_when_to_stop_and_which_weights_are_kept(world, tiny_policy, tmp_path):
    table = _train(
        world, tiny_policy, tmp_path, readout="implicit", loss="bce", hold_out=0.3, epochs=8.0, learning_rate=1e-2
    )
    accuracy = table["held_out_accuracy"].item()
    assert 0.5 <= accuracy <= 1
    with pytest.raises(ValueError, match=r"hold_out=0.001 of \d+ training problems leaves nothing to hold out"):
        _train(world, tiny_policy, tmp_path / "none", readout="implicit", hold_out=0.001)


def test_a_lora_base_stays_in_the_asked_dtype_and_the_adapter_is_float32(tiny_policy):
    pytest.importorskip("peft")
    backbone = RewardBackbone(tiny_policy, device="cpu", dtype="bfloat16", readout=Likelihood())
    module = RewardModule(backbone.model, TrainingSettings(readout="implicit", tuning="lora"))
    kinds = {(p.dtype, p.requires_grad) for name, p in module.named_parameters() if name.startswith("model.")}
    assert kinds == {(torch.bfloat16, False), (torch.float32, True)}


def test_a_number_format_that_training_does_not_have_is_refused(world, tiny_policy, tmp_path):
    with pytest.raises(ValueError, match="training on 'cpu' computes in 'float32' or 'bfloat16'"):
        _train(world, tiny_policy, tmp_path, readout="implicit", dtype="float16")


def test_damaged_or_missing_weights_are_an_error_when_scored_and_trained_again_on_request(world, tiny_policy, tmp_path):
    _train(world, tiny_policy, tmp_path, readout="implicit", epochs=1.0)
    weights = tmp_path / "cross" / "model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-3] ^= 1
    weights.write_bytes(data)
    with pytest.raises(ValueError, match="'cross' in .* damaged or missing; delete the folder and train it again"):
        score(world.candidates, world.split("test"), tmp_path, device="cpu")
    assert _train(world, tiny_policy, tmp_path, readout="implicit", epochs=1.0)["status"].to_list() == ["trained"]
    assert _train(world, tiny_policy, tmp_path, readout="implicit", epochs=1.0)["status"].to_list() == ["kept"]
    weights.unlink()
    assert _train(world, tiny_policy, tmp_path, readout="implicit", epochs=1.0)["status"].to_list() == ["trained"]


def test_the_number_of_trainings_and_their_size_are_said_first(world, tiny_policy, tmp_path, capsys):
    _train(world, tiny_policy, tmp_path, variants=("multi", "cross"), readout="implicit", epochs=1.0)
    assert capsys.readouterr().out.startswith("2 trainings (implicit, full) of 40 pairs: about ")


def test_the_default_learning_rate_suits_the_size_of_the_base():
    rates = [default_learning_rate("full", n) for n in (1_800_000, 135_000_000, 7_000_000_000)]
    assert rates == sorted(rates, reverse=True)
    assert rates[0] == pytest.approx(1e-4, rel=0.1)
    assert rates[2] == pytest.approx(2e-5)
