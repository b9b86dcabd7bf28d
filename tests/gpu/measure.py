"""What one GPU does with models of real shapes: sampling, scoring, a LoRA training step, and the same text as a CPU.

`make gpu` runs it: random weights, no network, at most 8 minutes on one H100. It prints a table and writes
reports/gpu.json. `--shapes tiny --device cpu` runs the same code in seconds anywhere.
"""

from __future__ import annotations

import argparse
import json
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl
import torch
import transformers
from transformers import AutoModelForCausalLM, AutoTokenizer, Gemma3TextConfig, PretrainedConfig, Qwen2Config

from bestofl_lib.candidates.sampling import candidate_seed
from bestofl_lib.candidates.transformers_sampler import TransformersSampler
from bestofl_lib.files import ROOT, replace_file
from bestofl_lib.models.contract import Completion, Request, Sampling
from bestofl_lib.problems.load import load
from bestofl_lib.rewards.backbone import RewardBackbone
from bestofl_lib.rewards.spec import TrainingSettings
from bestofl_lib.rewards.training import train_reward_models
from bestofl_lib.tables import SCHEMAS

POLICY = ROOT / "data" / "lab" / "policy"


@dataclass(frozen=True)
class Row:
    """One measurement."""

    model: str
    what: str
    value: float
    unit: str
    seconds: float
    peak_gib: float  # of device memory; 0 on a CPU


def shapes(which: str) -> dict[str, PretrainedConfig]:
    """The models' shapes: those of Qwen2.5-7B and Gemma 3 4B, or small ones of the same architectures."""
    if which == "real":
        return {
            "Qwen2.5-7B": Qwen2Config(
                vocab_size=152_064, hidden_size=3584, intermediate_size=18_944, num_hidden_layers=28,
                num_attention_heads=28, num_key_value_heads=4, max_position_embeddings=32_768,
                rope_parameters={"rope_type": "default", "rope_theta": 1e6}, tie_word_embeddings=False,
            ),
            "Gemma-3-4B": Gemma3TextConfig(
                vocab_size=262_208, hidden_size=2560, intermediate_size=10_240, num_hidden_layers=34,
                num_attention_heads=8, num_key_value_heads=4, head_dim=256, sliding_window=1024,
                max_position_embeddings=32_768,
            ),
        }  # fmt: skip
    small: dict[str, Any] = {
        "vocab_size": 4000, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2,
        "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 512,
    }  # fmt: skip
    return {
        "tiny Qwen2": Qwen2Config(**small),
        "tiny Gemma 3": Gemma3TextConfig(**small, head_dim=8, sliding_window=64),
    }


def measure(which: str, device: str, prompts: int, n: int, tokens: int) -> list[Row]:
    """All measurements of all models.

    Args:
        which: "real" or "tiny", see `shapes`.
        device: "cuda" or "cpu".
        prompts, n, tokens: completions are n per prompt, of at most so many tokens.
    """
    rows: list[Row] = []
    for name, config in shapes(which).items():
        folder = Path(tempfile.mkdtemp(prefix="bestofl-gpu-"))
        try:
            save_random_model(config, folder, device)
            rows += measure_model(name, folder, device, prompts, n, tokens)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
    rows.append(compare_texts(device, n))
    return rows


def save_random_model(config: PretrainedConfig, folder: Path, device: str) -> None:
    """A model of this shape with random weights, in bfloat16 on a GPU, with the lab's tokenizer."""
    tokenizer = AutoTokenizer.from_pretrained(POLICY)
    config.eos_token_id, config.pad_token_id = tokenizer.eos_token_id, tokenizer.pad_token_id
    config.bos_token_id = tokenizer.bos_token_id
    torch.manual_seed(0)
    dtype = torch.bfloat16 if device == "cuda" else torch.float32
    with torch.device(device):
        model = AutoModelForCausalLM.from_config(config, dtype=dtype)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    del model
    free(device)


def measure_model(name: str, folder: Path, device: str, prompts: int, n: int, tokens: int) -> list[Row]:
    """Sampling beside `generate`, more rows than fit, scoring, and LoRA training of one model."""
    asked = requests(prompts, n)
    settings = Sampling(max_new_tokens=tokens)
    rows = []
    with measured(device) as took:
        written = sample(folder, device, asked, settings, None)
    n_tokens = sum(completion.n_tokens for _, completion in written)
    rows.append(Row(name, "sampling", n_tokens / took["seconds"], "tokens/s", **took))
    with measured(device) as took:
        n_tokens = by_generate(folder, device, asked[:: max(1, len(asked) // (8 * n))], n, tokens)
    rows.append(Row(name, "sampling by generate", n_tokens / took["seconds"], "tokens/s", **took))
    many = requests(prompts, 64 * n)
    with measured(device) as took:
        found = sample(folder, device, many, Sampling(max_new_tokens=min(tokens, 64)), len(many))
    lost = sum(completion.finish_reason == "error" for _, completion in found)
    rows.append(Row(name, "all rows at once: completions lost to memory", lost, f"of {len(many):,}", **took))
    problems, table = candidates(asked, written)
    with measured(device) as took:
        backbone = RewardBackbone(folder, style="question", device=device)
        texts = [(q, language) for q, language in problems.select("question", "language").iter_rows()]
        owner = {key: i for i, key in enumerate(problems.select("problem_id", "language").iter_rows())}
        prompt_of = [owner[key] for key in table.select("problem_id", "language").iter_rows()]
        values, _ = backbone.values(texts, prompt_of, table["completion"].to_list())
    rows.append(Row(name, "scoring", len(values) / took["seconds"], "completions/s, loading included", **took))
    del backbone, values
    free(device)
    readings = table.select(*SCHEMAS["readings"].names()[:3]).with_columns(is_correct=pl.col("sample_index") % 2 == 0)
    lora = TrainingSettings(tuning="lora", rows=64, epochs=1, style="question", batch_pairs=16)
    with measured(device) as took:
        train_reward_models(
            table, readings, problems, base=folder, folder=folder / "rewards", settings=lora, variants=("multi",), device=device
        )  # fmt: skip
    rows.append(
        Row(name, "LoRA training of 64 pairs", took["seconds"] / 4, "s per step of 16 pairs, all included", **took)
    )
    return rows


def sample(
    folder: Path, device: str, asked: list[Request], settings: Sampling, batch_rows: int | None
) -> list[tuple[Request, Completion]]:
    sampler = TransformersSampler(folder, device=device, workers=1, batch_rows=batch_rows)
    written = [(r, c) for r, c in sampler.sample(asked, settings) if isinstance(c, Completion)]
    if len(written) != len(asked):
        raise RuntimeError(f"{len(written)} of {len(asked)} completions arrived")
    return written


def by_generate(folder: Path, device: str, asked: list[Request], n: int, tokens: int) -> int:
    """Tokens that `generate` writes for these prompts, n completions each."""
    tokenizer = AutoTokenizer.from_pretrained(folder, padding_side="left")
    dtype = torch.bfloat16 if device == "cuda" else torch.float32
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype, device_map=device).eval()
    texts = [
        tokenizer.apply_chat_template([dict(m) for m in r.messages], tokenize=False, add_generation_prompt=True)
        for r in asked
    ]
    batch = tokenizer(texts, return_tensors="pt", padding=True, add_special_tokens=False).to(device)
    batch.pop("token_type_ids", None)
    with torch.inference_mode():
        out = model.generate(
            **batch, do_sample=True, temperature=0.8, top_p=0.95, top_k=0, num_return_sequences=n, max_new_tokens=tokens
        )
    new = out[:, batch["input_ids"].shape[1] :]
    return int((new != tokenizer.pad_token_id).sum())


def compare_texts(device: str, n: int) -> Row:
    """Share of the lab policy's completions that are the same on this device and on the CPU, in float32."""
    asked, settings = requests(8, n), Sampling(max_new_tokens=160)
    written = {}
    with measured(device) as took:
        for where in ("cpu", device):
            sampler = TransformersSampler(POLICY, device=where, dtype="float32", workers=1)
            written[where] = {
                (r.problem_id, r.language, r.sample_index): c.text
                for r, c in sampler.sample(asked, settings)
                if isinstance(c, Completion)
            }
    same = sum(text == written[device][key] for key, text in written["cpu"].items())
    return Row("lab policy", f"same text on {device} and CPU", same / len(asked), f"share of {len(asked)}", **took)


def requests(prompts: int, n: int) -> list[Request]:
    """n requests for each of so many English questions of the lab."""
    problems = load("lab", ["en"]).head(prompts)
    return [
        Request(problem, language, i, ({"role": "user", "content": question},), candidate_seed(0, problem, language, i))
        for problem, language, question in problems.select("problem_id", "language", "question").iter_rows()
        for i in range(n)
    ]


def candidates(asked: list[Request], written: list[tuple[Request, Completion]]) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Problems and candidates tables of what was sampled, all of it in the training split."""
    ids = {request.problem_id for request in asked}
    problems = load("lab", ["en"]).filter(pl.col("problem_id").is_in(list(ids))).with_columns(split=pl.lit("train"))
    rows = [
        {"problem_id": r.problem_id, "language": r.language, "sample_index": r.sample_index, "completion": c.text or "7",
         "n_tokens": c.n_tokens, "finish_reason": c.finish_reason}
        for r, c in written
    ]  # fmt: skip
    return problems, pl.DataFrame([{name: row.get(name) for name in SCHEMAS["candidates"]} for row in rows], schema=SCHEMAS["candidates"])  # fmt: skip


@contextmanager
def measured(device: str) -> Iterator[dict[str, float]]:
    """Seconds and peak device memory of the block, in the dictionary given."""
    took: dict[str, float] = {}
    if device == "cuda":
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
    began = time.monotonic()
    yield took
    if device == "cuda":
        torch.cuda.synchronize()
    took["seconds"] = time.monotonic() - began
    took["peak_gib"] = torch.cuda.max_memory_allocated() / 2**30 if device == "cuda" else 0.0
    free(device)


def free(device: str) -> None:
    if device == "cuda":
        torch.cuda.empty_cache()


def main(arguments: list[str] | None = None) -> list[Row]:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shapes", choices=("real", "tiny"), default="real")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--prompts", type=int, default=64)
    parser.add_argument("--n", type=int, default=8)
    parser.add_argument("--tokens", type=int, default=256)
    parser.add_argument("--to", type=Path, default=ROOT / "reports" / "gpu.json")
    given = parser.parse_args(arguments)
    if given.device == "cuda" and not torch.cuda.is_available():
        raise SystemExit("no CUDA device on this machine; run it where there is one, or try --shapes tiny --device cpu")
    rows = measure(given.shapes, given.device, given.prompts, given.n, given.tokens)
    device = torch.cuda.get_device_name() if given.device == "cuda" else "CPU"
    print(f"\n{device}, torch {torch.__version__}, transformers {transformers.__version__}")
    for row in rows:
        memory = f"{row.peak_gib:.1f} GiB" if row.peak_gib else ""
        print(f"{row.model:<14} {row.what:<46} {row.value:>12,.2f} {row.unit:<38} {row.seconds:7.1f} s  {memory}")
    account = {
        "device": device, "shapes": given.shapes, "torch": torch.__version__, "transformers": transformers.__version__,
        "at": datetime.now(UTC).isoformat(timespec="seconds"), "rows": [asdict(row) for row in rows],
    }  # fmt: skip
    replace_file(given.to, (json.dumps(account, indent=1) + "\n").encode())
    return rows


if __name__ == "__main__":
    main()
