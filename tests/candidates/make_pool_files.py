"""Writes the files in `pool_files/` with the real tools: inspect_ai, lm-evaluation-harness and datasets.

The tests of `bestofl_lib/candidates/pools.py` read these files; the tools themselves are not needed to run the tests.
Once, and again when a tool changes its format, from the project's folder (CPU, a minute or two):

    python -m venv /tmp/tools
    /tmp/tools/bin/pip install inspect_ai lm_eval datasets accelerate polars babel torch==2.13.0 transformers==5.23.0
    PYTHONPATH=. /tmp/tools/bin/python tests/candidates/make_pool_files.py

The tools run in an empty folder on a copy of the model, so that their files name no path of this machine.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[2]
HERE = Path(__file__).resolve().parent / "pool_files"
MODEL = "data/lab/policy"  # as it is named inside the files
LANGUAGES, PROBLEMS, EPOCHS, TOKENS = ("en", "te"), 3, 2, 96

TASK = """task: lab_{language}
dataset_path: json
dataset_kwargs:
  data_files: {{test: lab_{language}.jsonl}}
test_split: test
output_type: generate_until
doc_to_text: "{{{{question}}}}"
doc_to_target: "{{{{answer_number|string}}}}"
repeats: {epochs}
generation_kwargs: {{until: ["<|end|>"], do_sample: true, temperature: 0.8, max_gen_toks: {tokens}}}
filter_list:
  - name: strict-match
    filter: [{{function: regex, regex_pattern: "answer is (-?[0-9.,]+)"}}, {{function: take_first}}]
  - name: flexible-extract
    filter: [{{function: regex, group_select: -1, regex_pattern: "(-?[0-9.,]+)"}}, {{function: take_first}}]
metric_list: [{{metric: exact_match, aggregation: mean, higher_is_better: true}}]
"""


def write_questions() -> list[dict]:
    from bestofl_lib.problems import lab

    table = lab.problems(LANGUAGES).sort("problem_id", "language")
    kept = table.filter(table["split"] == "test")["problem_id"].unique(maintain_order=True)[:PROBLEMS].to_list()
    rows = [row for row in table.iter_rows(named=True) if row["problem_id"] in kept]
    for language in LANGUAGES:
        lines = [
            {
                "question": row["question"],
                "answer": None,
                "answer_number": int(row["reference"]),
                "equation_solution": None,
            }
            for row in rows
            if row["language"] == language
        ]
        Path(f"lab_{language}.jsonl").write_text(
            "".join(json.dumps(r, ensure_ascii=False) + "\n" for r in lines), "utf8"
        )
    return rows


def run_inspect(rows: list[dict]) -> None:
    from inspect_ai import Task, eval, task
    from inspect_ai.dataset import Sample
    from inspect_ai.model import get_model
    from inspect_ai.scorer import includes
    from inspect_ai.solver import generate

    @task
    def lab(language: str) -> Task:
        samples = [
            Sample(
                id=row["problem_id"], input=row["question"], target=row["reference"], metadata={"language": language}
            )
            for row in rows
            if row["language"] == language
        ]
        return Task(dataset=samples, solver=generate(), scorer=includes())

    model = get_model("hf/policy", model_path=MODEL, device="cpu", tokenizer_call_args={"return_token_type_ids": False})
    settings = {"epochs": EPOCHS, "max_tokens": TOKENS, "temperature": 0.8, "seed": 1}
    for language in LANGUAGES:
        [log] = eval(lab(language), model=model, log_dir="logs", display="none", **settings)
        keep_log(log, f"inspect_{language}.{'eval' if language == 'en' else 'json'}")


def run_inspect_mock() -> None:
    """What a small local model does not give: reasoning, log-probabilities, several choices, a sample that failed."""
    from inspect_ai import Task, eval, model, task
    from inspect_ai.dataset import Sample
    from inspect_ai.solver import generate

    def wrote(content: object, reason: str = "stop", **more: object) -> object:
        message = model.ChatMessageAssistant(content=content, source="generate")
        return model.ChatCompletionChoice(message=message, stop_reason=reason, **more)

    thoughts = [model.ContentReasoning(reasoning="9 plus 9 " * 20), model.ContentText(text="Die Antwort lautet 18.")]
    tokens = [model.Logprob(token="18", logprob=-0.25), model.Logprob(token=".", logprob=-0.5)]
    usage = model.ModelUsage(input_tokens=3, output_tokens=7, total_tokens=10)  # else a tokenizer is fetched to count
    outputs = [
        model.ModelOutput(model="mock", choices=choices, usage=usage)
        for choices in (
            [wrote(thoughts, logprobs=model.Logprobs(content=tokens))],
            [wrote("Die Antwort lautet 5", "max_tokens")],
            [wrote("Die Antwort lautet 1."), wrote("Die Antwort lautet 2.")],
        )
    ]

    @task
    def mock_de() -> Task:
        samples = [Sample(id=f"de-{n}", input=f"Frage {n}", target="18") for n in (1, 2, 3, 4)]
        return Task(dataset=samples, solver=generate())  # the fourth has no output left and fails

    mock = model.get_model("mockllm/model", custom_outputs=outputs)
    [log] = eval(mock_de(), model=mock, log_dir="logs", display="none", max_samples=1, fail_on_error=False)
    keep_log(log, "inspect_mock.eval")


def keep_log(log: object, name: str) -> None:
    from inspect_ai.log import read_eval_log, write_eval_log

    if log.status != "success":
        raise RuntimeError(f"inspect_ai ended with {log.status}: {log.error}")
    log = read_eval_log(log.location)
    log.eval.revision = log.eval.task_file = None  # the git origin and the path of this file
    for sample in log.samples:
        if sample.error:  # a traceback names paths
            sample.error.traceback = sample.error.traceback_ansi = ""
            sample.events = []
    write_eval_log(log, str(HERE / name))


def run_lm_eval() -> None:
    for language in LANGUAGES:
        Path(f"lab_{language}.yaml").write_text(TASK.format(language=language, epochs=EPOCHS, tokens=TOKENS), "utf8")
    command = [sys.executable, "-m", "lm_eval", "run", "--model", "hf", "--model_args", f"pretrained={MODEL}"]
    command += [
        "--tasks",
        ",".join(f"lab_{language}" for language in LANGUAGES),
        "--include_path",
        ".",
        "--device",
        "cpu",
    ]
    command += ["--apply_chat_template", "--batch_size", "8", "--log_samples", "--output_path", "results"]
    subprocess.run(command, check=True, env=os.environ | {"HF_DATASETS_CACHE": str(Path("cache").resolve())})
    target = HERE / "lm_eval" / MODEL.replace("/", "__")
    shutil.rmtree(target.parent, ignore_errors=True)
    target.mkdir(parents=True)
    for path in Path("results").rglob("*.json*"):
        if path.name.startswith("results_"):  # names the machine's processor and folders: keep what the adapter reads
            content = json.loads(path.read_text("utf8"))
            kept = {key: content[key] for key in ("model_source", "model_name", "model_name_sanitized", "task_hashes")}
            (target / path.name).write_text(json.dumps(kept, indent=1), "utf8")
        else:
            shutil.copy(path, target)


def write_completion_set() -> None:
    """One row per problem with lists of completions and step scores, as search-and-learn's best_of_n writes it."""
    from datasets import Dataset
    from inspect_ai.log import read_eval_log

    rng, rows = random.Random(0), {}
    for sample in read_eval_log(str(HERE / "inspect_en.eval")).samples:
        text = sample.output.completion
        row = rows.setdefault(
            sample.id,
            {
                "problem": sample.input,
                "solution": f"… \\boxed{{{sample.target}}}",
                "answer": sample.target,
                "subject": "arithmetic",
                "level": 1,
                "unique_id": sample.id,
                "completions": [],
                "completion_tokens": [],
                "scores": [],
            },
        )
        row["completions"].append(text)
        row["completion_tokens"].append(sample.output.usage.output_tokens)
        row["scores"].append([round(rng.random(), 3) for _ in text.split("\n")])
    made = Dataset.from_list([row | {"pred": row["completions"][0][-20:]} for row in rows.values()])
    made.to_json(HERE / "best_of_n_completions.jsonl", lines=True, force_ascii=False)
    made.to_parquet(HERE / "best_of_n_completions.parquet")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, default=PROJECT / MODEL, help="a folder with a chat model")
    model = parser.parse_args().model.resolve()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        shutil.copytree(model, MODEL)
        rows = write_questions()
        run_inspect(rows)
        run_inspect_mock()
        run_lm_eval()
        write_completion_set()
        os.chdir(PROJECT)


if __name__ == "__main__":
    main()
