"""Sampling beside `model.generate`: same model, prompts, settings and run; tokens per second in `extra_info`.

Run with `pytest tests/benchmarks/test_sampling_speed.py --benchmark-only`. The lab's policy where it is trained, else a
random model of its shape whose distribution is made as narrow as a trained one's. Everything works in this process with
torch's own number of threads, except where the name says processes; those include the start of the processes.
"""

from __future__ import annotations

from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from bestofl_lib.candidates.sampling import candidate_seed  # noqa: E402
from bestofl_lib.candidates.transformers_sampler import TransformersSampler  # noqa: E402
from bestofl_lib.languages import LANGUAGES  # noqa: E402
from bestofl_lib.models.contract import Request, Sampling  # noqa: E402

POLICY = Path(__file__).resolve().parents[2] / "data" / "lab" / "policy"
N_PROMPTS, N_COMPLETIONS = 66, 8
SETTINGS = Sampling(temperature=0.8, top_p=0.95, max_new_tokens=96)


@pytest.fixture(scope="module")
def policy(tmp_path_factory) -> Path:
    if (POLICY / "model.safetensors").exists():
        return POLICY
    folder = tmp_path_factory.mktemp("random") / "policy"
    tokenizer = transformers.AutoTokenizer.from_pretrained(POLICY)
    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=160, intermediate_size=432, num_hidden_layers=4, num_attention_heads=4,
        num_key_value_heads=4, max_position_embeddings=512, tie_word_embeddings=True, initializer_range=0.1,
        bos_token_id=None, eos_token_id=tokenizer.eos_token_id,
    )  # fmt: skip
    model = transformers.LlamaForCausalLM(config)
    model.model.norm.weight.data *= 6
    model.generation_config.eos_token_id = [tokenizer.eos_token_id, *range(300, 380)]  # ends after some 35 tokens
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def ask(n_problems: int) -> list[Request]:
    from bestofl_lib.problems.load import load

    problems = load("lab", split="test")
    ids = problems["problem_id"].unique(maintain_order=True)[:n_problems].to_list()
    rows = problems.filter(problems["problem_id"].is_in(ids)).select("problem_id", "language", "question").iter_rows()
    return [
        Request(problem, code, k, ({"role": "user", "content": question},), candidate_seed(0, problem, code, k))
        for problem, code, question in rows
        for k in range(N_COMPLETIONS)
    ]


def note(benchmark, tokens: list[int]) -> None:
    benchmark.extra_info["tokens_per_second"] = round(tokens[-1] / benchmark.stats["min"])


def ours(benchmark, sampler: TransformersSampler, asked: list[Request], rounds: int = 1) -> None:
    tokens: list[int] = []
    benchmark.pedantic(
        lambda: tokens.append(sum(c.n_tokens for _, c in sampler.sample(asked, SETTINGS))),
        rounds=rounds,
        warmup_rounds=rounds - 1,
    )
    note(benchmark, tokens)


def test_this_sampler(benchmark, policy):
    ours(benchmark, TransformersSampler(policy, device="cpu", workers=1), ask(N_PROMPTS // len(LANGUAGES)), rounds=2)


def test_this_sampler_as_a_study_uses_it_in_one_process(benchmark, policy):
    ours(benchmark, TransformersSampler(policy, device="cpu", workers=1), ask(30))


def test_this_sampler_as_a_study_uses_it_in_two_processes(benchmark, policy):
    ours(benchmark, TransformersSampler(policy, device="cpu", workers=2), ask(30))


@pytest.mark.parametrize("prompts", [1, 32])
def test_generate(benchmark, policy, prompts):
    model = transformers.AutoModelForCausalLM.from_pretrained(policy).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(policy, padding_side="left")
    asked = ask(N_PROMPTS // len(LANGUAGES))[::N_COMPLETIONS]
    texts = [
        tokenizer.apply_chat_template([dict(m) for m in r.messages], add_generation_prompt=True, tokenize=False)
        for r in asked
    ]
    texts.sort(key=len)
    ends = model.generation_config.eos_token_id
    ends = torch.tensor(ends if isinstance(ends, list) else [ends])
    tokens: list[int] = []

    def run() -> None:
        total = 0
        for start in range(0, len(texts), prompts):
            batch = tokenizer(
                texts[start : start + prompts], padding=True, return_tensors="pt", add_special_tokens=False
            )
            out = model.generate(
                input_ids=batch["input_ids"], attention_mask=batch["attention_mask"], do_sample=True, temperature=0.8, top_p=0.95,
                top_k=0, max_new_tokens=SETTINGS.max_new_tokens, num_return_sequences=N_COMPLETIONS, pad_token_id=0,
            )[:, batch["input_ids"].shape[1] :]  # fmt: skip
            ended = torch.isin(out, ends).int().cumsum(1)
            total += int(((ended == 0) | ((ended == 1) & torch.isin(out, ends))).sum())  # up to the end, no padding
        tokens.append(total)

    benchmark.pedantic(run, rounds=1, warmup_rounds=0)
    note(benchmark, tokens)
