"""What the README shows is what happens: its examples are checked, its commands and parameters exist."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from typer.main import get_command
from typer.testing import CliRunner

from bestofl_lib.cli import app
from bestofl_lib.runs import ROOT, Folders
from bestofl_lib.study.notebooks import notebook_names
from bestofl_lib.study.plan import load_study, plan, study_names

README = (ROOT / "README.md").read_text("utf8")
ROWS = re.findall(r"```json\n(.*?)```", README, re.S)
COMMANDS = sorted(set(re.findall(r"(?:`|^)(?:\.venv/bin/)?(bestofl [a-z][^`\n#]*)", README, re.M)))


def test_it_shows_rows_and_commands() -> None:
    assert len(ROWS) == 2 and len(COMMANDS) >= 8


@pytest.mark.parametrize(
    ("rows", "kind"), list(zip(ROWS, ("3 completions of 1 problem", "1 problem in 3 languages"), strict=True))
)
def test_its_rows_are_read_as_what_it_says(
    rows: str, kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("rows.jsonl").write_text(rows, "utf8")
    result = CliRunner().invoke(app, ["check", "rows.jsonl"])
    assert result.exit_code == 0, result.output
    assert f"rows.jsonl: {kind}" in result.output


@pytest.mark.parametrize("command", COMMANDS)
def test_its_commands_exist_with_these_options(command: str) -> None:
    _, verb, *rest = shlex.split(command)
    commands = get_command(app).commands  # type: ignore[attr-defined]
    assert verb in commands, f"no command {verb}"
    options = {name for parameter in commands[verb].params for name in [*parameter.opts, *parameter.secondary_opts]}
    given = {word for word in rest if word.startswith("-")}
    assert given <= options, f"{command}: no option {', '.join(sorted(given - options))}"


@pytest.mark.parametrize("command", [c for c in COMMANDS if c.startswith("bestofl run ")])
def test_its_parameters_exist_and_have_the_right_type(command: str) -> None:
    _, _, study, *rest = shlex.split(command)
    folders = Folders.default()
    assert study in study_names(folders)
    given = dict(text.split("=", 1) for text in rest if "=" in text)
    run, steps = plan(load_study(study, folders), given, folders)
    assert steps and run == given.get("run", study)


def test_its_table_lists_every_notebook() -> None:
    assert re.findall(r"^\| `(\d\d_\w+)` \|", README, re.M) == notebook_names(Folders.default())


def test_its_links_and_pictures_are_there() -> None:
    targets = [t for t in re.findall(r"\]\(([^)#]+)\)", README) if "://" not in t]
    assert targets and all((ROOT / target).exists() for target in targets)
