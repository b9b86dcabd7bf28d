"""Which model is meant: folders that are no safe models are refused."""

from __future__ import annotations

import json
import shutil
import socket
import threading
import time

import pytest

from bestofl_lib.models.identity import hub_commit, locate


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


@pytest.mark.parametrize("hub", ["refuses", "accepts and never answers", "has no address"])
def test_a_hub_that_does_not_answer_counts_as_offline_within_seconds(monkeypatch, hub):
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = 9 if hub == "refuses" else server.getsockname()[1]
        host = "nowhere.invalid" if hub == "has no address" else "127.0.0.1"
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", f"http://{host}:{port}")
        began = time.monotonic()
        with pytest.raises(FileNotFoundError, match="no model folder 'nobody/nothing', and the Hub cannot be reached"):
            hub_commit("nobody/nothing", None)
        assert time.monotonic() - began < 10  # 3 s where nothing else runs; without the question, minutes


def test_a_cached_model_is_found_offline_with_its_commit(tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    commit = "1" * 40
    cached = tmp_path / "models--nobody--something" / "snapshots" / commit / "config.json"
    for path, text in ((cached, "{}"), (tmp_path / "models--nobody--something" / "refs" / "main", commit)):
        path.parent.mkdir(parents=True)
        path.write_text(text)
    assert hub_commit("nobody/something", None) == hub_commit("nobody/something", commit) == commit
    with pytest.raises(FileNotFoundError, match="not in the local cache"):
        hub_commit("nobody/something", "v2")


def test_a_hub_that_answers_is_asked_for_the_model(monkeypatch):
    said = b"HTTP/1.1 404 Not Found\r\nX-Error-Code: RepoNotFound\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"

    def answer(server):
        while True:
            with server.accept()[0] as peer:
                peer.recv(4096)
                peer.sendall(said)

    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=answer, args=[server], daemon=True).start()
        hub = f"http://127.0.0.1:{server.getsockname()[1]}"
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", hub)
        address = hub + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr("huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE", address)
        with pytest.raises(FileNotFoundError, match="no Hub model 'nobody/nothing'; check the spelling"):
            hub_commit("nobody/nothing", None)


@pytest.mark.parametrize("task", ["CausalLM", "SequenceClassification"])
@pytest.mark.parametrize("kind", ["own", "llama"])  # of the model's own, and in the name of one that the library knows
def test_code_that_comes_with_a_model_is_never_run(tiny_policy, tmp_path, kind, task):
    from bestofl_lib.candidates.transformers_sampler import TransformersSampler
    from bestofl_lib.rewards.backbone import RewardBackbone

    folder = shutil.copytree(tiny_policy, tmp_path / kind)
    places = {
        "AutoConfig": "own.OwnConfig",
        "AutoTokenizer": ["own.OwnTokenizer", None],
        f"AutoModelFor{task}": "own.Own",
    }
    config = json.loads((folder / "config.json").read_text())
    config |= {"model_type": kind, "architectures": [f"OwnFor{task}"], "auto_map": places}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "own.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w').close()\n")

    def opened():
        return TransformersSampler(folder, device="cpu").writer, RewardBackbone(folder, device="cpu")

    if kind == "llama":
        assert all(opened())  # by the library's own code
    else:
        for use in (
            lambda: TransformersSampler(folder, device="cpu").writer,
            lambda: RewardBackbone(folder, device="cpu"),
        ):
            with pytest.raises((ValueError, OSError), match="own"):
                use()
    assert not (tmp_path / "ran").exists()
