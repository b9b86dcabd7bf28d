"""Fixtures for all tests: a tiny random chat model in Hugging Face format, made once per session."""

from __future__ import annotations

from pathlib import Path

import pytest

CHAT_TEMPLATE = (
    "{% for message in messages %}<|user|>{{ message['content'] }}{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)


def write_tiny_policy(
    folder: Path, *, seed: int = 0, chat_template: str | None = CHAT_TEMPLATE, **config: object
) -> Path:
    """A random Llama (2 layers of 32, byte tokens, 20 of them ending a completion) with its own tokenizer.

    Its weights are large enough for a lively distribution, and completions end after some 10 tokens on average.
    """
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    special = ["<|pad|>", "<|end|>", "<|user|>", "<|assistant|>"]
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: index for index, token in enumerate(special + alphabet)}
    raw = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=raw, eos_token="<|end|>", additional_special_tokens=["<|user|>", "<|assistant|>"]
    )
    tokenizer.chat_template = chat_template
    torch.manual_seed(seed)
    shape = dict(
        vocab_size=len(vocabulary), hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=512, initializer_range=0.3, bos_token_id=None, eos_token_id=1,
    )  # fmt: skip
    model = LlamaForCausalLM(LlamaConfig(**(shape | config)))
    model.generation_config = GenerationConfig(eos_token_id=[1, *range(100, 119)])
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def tiny_policy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a tiny random causal language model with tokenizer and chat template. Do not write to it."""
    pytest.importorskip("transformers")
    return write_tiny_policy(tmp_path_factory.mktemp("models") / "tiny-policy")
