"""The base that ships with the lab knows arithmetic better than the policy whose results it judges."""

from __future__ import annotations

import hashlib
import random
import sys

import pytest

torch = pytest.importorskip("torch")

from transformers import AutoModelForCausalLM, AutoTokenizer  # noqa: E402

from bestofl_lib.problems import lab  # noqa: E402

sys.path.append(str(lab.FOLDER))
import make_policy  # noqa: E402


def told_apart(folder) -> float:
    """Share of 200 equations whose right result is likelier than a wrong one of as many digits."""
    rng, texts = random.Random(3), []
    for _ in range(200):
        a, b = rng.randint(60, 320), rng.randint(6, 60)
        left, right = rng.choice([(f"{a} × 7", a * 7), (f"{a} + {b}", a + b), (f"{a} - {b}", a - b)])
        wrong = right + rng.choice([-2, -1, 1, 2])
        texts += [f"7 + 5 = 12. {left} = {result}." for result in (right, wrong)]
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    rows = tokenizer(texts, add_special_tokens=False)["input_ids"]
    width = max(map(len, rows))
    ids = torch.tensor([row + [tokenizer.pad_token_id] * (width - len(row)) for row in rows])
    with torch.inference_mode():
        logs = model(input_ids=ids).logits[:, :-1].log_softmax(-1).gather(2, ids[:, 1:, None])[..., 0]
    inside = torch.arange(1, width)[None] < torch.tensor([len(row) for row in rows])[:, None]
    likelihood = (logs * inside).sum(1)
    return float((likelihood[::2] > likelihood[1::2]).float().mean())


def test_it_finds_a_wrong_result_less_likely_more_often_than_the_policy_does():
    base, policy = told_apart(lab.FOLDER / "reward_base"), told_apart(lab.FOLDER / "policy")
    assert base > policy + 0.05 and base > 0.9


def test_its_weights_are_those_of_the_model_card_and_the_lab_stays_small():
    card = (lab.FOLDER.parent / "README.md").read_text("utf8")
    for name in ("policy", "reward_base"):
        digest = hashlib.sha256((lab.FOLDER / name / "model.safetensors").read_bytes()).hexdigest()
        assert digest[:8] in card, f"{name}: write sha256 {digest[:8]}… into data/README.md"
    assert sum(path.stat().st_size for path in lab.FOLDER.rglob("*") if path.is_file()) < 20e6


@pytest.mark.slow
def test_the_command_that_trains_the_policy_makes_its_tokenizer_to_the_byte(tmp_path):
    make_policy.make_tokenizer().save_pretrained(tmp_path)
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        assert (tmp_path / name).read_bytes() == (lab.FOLDER / "policy" / name).read_bytes()


def test_the_policy_is_trained_on_the_rows_of_the_shipped_weights():
    """The digest is that of the code that trained them, commit 4d6e02a."""
    made = make_policy.rows(300, make_policy.PHASES[0][1], "rows 7", make_policy.FIRST_ARITHMETIC)
    assert hashlib.sha256(repr(made).encode()).hexdigest().startswith("0bca548854c31e5d")


@pytest.mark.slow
def test_the_training_of_the_policy_changes_its_recipe_once_and_goes_on_where_it_was_stopped(tmp_path, monkeypatch):
    small = {"BATCH": 4, "FIRST": 2, "FIRST_LAID_OUT": 20, "STOP": 4, "SAVE_STEPS": 1}
    small["PHASES"] = tuple((steps, mix) for steps, (_, mix) in zip((2, 8), make_policy.PHASES, strict=True))
    small["make_tokenizer"] = lambda: AutoTokenizer.from_pretrained(lab.FOLDER / "policy")
    for name, value in small.items():
        monkeypatch.setattr(make_policy, name, value)
    loss, steps = make_policy.PolicyTrainer.compute_loss, []

    def noted(self, model, inputs, *args, **more):
        steps.append((self.state.global_step, self.args.max_steps))
        if len(steps) in stops:
            raise KeyboardInterrupt
        return loss(self, model, inputs, *args, **more)

    def trained(name):
        monkeypatch.setattr(
            sys, "argv", ["make_policy", "--out", str(tmp_path / "out"), "--work", str(tmp_path / name)]
        )
        make_policy.main()
        return (tmp_path / "out" / "model.safetensors").read_bytes()

    monkeypatch.setattr(make_policy.PolicyTrainer, "compute_loss", noted)
    stops = []
    whole = trained("whole")
    assert steps == [(0, 20), (1, 20), (2, 10), (3, 10)]
    assert trained("whole") == whole and len(steps) == 4, "what is trained already is not trained on"
    steps.clear()
    stops = [2, 5]
    for _ in stops:
        with pytest.raises(KeyboardInterrupt):
            trained("stopped")
    assert trained("stopped") == whole
    assert steps == [(0, 20), (1, 20), (1, 20), (2, 10), (3, 10), (3, 10)]
