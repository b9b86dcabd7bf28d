"""Fixtures for all tests: a tiny random chat model in Hugging Face format, made once per session; a browser with the network off."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

if "PYTEST_XDIST_WORKER" in os.environ:  # two processes share the machine: threads of each would wait for the other's
    os.environ.setdefault("OMP_NUM_THREADS", "1")

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


CHROMIUM = next(
    (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None
)
DRAWN = """() => [['.bestofl-chart', 'charts'], ['.atlas', 'atlas']].every(
    ([what, said]) => !document.querySelector(what) || document.documentElement.dataset[said] === 'drawn')"""


@pytest.fixture(scope="session")
def browser():
    playwright = pytest.importorskip(
        "playwright.sync_api", reason="playwright is not installed; it comes with the extra dev"
    )
    if CHROMIUM is None:
        pytest.skip("no Chromium on this machine (Debian: apt-get install chromium)")
    with playwright.sync_playwright() as driver:
        launched = driver.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", "--headless=new", "--disable-gpu"]
        )
        yield launched
        launched.close()


@pytest.fixture
def opened(browser):
    """Open a page from disk, network off; give it back with what it asked for and complained of."""
    contexts = []

    def open_page(path, width=1000, scheme="light"):
        context = browser.new_context(viewport={"width": width, "height": 800}, color_scheme=scheme, offline=True)
        contexts.append(context)
        page = context.new_page()
        asked, said = [], []
        page.on("request", lambda request: asked.append(request.url))
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("dialog", lambda dialog: (said.append(dialog.message), dialog.dismiss()))
        page.goto(path.as_uri())
        page.wait_for_function(DRAWN, timeout=120_000)
        return page, asked, said

    yield open_page
    for context in contexts:
        context.close()


@pytest.fixture
def folder(tiny_policy, tmp_path) -> Path:
    """A tokenizer without a model."""
    copied = shutil.copytree(tiny_policy, tmp_path / "model")
    for name in ("config.json", "model.safetensors", "generation_config.json"):
        (copied / name).unlink()
    return copied
