"""What is trained: a model, the way its reward is read, and the loss of a batch of pairs.

* head: the sequence classifier's own head on the last token.
* implicit: scale × log-likelihood of the completion under the model + offset, so that a likely completion is a correct
  one. The model's own next-token distribution is the verifier: one unlikely token (a wrong result) lowers the reward.
* verifier: a value at every token of the completion, trained to say whether it will turn out correct, with the
  language-model loss of correct completions beside it (Cobbe et al. 2021, arXiv:2110.14168); the reward is the value at
  the last token.
* steps: as the verifier, with a value at the end of every step alone, trained to say how often the policy reaches the
  right answer from there (Wang et al. 2024, arXiv:2312.08935).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy, logsigmoid

from bestofl_lib.rewards.logits import base_of, own_logits
from bestofl_lib.rewards.spec import TrainingSettings

_SCALE, _OFFSET = 0.3, 2.0  # where the implicit reward starts: about even odds for a typical completion
_FASTER = 10  # learning rate of the few new parameters, as a multiple of the model's own
_LANGUAGE_MODEL_SHARE = 0.1  # weight of the language-model loss beside the verifier's


class RewardModule(torch.nn.Module):
    """A model and its readout as one trainable module; `forward` gives the loss and the rewards of a batch of pairs.

    Args:
        model: sequence classifier (readout "head") or causal language model (others), as `RewardBackbone` opens it.
        settings: readout, tuning and loss.
    """

    accepts_loss_kwargs = False  # the loss is a mean over the batch: the Trainer divides it when it accumulates

    def __init__(self, model: Any, settings: TrainingSettings):
        super().__init__()
        self.settings = settings
        if settings.tuning == "lora":
            model = with_adapter(model, settings, is_checkpointed(settings, next(model.parameters()).device))
        self.model = model
        is_implicit = settings.readout == "implicit"
        self.scale = torch.nn.Parameter(torch.tensor(_SCALE if is_implicit else 1.0), requires_grad=is_implicit)
        self.offset = torch.nn.Parameter(torch.tensor(_OFFSET if is_implicit else 0.0), requires_grad=is_implicit)
        self.value_head: torch.nn.Linear | None = None
        if settings.readout in ("verifier", "steps"):
            size = int(model.config.get_text_config().hidden_size)
            self.value_head = torch.nn.Linear(size, 1, device=next(model.parameters()).device)
            torch.nn.init.normal_(self.value_head.weight, std=0.02)
            torch.nn.init.zeros_(self.value_head.bias)
        self._start = {name: p.detach().clone().cpu() for name, p in self.named_parameters() if p.requires_grad}

    def reset(self) -> None:
        """Reset the trainable weights to their start: an attempt that ran out of memory leaves no trace."""
        for name, parameter in self.named_parameters():
            if parameter.requires_grad:
                parameter.data.copy_(self._start[name])

    def parameter_groups(self, learning_rate: float, weight_decay: float) -> list[dict[str, Any]]:
        """For the optimiser: matrices decay, vectors do not, and the few new numbers learn faster."""
        trained = [(name, p) for name, p in self.named_parameters() if p.requires_grad]
        new = [p for name, p in trained if not name.startswith("model.")]
        old = [p for name, p in trained if name.startswith("model.")]
        groups = [
            {"params": [p for p in old if p.ndim > 1], "lr": learning_rate, "weight_decay": weight_decay},
            {"params": [p for p in old if p.ndim <= 1], "lr": learning_rate, "weight_decay": 0.0},
            {"params": new, "lr": learning_rate * _FASTER, "weight_decay": 0.0},
        ]
        return [group for group in groups if group["params"]]

    def forward(
        self, starts: torch.Tensor | None = None, targets: torch.Tensor | None = None, **inputs: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Loss of a batch of pairs and its rewards.

        Args:
            starts: (rows,) where each completion begins in its tokens; not needed by readout "head".
            targets: (rows, tokens) float32, what the value after a token is to be, NaN where none is asked for; of
                readout "steps".
            inputs: input_ids and attention_mask (rows, tokens), the first half chosen, the second rejected.

        Returns:
            Scalar loss, (rows,) float32 rewards.
        """
        if self.settings.readout == "head":
            rewards = self.model(**inputs).logits[:, 0].float()
            return _pair_loss(rewards, self.settings.loss), rewards
        if starts is None:
            raise ValueError(f"readout {self.settings.readout!r} needs to know where completions begin")
        tokens, mask = inputs["input_ids"], inputs["attention_mask"].bool()
        base = self.model.get_base_model() if self.settings.tuning == "lora" else self.model
        hidden = base_of(base)(
            input_ids=tokens, attention_mask=inputs["attention_mask"], use_cache=False
        ).last_hidden_state
        place = torch.arange(tokens.shape[1], device=tokens.device)[None]
        inside = mask & (place >= starts[:, None])
        if self.settings.readout == "implicit":
            rewards = self.scale * self._log_likelihood(base, hidden, tokens, inside) + self.offset
            return _pair_loss(rewards, self.settings.loss), rewards
        return self._verifier(base, hidden, tokens, inside, targets)

    def save(self, folder: Path) -> None:
        """Write the adapter or checkpoint, and `readout.safetensors` where there is a value head."""
        self.model.save_pretrained(folder)
        if self.value_head is not None:
            weights = {
                "weight": self.value_head.weight.detach()[0].float().cpu(),
                "bias": self.value_head.bias.detach().float().cpu(),
            }
            save_file(weights, folder / "readout.safetensors")

    def _log_likelihood(
        self, base: Any, hidden: torch.Tensor, tokens: torch.Tensor, inside: torch.Tensor
    ) -> torch.Tensor:
        """(rows,) float32: summed over the tokens of each completion."""
        later = inside[:, 1:]
        logits = own_logits(base, hidden[:, :-1][later])
        logprob = -cross_entropy(logits, tokens[:, 1:][later], reduction="none")
        rows = torch.arange(len(tokens), device=tokens.device)[:, None].expand_as(later)[later]
        return torch.zeros(len(tokens), device=tokens.device).index_add(0, rows, logprob)

    def _verifier(
        self, base: Any, hidden: torch.Tensor, tokens: torch.Tensor, inside: torch.Tensor, targets: torch.Tensor | None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        if self.value_head is None:
            raise RuntimeError(f"readout {self.settings.readout!r} has no value head")
        values = self.value_head(hidden.float())[..., 0]
        half = len(tokens) // 2
        if targets is None:
            targets = torch.zeros_like(values)
            targets[:half] = 1
            judged = inside
        else:
            judged = ~targets.isnan()
        loss = binary_cross_entropy_with_logits(values[judged], targets[judged])
        likelihood = self._log_likelihood(base, hidden[:half], tokens[:half], inside[:half])
        loss = loss - _LANGUAGE_MODEL_SHARE * likelihood.sum() / inside[:half].sum()
        last = judged.float().cumsum(1).argmax(1)
        return loss, values[torch.arange(len(tokens), device=tokens.device), last]


def is_checkpointed(settings: TrainingSettings, device: torch.device) -> bool:
    """Whether activations of layers are computed again in the backward pass, because memory is short there."""
    return settings.tuning == "lora" and device.type == "cuda"


def with_adapter(model: Any, settings: TrainingSettings, checkpointed: bool) -> Any:
    """The model with a float32 adapter over its frozen weights.

    Args:
        checkpointed: compute activations of layers again instead of keeping them.
    """
    from peft import LoraConfig, get_peft_model

    kind = "SEQ_CLS" if settings.readout == "head" else "CAUSAL_LM"
    config = LoraConfig(task_type=kind, r=16, lora_alpha=32, lora_dropout=0.05, target_modules="all-linear")
    adapted = get_peft_model(model, config)
    if checkpointed:
        adapted.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        adapted.enable_input_require_grads()
    return adapted


def _pair_loss(rewards: torch.Tensor, loss: str) -> torch.Tensor:
    chosen, rejected = rewards.float().chunk(2)
    if loss == "pairwise":
        return -logsigmoid(chosen - rejected).mean()
    labels = torch.cat([torch.ones_like(chosen), torch.zeros_like(rejected)])
    return binary_cross_entropy_with_logits(rewards.float(), labels)
