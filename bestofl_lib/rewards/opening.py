"""Opens the reward models of a folder, imports others, and exports ours as ordinary checkpoints.

A reward model is a folder with `reward_model.json` and, by tuning:

* frozen: `head.safetensors`, the linear layer over a frozen base named in the JSON: for readout "head" the
  `score.weight` of `AutoModelForSequenceClassification`, for readouts "probe" and "steps" one weight per number that a
  probe reads;
* lora: an adapter of `peft` over the base named in the JSON;
* full: an ordinary checkpoint with its tokenizer (a sequence classifier for readout "head", else a language model);
* lora or full with readout "verifier" or "steps": also `readout.safetensors`, the value head;
* imported: nothing else; the JSON names the folder or Hub id, and how its reward is read (`ways.py`);
* served: nothing else; the JSON names the servers (`served.py` asks them).
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from huggingface_hub import hf_hub_download
from huggingface_hub.errors import EntryNotFoundError
from safetensors import safe_open
from safetensors.torch import load_file

from bestofl_lib.languages import PIVOT
from bestofl_lib.models.identity import fingerprint, folder_hash, locate
from bestofl_lib.problems.files import find
from bestofl_lib.rewards.backbone import RewardBackbone
from bestofl_lib.rewards.logits import own_logits
from bestofl_lib.rewards.readouts import (
    HeadReward,
    Likelihood,
    PrefixProbe,
    Probe,
    Readout,
    StepRewards,
    TokenValue,
)
from bestofl_lib.rewards.served_models import ServedModel
from bestofl_lib.rewards.spec import OUTSIDE, RewardModelSpec, check_peft, reward_models
from bestofl_lib.rewards.step_texts import QWEN_SYSTEM, STEP_TEXTS, MarkedTexts, OwnSteps
from bestofl_lib.rewards.texts import CandidateTexts
from bestofl_lib.rewards.ways import STEP_WAYS, ExternalModel, way_of
from bestofl_lib.text import suggestion

_BROUGHT = "brought_from"  # a file that says where a copied reward model stands


def open_reward_model(
    folder: Path, spec: RewardModelSpec, device: str = "auto", dtype: str = "auto", batch_tokens: int | None = None
) -> RewardBackbone:
    """The model of one reward-model folder, its head in place, ready for `values` or for use as a classifier.

    Raises:
        ValueError: the base's weights are not those it was trained on; an adapter without peft.
    """
    if spec.tuning == "imported":
        return _open_imported(spec, device, dtype, batch_tokens)
    is_full = spec.tuning == "full"
    if not is_full and fingerprint(spec.base, spec.revision) != spec.weights:
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
        require_head=is_full and spec.readout == "head",
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
        elif spec.readout == "steps":
            read_by(backbone, OwnSteps)
    return backbone


def head_weights(folder: Path, spec: RewardModelSpec) -> np.ndarray:
    """(features,) float64, the linear layer of a reward model on a frozen base.

    Raises:
        ValueError: it is damaged or missing.
    """
    _check_digest(folder, spec)
    return next(iter(load_file(folder / "head.safetensors").values()))[0].double().numpy()


def import_reward_models(models: Sequence[str], folder: str | Path) -> list[RewardModelSpec]:
    """Add the reward models that a study names, and remove those imported before that it no longer names.

    Args:
        models: each "source, key=value, …" (see `ExternalModel.parse`, and `ServedModel.parse` for the address of a
            server), or the folder of a reward model that another run trained, which is copied.
        folder: the run's folder of reward models.
    """
    folder = Path(folder)
    named = []
    for text in models:
        first = text.split(",")[0].strip()
        source = find(first)
        if first.startswith(("http://", "https://")) or first.endswith(".txt"):
            named.append(_add_served(ServedModel.parse(text), folder))
        elif (source / "reward_model.json").exists():
            named.append(_copy_reward_model(source, folder))
        else:
            named.append(import_reward_model(ExternalModel.parse(text), folder))
    kept = {spec.name for spec in named}
    for path in folder.glob("*/reward_model.json"):
        known = RewardModelSpec.read(path.parent)
        if known.name not in kept and (known.tuning in OUTSIDE or (path.parent / _BROUGHT).exists()):
            shutil.rmtree(path.parent)
    return named


def _copy_reward_model(source: Path, folder: Path) -> RewardModelSpec:
    spec = RewardModelSpec.read(source)
    _check_digest(source, spec)
    destination = folder / spec.name
    if destination.exists() and not (destination / _BROUGHT).exists():
        raise ValueError(
            f"reward model {spec.name!r} was trained in this run; rename the one in {source} (its name in "
            "reward_model.json)"
        )
    shutil.rmtree(destination, ignore_errors=True)
    shutil.copytree(source, destination)
    (destination / _BROUGHT).write_text(str(source))
    return spec


def import_reward_model(model: ExternalModel, folder: str | Path, *, style: str = "question") -> RewardModelSpec:
    """Add a reward model made elsewhere to the folder of reward models; it is opened once to check it.

    Its configuration says how its reward is read, see `ways`. Only safetensors are opened; repository code is never
    run.

    Args:
        model: source, name and, where the configuration does not decide, template.
        style: prompt style that it reads; most reward models were trained on bare questions.

    Raises:
        ValueError: a name that a trained variant has, a kind of model that cannot be read, pickled weights.
    """
    _check_name(model.name)
    spec = external_spec(model, style=style)
    place = Path(folder) / model.name
    if (place / "reward_model.json").exists():
        known = RewardModelSpec.read(place)
        if replace(known, max_tokens=0) == spec:
            return known
    backbone = open_reward_model(place, spec, device="cpu")
    backbone.values([("1 + 1?", PIVOT)], [0], ["It is 2.\n\nThe answer is 2."])
    spec = replace(spec, max_tokens=backbone.max_tokens)
    spec.write(place)
    return spec


def external_spec(model: ExternalModel, *, style: str = "question") -> RewardModelSpec:
    """The record of a reward model made elsewhere, which is not opened for it; see `import_reward_model`."""
    way, template = way_of(model)
    weights = fingerprint(model.source, model.revision)
    return RewardModelSpec(
        model.name,
        "head",
        "imported",
        str(model.source),
        model.revision,
        weights,
        style,
        None,
        0,
        way=way,
        template=template,
        aggregation=model.aggregation if way in STEP_WAYS else "",
    )


def local_spec(folder: str) -> RewardModelSpec:
    """The record of a reward model in this process: of a trained one its own, else made from its config.json.

    Raises:
        FileNotFoundError, ValueError: there is no such model, or its reward cannot be read.
    """
    place = find(folder)
    if (place / "reward_model.json").exists():
        return RewardModelSpec.read(place)
    return external_spec(ExternalModel.parse(str(place) if place.exists() else folder))


def _add_served(model: ServedModel, folder: Path) -> RewardModelSpec:
    """Note a served reward model; what its local side learnt from is taken over, so that overlap is noticed."""
    local = local_spec(model.local) if model.local else None
    if local is None or local.tuning == "imported":
        _check_name(model.name)
    elif local.fold is not None:
        raise ValueError(
            f"reward model {model.local!r} is one of {local.folds} cross-fitted folds, which are not served together; "
            "score them in this process"
        )
    place = folder / model.name
    spec = RewardModelSpec(
        model.name, "head", "served", model.addresses, model.revision or None, "",
        local.style if local else "question", None, 0, served=model.record(),
    )  # fmt: skip
    if local is not None:
        spec = replace(
            spec, scale=local.scale, offset=local.offset, seed=local.seed, trained_problems=local.trained_problems,
            trained_questions=local.trained_questions,
        )  # fmt: skip
    if (place / "reward_model.json").exists() and RewardModelSpec.read(place).tuning != "served":
        raise ValueError(
            f"reward model {model.name!r} is here already, trained or imported; give the served one another name with "
            "name=…"
        )
    spec.write(place)
    return spec


def _check_name(name: str) -> None:
    if name in ("mono", "multi", "cross") or name.startswith("mono-") or not name.strip(". ") or "/" in name:
        raise ValueError(
            f"reward model name {name!r} belongs to a trained variant or is not a valid folder name; choose another "
            "with name=…, or name the trained reward model behind a server with local=…"
        )


def export_reward_model(folder: str | Path, destination: str | Path) -> Path:
    """Write one reward model as an ordinary Hugging Face checkpoint with its tokenizer.

    The constant that heads add to every reward is not part of that format and is left out; it changes no choice.

    Returns:
        destination, which `AutoModelForSequenceClassification.from_pretrained` opens.

    Raises:
        ValueError: there is no such reward model; another readout than "head": it reads what a sequence classifier does
            not compute; or something is in the destination already.
    """
    folder, destination = Path(folder), Path(destination)
    if not (folder / "reward_model.json").exists():
        known = [path.name for path, _ in reward_models(folder.parent)]
        raise ValueError(
            f"no reward model {folder.name!r} in {folder.parent}; {suggestion(folder.name, known)}"
            f"it has {', '.join(known) or 'none'}"
        )
    if destination.exists() and (not destination.is_dir() or any(destination.iterdir())):
        raise ValueError(f"{destination} exists already; name a new folder")
    spec = RewardModelSpec.read(folder)
    if spec.readout != "head":
        raise ValueError(
            f"reward model {spec.name!r} has readout {spec.readout!r}, which a sequence classifier cannot compute; "
            "train it with readout='head' to export it"
        )
    backbone = open_reward_model(folder, spec, device="cpu", dtype="float32")
    destination.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=destination.parent) as scratch:
        backbone.model.save_pretrained(scratch)
        backbone.texts.tokenizer.save_pretrained(scratch)
        shutil.copytree(scratch, destination, dirs_exist_ok=True)
    return destination


def _check_digest(folder: Path, spec: RewardModelSpec) -> None:
    if folder_hash(folder) != spec.digest:
        raise ValueError(
            f"the weights of reward model {spec.name!r} in {folder} are damaged or missing; delete the folder and "
            "train it again (run 04_train_reward_models)"
        )


def _readout(folder: Path, spec: RewardModelSpec) -> Readout | None:
    """How the model is opened; None: as a sequence classifier."""
    if spec.readout == "probe":
        return Probe()
    if spec.readout == "implicit":
        return Likelihood()
    if spec.readout == "steps" and spec.is_frozen:
        return PrefixProbe()
    if spec.readout in ("verifier", "steps"):
        weights = load_file(folder / "readout.safetensors")
        value = TokenValue(weights["weight"], weights["bias"])
        return value if spec.readout == "verifier" else StepRewards.of_value(value)
    return None


def read_by(backbone: RewardBackbone, texts: type[CandidateTexts]) -> None:
    """Let a model read texts of another kind."""
    own = backbone.texts
    backbone.texts = texts(own.tokenizer, own.source, own.style)
    backbone.texts.max_tokens, backbone.texts.pad = own.max_tokens, own.pad


def _open_imported(spec: RewardModelSpec, device: str, dtype: str, batch_tokens: int | None) -> RewardBackbone:
    """A model made elsewhere, with its head, its texts and its way to read a reward."""
    language_model = spec.way in ("label steps", "judge")
    if fingerprint(spec.base, spec.revision) != spec.weights:
        raise ValueError(
            f"reward model {spec.name!r} ({spec.base}) has other weights now than when it was imported; delete its "
            "folder in reward_models to import it again"
        )
    backbone = RewardBackbone(
        spec.base,
        revision=spec.revision,
        style=spec.style,
        max_tokens=spec.max_tokens or None,
        device=device,
        dtype=dtype,
        batch_tokens=batch_tokens,
        require_head=spec.way == "sequence",
        labels_tokens=spec.way == "token steps",
        readout=Likelihood() if language_model else None,
    )
    if spec.way == "sequence":
        backbone.readout = HeadReward()
    backbone.adapter = f"{spec.way} {spec.template}"
    texts = STEP_TEXTS.get((spec.way, spec.template))
    if texts is not None:
        read_by(backbone, texts)
    if spec.template == "qwen-math":
        backbone.texts.system = QWEN_SYSTEM
    if spec.way.startswith("two-layer"):
        labels = 2 if spec.way == "two-layer steps" else 1
        backbone.model.score = two_layer_head(spec.base, spec.revision, labels).to(backbone.device, backbone.dtype)
        backbone.readout = HeadReward()
    if spec.way in STEP_WAYS or spec.way == "judge":
        backbone.readout = _step_readout(backbone, spec)
    return backbone


def _step_readout(backbone: RewardBackbone, spec: RewardModelSpec) -> StepRewards:
    """P(right) where the texts set a mark."""
    if spec.way not in ("label steps", "judge"):
        return StepRewards(spec.way, lambda model, states: model.score(states), good=1)
    texts = backbone.texts
    if not isinstance(texts, MarkedTexts):
        raise RuntimeError(f"{spec.way} without marked texts")
    if spec.template == "ki":
        good, bad = texts.ids("+")[-1], texts.ids("-")[-1]
    elif spec.template == "labels":
        good, bad = texts.one_token("+"), texts.one_token("-")
    else:
        good, bad = texts.ids("Yes")[0], texts.ids("No")[0]
    return StepRewards(f"{spec.way} {good} {bad}", own_logits, good, [good, bad], needs_language_model=True)


def two_layer_head(source: str | Path, revision: str | None, labels: int) -> torch.nn.Module:
    """Linear → ReLU → Linear, from the `score.0.*` and `score.2.*` tensors of a checkpoint.

    Raises:
        ValueError: there are none, or the head has another number of outputs.
    """
    found: dict[str, torch.Tensor] = {}
    for path in safetensors_files(source, revision, prefix="score."):
        with safe_open(str(path), framework="pt") as file:
            found |= {name: file.get_tensor(name) for name in file.keys() if name.startswith("score.")}  # noqa: SIM118
    wanted = ("score.0.weight", "score.0.bias", "score.2.weight", "score.2.bias")
    missing = [name for name in wanted if name not in found]
    if missing:
        raise ValueError(f"reward model {str(source)!r} has no two-layer head: {', '.join(missing)} is missing")
    outputs, size = found["score.2.weight"].shape
    if outputs != labels:
        raise ValueError(f"the head of {str(source)!r} has {outputs} outputs; this kind of reward model has {labels}")
    width = found["score.0.weight"].shape[1]
    head = torch.nn.Sequential(torch.nn.Linear(width, size), torch.nn.ReLU(), torch.nn.Linear(size, outputs))
    head.load_state_dict({name.removeprefix("score."): found[name] for name in wanted})
    return head.eval()


def safetensors_files(source: str | Path, revision: str | None, prefix: str) -> list[Path]:
    """The weight files of a model that hold tensors with this prefix; of a Hub id, only these are fetched."""
    located = locate(source)
    folder = Path(located)

    def path(name: str) -> Path:
        return folder / name if folder.is_dir() else Path(hf_hub_download(located, name, revision=revision))

    if folder.is_dir():
        return sorted(folder.glob("*.safetensors"))
    try:
        index = json.loads(path("model.safetensors.index.json").read_text("utf8"))["weight_map"]
    except EntryNotFoundError:
        return [path("model.safetensors")]
    return [path(name) for name in sorted({file for tensor, file in index.items() if tensor.startswith(prefix)})]


def _merge_adapter(backbone: RewardBackbone, folder: Path, spec: RewardModelSpec) -> None:
    check_peft(f"reward model {spec.name!r}, a lora adapter,")
    from peft import PeftModel

    adapted = PeftModel.from_pretrained(backbone.model, str(folder), use_safetensors=True)
    backbone.model = adapted.merge_and_unload().eval()
