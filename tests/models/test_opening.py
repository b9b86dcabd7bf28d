"""Where and how a model is opened."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

from bestofl_lib.models.opening import choose_device, choose_dtype  # noqa: E402


@pytest.mark.parametrize(
    ("cuda", "mps", "device", "dtype"),
    [
        (True, True, "cuda", torch.bfloat16), (True, False, "cuda", torch.bfloat16),
        (False, True, "mps", torch.float16), (False, False, "cpu", torch.float32),
    ],
)  # fmt: skip
def test_device_and_dtype_follow_the_machine_and_can_be_overridden(monkeypatch, cuda, mps, device, dtype):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda: True)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)
    assert choose_device().type == device
    assert choose_dtype("auto", choose_device()) == dtype
    assert choose_device("cpu").type == "cpu"
    assert choose_dtype("float16", choose_device()) == torch.float16
    if not cuda:
        with pytest.raises(ValueError, match="'cuda' is not available"):
            choose_device("cuda")
