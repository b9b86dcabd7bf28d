"""What a study says about a reward model behind servers, and where its record is kept. It opens no connection.

A served reward model is listed like any other one: the address first, options after commas, such as
`http://host:8000/v1, served_model=cross, local=data/runs/lab/reward_models/cross`.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bestofl_lib.files import explain
from bestofl_lib.models.servers import read_addresses
from bestofl_lib.text import suggestion

TEMPLATES = ("judge", "verification")  # of a chat model that is asked for its verdict, see `judging`
ENDPOINTS = ("classify", "pooling")  # of a reward model
FACTS = "served.jsonl"  # in the reward model's folder: one line per scoring that asked servers


@dataclass(frozen=True)
class ServedModel:
    """A reward model or a judge behind servers."""

    addresses: str  # one, several separated by blanks, or a .txt file that lists them
    served_model: str  # the name under which the servers know it, or one of their LoRA adapters
    name: str  # what it is called in tables
    local: str = ""  # the same reward model in this process: writes the texts, and its rewards must agree
    endpoint: str = "classify"  # one of ENDPOINTS
    template: str = ""  # one of TEMPLATES for a judge; empty for a reward model
    max_tokens: int = 0  # that a judge may write; 0: 8 for "judge", 2,048 for "verification"
    in_flight: int = 64  # requests that one server is given at once
    revision: str = ""  # what the user says about the version of the weights

    @staticmethod
    def parse(text: str) -> ServedModel:
        """From "address, key=value, …"; the keys are the fields of this class but `addresses`.

        Raises:
            ValueError: an address that is none, an unknown key or value, or options that exclude each other.

        >>> ServedModel.parse("http://host:8000/v1, served_model=cross").name
        'cross'
        """
        addresses, *options = [part.strip() for part in text.split(",")]
        if not read_addresses(addresses):
            raise ValueError(f"reward model {text!r} names no server; write http://host:8000/v1, served_model=NAME")
        keys = [field.name for field in fields(ServedModel) if field.name != "addresses"]
        found: dict[str, Any] = {}
        for option in options:
            key, _, value = (part.strip() for part in option.partition("="))
            if key not in keys or not value:
                raise ValueError(
                    f"reward model {text!r}: cannot read {option!r}; {suggestion(key, keys)}use key=value with one of: "
                    f"{', '.join(keys)} (several addresses are separated by blanks)"
                )
            found[key] = value
        if not found.get("served_model"):
            raise ValueError(f"reward model {text!r} does not say which model; add served_model=NAME")
        for key, known in (("template", TEMPLATES), ("endpoint", ENDPOINTS)):
            if key in found and found[key] not in known:
                raise ValueError(f"reward model {text!r}: unknown {key} {found[key]!r}; use one of: {', '.join(known)}")
        foreign = ("local", "endpoint") if "template" in found else ("max_tokens",)
        if unused := [key for key in foreign if key in found]:
            kind = "a judge" if "template" in found else "a reward model"
            raise ValueError(f"reward model {text!r}: {kind} has no {', '.join(unused)}; leave it out")
        for key in {"max_tokens", "in_flight"} & set(found):
            if not found[key].isdecimal() or int(found[key]) < 1:
                raise ValueError(f"reward model {text!r}: {key}={found[key]}; use a number above 0")
            found[key] = int(found[key])
        found.setdefault("name", Path(found["served_model"]).name)
        return ServedModel(addresses, **found)

    def record(self) -> dict[str, Any]:
        """All fields, for the record of the reward model."""
        return asdict(self)


def note_facts(place: Path, facts: Mapping[str, Any]) -> None:
    """Add what happened between client and servers to a reward model's folder."""
    line = json.dumps({"at": datetime.now(UTC).isoformat(" ", "seconds")} | dict(facts), ensure_ascii=False)
    try:
        with open(place / FACTS, "a", encoding="utf8") as file:
            file.write(line + "\n")
    except OSError as error:
        raise explain(error, place / FACTS, "the rewards are kept, a note about the servers is not") from error


def served_facts(folder: str | Path) -> list[dict[str, Any]]:
    """What was noted at each scoring that asked servers, of all reward models under a folder, oldest first."""
    facts = []
    for path in sorted(Path(folder).glob(f"**/{FACTS}")):
        for line in path.read_text("utf8").splitlines():
            with contextlib.suppress(ValueError):  # the last line of a process that was killed
                facts.append({"reward_model": path.parent.name} | json.loads(line))
    return facts
