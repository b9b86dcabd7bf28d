"""Opens the reward models of a folder, takes in ones made elsewhere, and writes ours as ordinary checkpoints.

A reward model is a folder with `reward_model.json` and, by tuning:

* frozen: `head.safetensors`, the linear layer over a frozen base named in the JSON: for readout "head" the `score.weight`
  of `AutoModelForSequenceClassification`, for readout "probe" one weight per number that a probe reads;
* lora: an adapter of `peft` over the base named in the JSON;
* full: an ordinary checkpoint with its tokenizer (a sequence classifier for readout "head", else a language model);
* lora or full with readout "verifier": also `readout.safetensors`, the value head;
* imported: nothing else; the JSON names the folder or Hub id.
"""

from __future__ import annotations

import importlib.util
import shutil
import tempfile
from pathlib import Path

import numpy as np
from safetensors.torch import load_file

from bestofl_lib.models.identity import fingerprint, folder_hash
from bestofl_lib.rewards.backbone import RewardBackbone
from bestofl_lib.rewards.readouts import HeadReward, Likelihood, Probe, Readout, TokenValue
from bestofl_lib.rewards.spec import RewardModelSpec


def open_reward_model(
    folder: Path, spec: RewardModelSpec, device: str = "auto", dtype: str = "auto", batch_tokens: int | None = None
) -> RewardBackbone:
    """The model of one reward-model folder, its head in place, ready for `values` or for use as a classifier.

    Raises:
        ValueError: the base's weights are not those it was trained on; an adapter without peft.
    """
    is_full, is_imported = spec.tuning == "full", spec.tuning == "imported"
    if not is_full and not is_imported and fingerprint(spec.base, spec.revision) != spec.weights:
        raise ValueError(
            f"reward model {spec.name!r} was trained on other weights than {spec.base!r} has now; train it again "
            "(run 04_train_reward_models)"
        )
    _check_digest(folder, spec)
    backbone = RewardBackbone(
        folder if is_full else spec.base,
        revision=None if is_full else spec.revision,
        style=spec.style,
        layers=None if is_full else spec.layers,
        max_tokens=spec.max_tokens,
        device=device,
        dtype=dtype,
        batch_tokens=batch_tokens,
        require_head=(is_full or is_imported) and spec.readout == "head",
        readout=_readout(folder, spec),
    )
    if spec.is_frozen and spec.readout == "head":
        weight = load_file(folder / "head.safetensors")["score.weight"]
        backbone.model.score.weight.data = weight.to(backbone.model.score.weight)
    elif spec.tuning == "lora":
        _merge_adapter(backbone, folder, spec)
    if not spec.is_frozen:
        backbone.adapter = spec.recipe
        if spec.readout == "head":
            backbone.readout = HeadReward()
    return backbone


def head_weights(folder: Path, spec: RewardModelSpec) -> np.ndarray:
    """(features,) float64, the linear layer of a reward model on a frozen base.

    Raises:
        ValueError: it is damaged or missing.
    """
    _check_digest(folder, spec)
    return next(iter(load_file(folder / "head.safetensors").values()))[0].double().numpy()


def import_reward_model(
    source: str | Path, name: str, folder: str | Path, *, style: str = "question", revision: str | None = None,
    max_tokens: int | None = None,
) -> RewardModelSpec:  # fmt: skip
    """Add a reward model made elsewhere to the folder of reward models; it is opened once to check it.

    Args:
        source: folder or Hub id of a sequence classifier with one output and a trained head, such as
            'Skywork/Skywork-Reward-V2-Qwen3-0.6B'.
        name: what it is called in tables; not that of a variant trained here.
        style: prompt style that it reads; most reward models were trained on bare questions.

    Raises:
        ValueError: a name that a trained variant has, more than one output, no trained head, pickle weights.
    """
    if name in ("mono", "multi", "cross") or name.startswith("mono-") or not name.strip(". ") or "/" in name:
        raise ValueError(
            f"reward model name {name!r} belongs to a trained variant or is no folder name; choose another"
        )
    backbone = RewardBackbone(
        source, revision=revision, style=style, max_tokens=max_tokens, require_head=True, device="cpu"
    )
    spec = RewardModelSpec(
        name, "head", "imported", str(source), revision, fingerprint(source, revision), style, None, backbone.max_tokens
    )
    spec.write(Path(folder) / name)
    return spec


def export_reward_model(folder: str | Path, target: str | Path) -> Path:
    """Write one reward model as an ordinary Hugging Face checkpoint with its tokenizer.

    The constant that heads add to every reward is not part of that format and is left out; it changes no choice.

    Returns:
        target, which `AutoModelForSequenceClassification.from_pretrained` opens.

    Raises:
        ValueError: another readout than "head": it reads what a sequence classifier does not compute.
    """
    folder, target = Path(folder), Path(target)
    spec = RewardModelSpec.read(folder)
    if spec.readout != "head":
        raise ValueError(
            f"reward model {spec.name!r} has readout {spec.readout!r}, which is no sequence classifier; train with readout "
            "'head' to export"
        )
    backbone = open_reward_model(folder, spec, device="cpu", dtype="float32")
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent) as scratch:
        backbone.model.save_pretrained(scratch)
        backbone.texts.tokenizer.save_pretrained(scratch)
        shutil.copytree(scratch, target, dirs_exist_ok=True)
    return target


def _check_digest(folder: Path, spec: RewardModelSpec) -> None:
    if spec.tuning != "imported" and folder_hash(folder) != spec.digest:
        raise ValueError(
            f"the weights of reward model {spec.name!r} in {folder} are damaged or missing; delete the folder and train it "
            "again (run 04_train_reward_models)"
        )


def _readout(folder: Path, spec: RewardModelSpec) -> Readout | None:
    """How the model is opened; None: as a sequence classifier."""
    if spec.readout == "probe":
        return Probe()
    if spec.readout == "implicit":
        return Likelihood()
    if spec.readout == "verifier":
        weights = load_file(folder / "readout.safetensors")
        return TokenValue(weights["weight"], weights["bias"])
    return None


def _merge_adapter(backbone: RewardBackbone, folder: Path, spec: RewardModelSpec) -> None:
    if importlib.util.find_spec("peft") is None:
        raise ValueError(f"reward model {spec.name!r} is a lora adapter, which needs peft; pip install 'bestofl[lora]'")
    from peft import PeftModel

    adapted = PeftModel.from_pretrained(backbone.model, str(folder), use_safetensors=True)
    backbone.model = adapted.merge_and_unload().eval()
