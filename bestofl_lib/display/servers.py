"""What was asked of model servers and clusters, and how it went, in sentences.

It words what `models/server_facts.added_up` counts.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from bestofl_lib.models.server_facts import added_up
from bestofl_lib.text import counted


def server_sentences(notes: Iterable[Mapping[str, Any]]) -> list[str]:
    """One paragraph per model, server and way of asking; none where nothing was asked of a server or cluster."""
    return [_of_cluster(entry) if "engine" in entry else _of_server(entry) for entry in added_up(notes)]


def _of_cluster(entry: Mapping[str, Any]) -> str:
    who = f"{entry['reward_model']}: " if "reward_model" in entry else ""
    lost = counted(entry.get("lost_workers", 0), "worker")
    return f"{who}{entry['engine']}, {counted(entry.get('workers', 0), 'worker')} at a time; {lost} lost and replaced."


def _of_server(entry: Mapping[str, Any]) -> str:
    root = entry.get("root")
    model = entry.get("served_model", "?") + (f" ({root})" if root and root != entry.get("served_model") else "")
    who = f"{entry['reward_model']}: {model}" if "reward_model" in entry else model
    parts = [f"{who} on {entry.get('server', '?')} {entry.get('version') or 'of unknown version'}", _requests(entry)]
    if "sent" in entry:
        n_seeded, n_unseeded = entry.get("with_seed", 0), entry.get("without_seed", 0)
        parts.append(f"{n_seeded:,} candidates with the seed that was sent, {n_unseeded:,} unseeded")
        parts.append(f"log-probabilities {entry.get('logprobs', '?')}")
        sent = ", ".join(f"{name} {value}" for name, value in entry["sent"].items() if name not in ("model", "stream"))
        parts.append(f"generation settings sent with every request, so that no default of the server applies: {sent}")
    if "parity" in entry:
        parts.append(f"rewards differ from those of the local model by at most {entry['parity']:.2g}")
    if "verdicts" in entry:
        parts.append(f"rewards are the {entry['verdicts']}")
    read, written = entry.get("prompt_tokens", 0), entry.get("completion_tokens", 0)
    parts.append(f"{read:,} tokens read and {written:,} written, by the server's count")
    if "cost" in entry:
        parts.append(f"cost of the tokens written at the price given: {entry['cost']:,.2f}")
    return "; ".join(parts) + "."


def _requests(entry: Mapping[str, Any]) -> str:
    faults = entry.get("faults", {})
    kinds = ", ".join(f"{kind} {number:,}" for kind, number in sorted(faults.items(), key=lambda item: -item[1]))
    text = f"{counted(entry.get('requests', 0), 'request')}, of which {sum(faults.values()):,} failed and were repeated"
    text += f" ({kinds})" if kinds else ""
    for name, said in (("left_out", "left out"), ("prompts too long", "too long for the context"), ("cut", "cut")):
        text += f", {entry[name]:,} {said}" if entry.get(name) else ""
    ended = ", ".join(f"{reason} {number:,}" for reason, number in entry.get("ended_by", {}).items())
    return text + (f", ended by the server for another reason: {ended}" if ended else "")
