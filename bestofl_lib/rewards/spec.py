"""What a reward model is called, how it is trained, and the record that is kept with its weights.

It knows settings and JSON files; it opens no model and imports no model library.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import polars as pl

from bestofl_lib.files import replace_file
from bestofl_lib.rewards.steps import AGGREGATIONS
from bestofl_lib.tables import SCHEMAS
from bestofl_lib.text import content_digest

LOSSES = ("pairwise", "bce")
STEP_TARGETS = ("share", "any")  # of the rollouts that reach the right answer
READOUTS = (
    "head",
    "probe",
    "implicit",
    "verifier",
    "steps",
)  # how the reward is read off the model, see `TrainingSettings`
OUTSIDE = ("imported", "served")  # how a reward model that was not trained here is marked, in place of a tuning
SCOPES = ("own", "all")  # languages that a mono model scores
TUNINGS = ("frozen", "lora", "full")  # which weights of the base are trained
TRAINED = SCHEMAS["trained"]
_SEAL = "record_digest"


@dataclass(frozen=True)
class TrainingSettings:
    """How reward models are trained: all settings that affect their weights, except base model and data.

    Raises:
        ValueError: an unknown value, or a setting that this tuning does not use.
    """

    readout: str = "head"  # "head": linear layer on the last token's state, as in any sequence classifier;
    # "probe": linear layer on the last state, the mean state and the likelihoods of the tokens (frozen base only);
    # "implicit": scale × log-likelihood of the completion + offset; "verifier": a value at every token; "steps": a
    # value at the end of every step, learnt from the table `step_labels`
    tuning: str = "frozen"  # "frozen": the base is run once, only the linear layer is fitted; "lora": adapter (extra
    # `lora`); "full": all weights
    loss: str = "pairwise"  # "pairwise": -log sigmoid(r_chosen - r_rejected); "bce": each pair as two labelled rows
    rows: int = 4000  # pairs per model at most; every model gets the number that all of them can have
    cross_shares: str = "natural"  # how pairs of languages are weighted in "cross", see `pairs.training_pairs`
    folds: int = 0  # cross-fitting folds by problem, for data without a training split; 0: none. Rewards of
    # different folds are never compared, since a choice is made within one problem
    seed: int = 0  # of the pairs, of new weights and of the order of training
    style: str = "native"  # prompt style that the candidates were asked with
    revision: str | None = None  # Hub revision of the base
    layers: int | None = None  # keep only so many layers of the base; None: all
    max_tokens: int | None = None  # longest text in tokens; None: the model's limit, at most 4096
    dtype: str = "auto"  # of weights that are not trained, and of the computation; trained weights are float32
    epochs: float | None = None  # of "lora" and "full"; None: 2
    learning_rate: float | None = None  # of "lora" and "full"; None: by the size of the base, see `finetuning`
    batch_pairs: int | None = None  # pairs per optimiser step and device of "lora" and "full"; None: 16
    aggregation: str = (
        "last"  # of readout "steps": how the values of steps become one reward; the weights stay the same
    )
    step_target: str = "share"  # of readout "steps": the share of right rollouts, or whether "any" was right
    hold_out: float = 0.0  # of "lora" and "full": share of the training problems whose pairs only say when to stop

    def __post_init__(self) -> None:
        choices = {"readout": READOUTS, "tuning": TUNINGS, "loss": LOSSES}
        for name, known in (choices | {"aggregation": AGGREGATIONS, "step_target": STEP_TARGETS}).items():
            if getattr(self, name) not in known:
                raise ValueError(f"unknown {name} {getattr(self, name)!r}; use one of: {', '.join(known)}")
        if self.readout == "probe" and self.tuning != "frozen":
            raise ValueError(f"readout 'probe' needs tuning 'frozen', not {self.tuning!r}; or use readout 'head'")
        if self.readout in ("implicit", "verifier") and self.tuning == "frozen":
            raise ValueError(
                f"readout {self.readout!r} needs tuning 'lora' or 'full', not 'frozen'; or use readout 'probe'"
            )
        if self.readout == "steps" and self.loss != "bce":
            raise ValueError(
                f"readout 'steps' needs loss 'bce', not {self.loss!r}: the label of a step says how often the answer "
                "is reached from there, and compares no two candidates"
            )
        if self.readout != "steps" and (self.aggregation, self.step_target) != ("last", "share"):
            raise ValueError(
                "aggregation and step_target belong to readout 'steps'; leave them out with another readout"
            )
        if not 0 <= self.hold_out <= 0.5:
            raise ValueError(f"hold_out={self.hold_out}: use a share from 0 (nothing) to 0.5 of the training problems")
        unused = [name for name in ("epochs", "learning_rate", "batch_pairs") if getattr(self, name) is not None]
        unused += ["hold_out"] if self.hold_out else []
        if self.tuning == "frozen" and unused:
            raise ValueError(
                f"{', '.join(unused)}: tuning 'frozen' is solved exactly and has no such setting; "
                "leave it out or use tuning 'lora' or 'full'"
            )
        for name in ("rows", "epochs", "learning_rate", "batch_pairs", "layers", "max_tokens"):
            value = getattr(self, name)
            if value is not None and value <= 0:
                raise ValueError(f"{name}={value}: use a number above 0" + ("" if name == "rows" else ", or None"))
        if self.folds < 0 or self.folds == 1:
            raise ValueError(f"folds={self.folds}: use 0 for no cross-fitting, or at least 2")

    def compute_dtype(self, device: str) -> str:
        """Number format of the computation when weights are trained: that of mixed precision, or "float32".

        Args:
            device: type, such as "cuda".

        Raises:
            ValueError: a format that training on this device does not have.
        """
        chosen = self.dtype
        if chosen == "auto":
            chosen = "bfloat16" if device == "cuda" else "float32"
        if chosen not in ("float32", "bfloat16") and not (chosen == "float16" and device == "cuda"):
            raise ValueError(
                f"dtype={self.dtype!r}: training on {device!r} computes in 'float32' or 'bfloat16'"
                f"{' or float16' if device == 'cuda' else ''}; use one of these or 'auto'"
            )
        return chosen

    def recipe(self, weights: str, pairs: pl.DataFrame, content: Mapping[tuple[str, str, int], str]) -> str:
        """Hash of all that shapes a reward model: what has the same recipe is not trained twice.

        `rows` and `cross_shares` count through the pairs that they led to, step labels through `content`; the
        aggregation of steps shapes no weights.

        Args:
            weights: fingerprint of the base.
            pairs: PAIRS, in the order of training.
            content: text of each candidate by its key, with the labels of its steps where there are any.
        """
        settings = {k: v for k, v in asdict(self).items() if k not in ("rows", "cross_shares", "aggregation")}
        digest = hashlib.blake2b(json.dumps([settings, weights], sort_keys=True).encode(), digest_size=16)
        for p, a, i, b, j in pairs.iter_rows():
            row = f"{p}\0{a}\0{i}\0{b}\0{j}\0{content[p, a, i]}\0{content[p, b, j]}\1"
            digest.update(row.encode("utf8", "replace"))
        return digest.hexdigest()


def check_peft(what: str) -> None:
    """Refuse what needs an adapter where the library for adapters is not installed.

    Args:
        what: needs it, as the subject of the message.
    """
    if importlib.util.find_spec("peft") is None:
        raise ValueError(f"{what} needs peft, which is not installed; pip install 'bestofl[lora]'")


@dataclass(frozen=True)
class RewardModelSpec:
    """What `reward_model.json` says."""

    name: str  # "mono-en", "multi", "cross" or an imported name
    readout: str  # how the number is read, see `TrainingSettings`
    tuning: str  # "frozen", "lora", "full", or "imported": made elsewhere, used as it is; "served": behind servers
    base: str  # folder or Hub id of the base (the model itself when imported)
    revision: str | None  # Hub revision of the base
    weights: str  # fingerprint of the base's weights: other weights under the same name are noticed
    style: str  # prompt style of the texts it reads
    layers: int | None  # layers kept of the base; null: all
    max_tokens: int  # longest text; longer completions lose their beginning
    dtype: str = "auto"  # of the frozen weights it was trained on
    scale: float = 1.0  # reward = scale × number that is read + offset
    offset: float = 0.0
    loss: str | None = None
    fold: int | None = None  # it scores only problems of this fold
    folds: int = 0
    seed: int = 0
    recipe: str = ""  # see `TrainingSettings.recipe`
    way: str = ""  # of a model made elsewhere: how its reward is read, one of `ways.WAYS`
    template: str = ""  # and how its texts are written, one of `ways.TEMPLATES`
    aggregation: str = ""  # and, of step rewards, how they become one; also of readout "steps"
    digest: str = ""  # of the weights in this folder, so that damage is noticed; empty: it has none
    served: dict[str, Any] | None = None  # of a model behind servers: what the study says of it, see `ServedModel`
    result: dict[str, Any] | None = None  # its row of the table of training
    trained_problems: tuple[str, ...] = ()
    trained_questions: tuple[str, ...] = ()  # hashes of normalised questions, in all languages

    @property
    def is_frozen(self) -> bool:
        """Whether its base is used as it is, so that several such models share one pass."""
        return self.tuning == "frozen"

    @property
    def training_seed(self) -> int | None:
        """Which of several trainings it is; None: it was not trained by this project."""
        is_ours = self.tuning not in OUTSIDE or bool(self.trained_problems)
        return self.seed if is_ours else None

    @property
    def language(self) -> str | None:
        """The only language of its training pairs; None: several, or unknown."""
        return self.name.removeprefix("mono-") if self.name.startswith("mono-") else None

    def write(self, folder: Path) -> None:
        """Write the record, with a digest of itself: it holds numbers that change rewards, such as the scale."""
        content = json.loads(json.dumps(asdict(self)))
        data = json.dumps(content | {_SEAL: _seal(content)}, ensure_ascii=False, indent=1).encode()
        replace_file(folder / "reward_model.json", data)

    @staticmethod
    def read(folder: Path) -> RewardModelSpec:
        """The record of one folder.

        Raises:
            ValueError: the file is damaged, was altered, or was written by another version.
        """
        path = folder / "reward_model.json"
        try:
            content = json.loads(path.read_text("utf8"))
            if content.pop(_SEAL, "") != _seal(content):
                raise ValueError("it does not match its own digest: it was altered, or written by another version")
            content["trained_problems"] = tuple(content["trained_problems"])
            content["trained_questions"] = tuple(content["trained_questions"])
            unknown = set(content) - {field.name for field in fields(RewardModelSpec)}
            if unknown:
                raise ValueError(f"unknown fields {', '.join(sorted(unknown))}")
            return RewardModelSpec(**content)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ValueError(
                f"{path} is not the record of a reward model ({error}); delete the folder and train again"
            ) from error


def _seal(content: Mapping[str, Any]) -> str:
    return content_digest(json.dumps(content, sort_keys=True))


def reward_models(folder: str | Path) -> list[tuple[Path, RewardModelSpec]]:
    """Every finished reward model under a folder, by name, training seed and fold.

    Raises:
        FileNotFoundError: no such folder. A folder without any is what training leaves where no pairs could be formed.
    """
    folder = Path(folder)
    below = ("", "fold-*/", "seed-*/", "seed-*/fold-*/")
    places = sorted(place for part in below for place in folder.glob(f"*/{part}reward_model.json"))
    if not folder.is_dir():
        raise FileNotFoundError(f"no reward models in {folder}; run 04_train_reward_models first")
    return [(path.parent, RewardModelSpec.read(path.parent)) for path in places]
