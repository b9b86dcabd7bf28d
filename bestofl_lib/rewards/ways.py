"""How the reward of an imported model is read: its configuration decides, not its name.

| Way | Told by config.json | The number |
| --- | --- | --- |
| sequence | `*ForSequenceClassification`, one label | logit at the last token |
| two-layer | `Qwen2ForRewardModel`, one label | the two-layer head at the last token |
| two-layer steps | `Qwen2ForProcessRewardModel`, two labels | P(right) at each step separator |
| token steps | `*ForTokenClassification`, two labels | P(label 1) at the end of each step |
| label steps | `*ForCausalLM`, template "labels" or "ki" | P(good label) against the bad one, after each step |
| judge | `*ForCausalLM`, template "judge" | P("Yes") against "No" when asked whether the solution is correct |

It reads JSON and the names of files; it opens no model. Repository code is never run.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bestofl_lib.models.identity import config_path
from bestofl_lib.rewards.steps import AGGREGATIONS
from bestofl_lib.text import suggestion

TEMPLATES = ("chat", "qwen-math", "lines", "labels", "ki", "judge")
WAYS = ("sequence", "two-layer", "two-layer steps", "token steps", "label steps", "judge")
STEP_WAYS = ("two-layer steps", "token steps", "label steps")  # one number per step
_TWO_LAYER = {"Qwen2ForRewardModel": "two-layer", "Qwen2ForProcessRewardModel": "two-layer steps"}
_OF_LANGUAGE_MODEL = {"labels": "label steps", "ki": "label steps", "judge": "judge"}
_DEFAULT_TEMPLATE = {
    "sequence": "chat",
    "two-layer": "qwen-math",
    "two-layer steps": "qwen-math",
    "token steps": "lines",
}
_NEEDS_CODE = ("InternLM2ForRewardModel",)


@dataclass(frozen=True)
class ExternalModel:
    """A reward model made elsewhere, as a study names it."""

    source: str  # folder or Hub id
    name: str  # what it is called in tables
    template: str | None = None  # one of TEMPLATES; None: what its configuration suggests
    aggregation: str = "min"  # of step rewards
    revision: str | None = None

    @staticmethod
    def parse(text: str) -> ExternalModel:
        """From "source, key=value, …"; keys: name, template, aggregation, revision.

        Raises:
            ValueError: an unknown key, template or aggregation.

        >>> ExternalModel.parse("Qwen/Qwen2.5-Math-PRM-7B, aggregation=product").name
        'Qwen2.5-Math-PRM-7B'
        """
        source, *options = [part.strip() for part in text.split(",")]
        if not source:
            raise ValueError(f"reward model {text!r} names no folder or Hub id; write 'owner/model' or a folder")
        found: dict[str, str] = {}
        for option in options:
            key, _, value = option.partition("=")
            if key.strip() not in ("name", "template", "aggregation", "revision") or not value.strip():
                keys = ("name", "template", "aggregation", "revision")
                raise ValueError(
                    f"reward model {text!r}: cannot read {option!r}; {suggestion(key.strip(), keys)}"
                    f"use key=value with one of: {', '.join(keys)}"
                )
            found[key.strip()] = value.strip()
        for key, known in (("template", TEMPLATES), ("aggregation", AGGREGATIONS)):
            if key in found and found[key] not in known:
                raise ValueError(f"reward model {text!r}: unknown {key} {found[key]!r}; use one of: {', '.join(known)}")
        name = found.pop("name", Path(source).name)
        return ExternalModel(source, name, **found)


def way_of(model: ExternalModel) -> tuple[str, str]:
    """How the model's reward is read (one of WAYS), and the template of its texts (one of TEMPLATES).

    Raises:
        ValueError: a model whose reward cannot be read, with the reason.
        FileNotFoundError: no such folder.
    """
    config = read_config(model.source, model.revision)
    architecture = next(iter(config.get("architectures") or []), "")
    labels = config.get("num_labels") or len(config.get("id2label") or {}) or None
    said = f"reward model {model.source!r} ({architecture or 'no architecture in config.json'})"
    if architecture in _NEEDS_CODE:
        raise ValueError(
            f"{said} needs the repository's own code for its configuration and tokenizer, which is never run"
        )
    if architecture in _TWO_LAYER:
        way = _TWO_LAYER[architecture]
    elif architecture.endswith("ForSequenceClassification"):
        if labels not in (None, 1):
            raise ValueError(f"{said} has {labels} outputs; a reward model has 1 (num_labels=1)")
        way = "sequence"
    elif architecture.endswith("ForTokenClassification"):
        if labels not in (None, 2):
            raise ValueError(f"{said} has {labels} labels per token; a process reward model has 2 (wrong, right)")
        way = "token steps"
    elif architecture.endswith("ForCausalLM"):
        if model.template not in _OF_LANGUAGE_MODEL:
            raise ValueError(
                f"{said} is a language model; say how its reward is read: template=labels (label tokens as assistant "
                "turns), template=ki (Math-Shepherd) or template=judge (asked for Yes or No)"
            )
        way = _OF_LANGUAGE_MODEL[model.template]
    else:
        raise ValueError(
            f"{said} is not a kind of reward model that can be read; known kinds: *ForSequenceClassification, "
            f"*ForTokenClassification, *ForCausalLM and {', '.join(_TWO_LAYER)}"
        )
    template = model.template or _DEFAULT_TEMPLATE[way]
    allowed = {"sequence": ("chat", "qwen-math"), "two-layer": ("chat", "qwen-math"), "two-layer steps": ("qwen-math",),
               "token steps": ("lines",), "label steps": ("labels", "ki"), "judge": ("judge",)}[way]  # fmt: skip
    if template not in allowed:
        raise ValueError(f"{said} is read with template {' or '.join(allowed)}, not {template!r}")
    return way, template


def read_config(source: str, revision: str | None = None) -> dict[str, Any]:
    """The content of config.json.

    Raises:
        FileNotFoundError, PermissionError, ValueError: see `config_path`; also a file that is no JSON object.
    """
    path = config_path(source, revision)
    try:
        content = json.loads(path.read_text("utf8"))
    except ValueError as error:
        raise ValueError(f"{path} is not JSON ({error}); download the model again") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path} holds no JSON object; download the model again")
    return content
