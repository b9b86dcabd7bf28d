"""Which model is meant: folders that are no safe models are refused."""

from __future__ import annotations

import pytest

from bestofl_lib.models.identity import locate


def test_folders_that_are_no_safe_models_are_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="no model folder"):
        locate("/no/such/folder")
    with pytest.raises(FileNotFoundError, match=r"config\.json"):
        locate(tmp_path)
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(FileNotFoundError, match="safetensors"):
        locate(tmp_path)
    (tmp_path / "pytorch_model.bin").write_bytes(b"cos\nsystem\n")
    with pytest.raises(ValueError, match="pickle"):
        locate(tmp_path)
