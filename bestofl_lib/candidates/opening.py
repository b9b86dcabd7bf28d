"""Chooses the sampler for a model: in this process, on a Ray cluster, or behind servers.

No model library is imported before one of them is chosen.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bestofl_lib.models.contract import Sampler, check_engine
from bestofl_lib.models.servers import read_addresses

_FOR_SERVERS: dict[str, Any] = {
    "served_model": "",
    "seeded": True,
    "per_request": 1,
    "in_flight": 256,
    "price": 0.0,
}  # with defaults
_FOR_MODELS: dict[str, Any] = {"batch_rows": 0, "workers": 0}


def open_sampler(
    model: str,
    revision: str = "",
    *,
    engine: str = "local",
    served_model: str = "",
    seeded: bool = True,
    per_request: int = 1,
    in_flight: int = 256,
    price: float = 0.0,
    device: str = "auto",
    dtype: str = "auto",
    batch_rows: int = 0,
    workers: int = 0,
    chat_template: str = "",
) -> Sampler:
    """The sampler that a notebook's parameters describe.

    Args:
        model: folder or Hub id; or the address of an OpenAI-compatible server (http://host:8000/v1), several separated
            by commas, or a .txt file that lists them.
        revision: of the weights; empty: the newest.
        engine: where a model that is not behind servers works. "local": this process and its workers; "ray" or
            "ray://head:10001": a Ray cluster.
        served_model, seeded, per_request, in_flight, price: for servers, see `EndpointSampler`.
        device, dtype, batch_rows, workers: for other models, see `TransformersSampler`; 0 chooses.
        chat_template: empty: the model's own; see the samplers.

    Raises:
        ValueError: an unknown engine, or a value other than the default for something that this sampler cannot honour.
        ImportError: the extra that the sampler needs is not installed.
    """
    check_engine(engine)
    given = {"served_model": served_model, "seeded": seeded, "per_request": per_request, "in_flight": in_flight,
             "price": price, "batch_rows": batch_rows, "workers": workers}  # fmt: skip
    check_options(model, given)
    if read_addresses(model):
        from bestofl_lib.candidates.endpoint_sampler import EndpointSampler

        return EndpointSampler(
            model, served_model, revision=revision or None, seeded=seeded, per_request=per_request,
            chat_template=chat_template or None, in_flight=in_flight, price=price,
        )  # fmt: skip
    options: dict[str, Any] = {
        "device": device, "dtype": dtype, "batch_rows": batch_rows or None, "workers": workers or None,
        "chat_template": chat_template or None,
    }  # fmt: skip
    if engine == "local":
        from bestofl_lib.candidates.transformers_sampler import TransformersSampler

        return TransformersSampler(model, revision or None, **options)
    from bestofl_lib.candidates.ray_sampler import RaySampler

    return RaySampler(model, revision or None, engine=engine, **options)


def check_options(model: str, options: Mapping[str, Any]) -> None:
    """Refuse options that the sampler of this model cannot honour. Engine, device and dtype are not among them: in a
    study they are also those of reward models.

    Args:
        model: as for `open_sampler`.
        options: values by name; names that belong to no sampler alone are not looked at.

    Raises:
        ValueError: naming the option and its value.
    """
    if read_addresses(model):
        foreign, reason = _FOR_MODELS, f"a server decides it when it is started, and {model!r} is the address of one"
    else:
        foreign = _FOR_SERVERS
        reason = f"it is for servers, and model {model!r} is no address such as http://host:8000/v1"
    for name, default in foreign.items():
        if (value := options.get(name, default)) != default:
            raise ValueError(f"{name} {value!r} would be ignored: {reason}; leave it at {default!r}")
