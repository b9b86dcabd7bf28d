"""How far a computation is, as the runner and `bestofl status` see it."""

from __future__ import annotations

import io
import sys
import threading
import time

from bestofl_lib.progress import PROGRESS_FILE, Progress, Snapshot, read_snapshot, tracked
from bestofl_lib.study import watching


def test_progress_is_noted_where_the_runner_wants_to_be_told_and_nowhere_else(tmp_path, monkeypatch):
    monkeypatch.delenv(PROGRESS_FILE, raising=False)
    assert list(tracked([1, 2], "models", shown=False)) == [1, 2] and list(tmp_path.iterdir()) == []
    monkeypatch.setenv(PROGRESS_FILE, str(tmp_path / "p.json"))
    with Progress("candidates", 10, 4, shown=False) as progress:
        assert (found := read_snapshot(tmp_path / "p.json")) and (found.done, found.total, found.at_start) == (4, 10, 4)
        progress.update(3, tokens=120)
    found = read_snapshot(tmp_path / "p.json")
    assert found and (found.done, found.tokens, found.unit) == (7, 120, "candidates")
    assert [path.name for path in tmp_path.iterdir()] == ["p.json"]


def test_a_clock_that_is_set_back_changes_no_duration(tmp_path, monkeypatch):
    monkeypatch.setenv(PROGRESS_FILE, str(tmp_path / "p.json"))
    now = time.time()
    with Progress("candidates", 10, shown=False) as progress:
        monkeypatch.setattr(time, "time", lambda: now - 3600.0)
        progress.update(5, tokens=50)
    found = read_snapshot(tmp_path / "p.json")
    assert found and 0 <= found.seconds < 600
    assert "tokens/s" in found.words()


def test_words_give_speed_time_left_and_what_was_held_already():
    text = Snapshot("candidates", 700, 35_200, 300, 7600, 400.0).words()
    assert text == "700 of 35,200 candidates (300 held already), 1/s, 19 tokens/s, about 9.6 h left"
    assert "20 min each" in Snapshot("models", 1, 13, 0, 0, 1200.0).words()
    assert "left" not in Snapshot("candidates", 2, 4, 0, 0, 19.0).words()
    assert "left" not in Snapshot("candidates", 9, 1000, 0, 0, 100.0).words()
    assert Snapshot("candidates", 3, 3, 3, 0, 0.0).words() == "3 of 3 candidates (3 held already)"


def test_rows_that_are_written_together_count_before_they_end():
    note = {"unit": "candidates", "total": 96, "at_start": 0, "seconds": 60.0, "most_tokens": 100}
    text = Snapshot(**note, done=1, tokens=4900, unfinished_tokens=4860).words()
    assert text == "1 of 96 candidates, 60 s each, 82 tokens/s, about 57 s left"  # not 95 minutes
    text = Snapshot(**note, done=0, tokens=4800, unfinished_tokens=4800).words()
    assert text == "0 of 96 candidates, 80 tokens/s, about 60 s left"


def test_each_language_is_counted_and_a_line_fits_its_terminal(tmp_path, monkeypatch):
    monkeypatch.setenv(PROGRESS_FILE, str(tmp_path / "p.json"))
    with Progress("candidates", 8, 4, shown=False, parts={"en": (4, 4), "sw": (0, 4)}) as progress:
        progress.update(1, part="sw")
    found = read_snapshot(tmp_path / "p.json")
    assert found and found.done == 5 and found.part_words() == "en 4/4, sw 1/4"


def test_on_a_terminal_the_line_is_updated_in_place_and_fits(tmp_path, monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    terminal = Terminal()
    monkeypatch.setattr(watching, "LOOK", 0.01)
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv(PROGRESS_FILE, str(tmp_path / "p.json"))
    monkeypatch.setenv("COLUMNS", "40")
    lines: list[str] = []
    with watching.watching("01_x", tmp_path / "p.json", lines.append):
        with Progress("candidates", 8, shown=False, parts={"en": (0, 4), "sw": (0, 4)}) as progress:
            progress.update(1, part="sw")
        time.sleep(0.3)
    shown = [line.removeprefix("\x1b[K") for line in terminal.getvalue().split("\r") if line.strip()]
    assert shown and not lines and all(len(line) < 40 for line in shown)
    assert shown[0].startswith("  01_x: 1 of 8 candidates") and shown[0].endswith("…") and shown[-1] == ""


def test_a_torn_or_foreign_note_is_no_note(tmp_path):
    path = tmp_path / "p.json"
    for content in ("", "{", "[]", '{"done": 1}'):
        path.write_text(content)
        assert read_snapshot(path) is None


def test_without_a_terminal_a_plain_line_is_said_now_and_then(tmp_path, monkeypatch):
    monkeypatch.setattr(watching, "LOOK", 0.01)
    monkeypatch.setattr(watching, "EVERY", 0.05)
    monkeypatch.setenv(PROGRESS_FILE, str(tmp_path / "p.json"))
    lines: list[str] = []
    with watching.watching("01_x", tmp_path / "p.json", lines.append) as seen:
        with Progress("candidates", 4, shown=False) as progress:
            progress.update(2)
        time.sleep(0.3)
    assert lines and lines[0].startswith("  01_x: 2 of 4 candidates") and "\r" not in "".join(lines)
    assert seen.peak > 2**20 and not (tmp_path / "p.json").exists()
    assert threading.active_count() < 50
