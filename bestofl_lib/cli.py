"""The command line: `bestofl run`, `check`, `status`, `runs`, `compare`, `share`, `figures`, `doctor` and the others.

Each command is a few lines over the library. An error of the user's or the machine's is one clear message and an exit
status that is not 0; `bestofl --debug …` shows the traceback. Nothing heavy is imported before a command needs it.
"""

from __future__ import annotations

import signal
import sys
from types import FrameType
from typing import Annotated, Any

import typer
from typer.core import TyperGroup


def _say(text: str, err: bool = False) -> None:
    """Print text that may quote a file or a model: control characters are shown, and command no terminal."""
    from bestofl_lib.display.text import visible

    typer.echo(visible(text), err=err)


class _SaysErrors(TyperGroup):
    """Commands whose expected errors are one message instead of a traceback."""

    def invoke(self, ctx: Any) -> Any:
        from bestofl_lib.study.errors import StudyError

        try:
            return super().invoke(ctx)
        except (StudyError, ValueError, OSError, ImportError) as error:
            if ctx.params.get("debug"):
                raise
            _say(f"bestofl: {error}", err=True)
            ctx.exit(getattr(error, "exit_code", 1))
        except KeyboardInterrupt:
            _say("bestofl: interrupted; what is done is kept; run the same command to continue", err=True)
            ctx.exit(130)


app = typer.Typer(
    cls=_SaysErrors,
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="Best-of-L: sample in many languages, rank across them, see what a budget buys.",
)


def _say_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        _say(f"bestofl {version('bestofl')}")
        raise typer.Exit


def _runs(begun: str) -> list[str]:
    """Names of runs for a shell that completes them."""
    from bestofl_lib.runs import Folders, run_names

    return [name for name in run_names(Folders.default().runs) if name.startswith(begun)]


def _studies(begun: str) -> list[str]:
    """Names of studies for a shell that completes them."""
    from bestofl_lib.runs import Folders

    found = sorted(path.stem for path in (Folders.default().notebooks / "studies").glob("*.yaml"))
    return [name for name in found if name.startswith(begun)]


@app.callback()
def main(
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
    version: Annotated[
        bool, typer.Option("--version", help="Show the version.", callback=_say_version, is_eager=True)
    ] = False,
) -> None:
    def stop(number: int, frame: FrameType | None) -> None:
        raise SystemExit(128 + number)

    signal.signal(signal.SIGTERM, stop)


@app.command(add_help_option=False)
def run(
    context: typer.Context,
    study: Annotated[
        str, typer.Argument(help="A file in notebooks/studies, such as lab.", autocompletion=_studies)
    ] = "",
    parameters: Annotated[list[str] | None, typer.Option("-p", help="name=value, as often as needed.")] = None,
    start_from: Annotated[
        str | None, typer.Option("--from", help="Leave out the notebooks before this one, such as 5.")
    ] = None,
    only: Annotated[str | None, typer.Option("--only", help="Run this notebook alone, such as 8.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Run notebooks even if they are up to date.")] = False,
    replace: Annotated[
        bool, typer.Option("--replace", help="Let other parameters replace the figures of a finished run.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would run, and change nothing.")] = False,
    trial: Annotated[
        bool, typer.Option("--trial", help="A small part, in its own run: 12 problems, 4 candidates, 2 languages.")
    ] = False,
    help_wanted: Annotated[
        bool, typer.Option("--help", help="Show this; after a study, its parameters with help and values.")
    ] = False,
    shard: Annotated[
        str | None, typer.Option("--shard", help="Draw part i of n of the candidates, such as 1/4, and nothing else.")
    ] = None,
) -> None:
    """Run what has changed of a study, and build its report."""
    from bestofl_lib.study.plan import load_study, with_absolute_paths
    from bestofl_lib.study.preview import parameter_lines, preview, trial_overrides

    if help_wanted or not study:
        _say(context.get_help() if not study else "\n".join(parameter_lines(study)))
        raise typer.Exit(0 if help_wanted else 2)
    overrides = with_absolute_paths(_named(parameters))
    if trial:
        overrides = trial_overrides(load_study(study), overrides)
        _say("trial: " + " ".join(f"-p {name}={value}" for name, value in overrides.items()))
    if shard is not None:
        from bestofl_lib.study.shards import run_shard

        if start_from or only or force or replace or dry_run:
            raise ValueError(
                "--shard draws candidates and nothing else; leave out --from, --only, --force, --replace and --dry-run"
            )
        run_shard(study, shard, overrides, say=_say)
        return
    if dry_run:
        for line in preview(study, overrides, start_from=start_from, only=only, replace=replace):
            _say(line)
        return
    from bestofl_lib.study.run import run_study

    index = run_study(study, overrides, start_from=start_from, only=only, force=force, replace=replace, say=_say)
    _say(f"open {index}")


@app.command()
def check(
    file: Annotated[str, typer.Argument(help="Completions made elsewhere, or problems of your own: a file or folder.")],
    parameters: Annotated[
        list[str] | None, typer.Option("-p", help="model=…, axis=…, language=…, problems=… or columns=ours:theirs.")
    ] = None,
) -> None:
    """What a file would be read as: three rows, what is missing, the command that runs it."""
    from bestofl_lib.study.checking import check_file

    for line in check_file(file, _named(parameters)):
        _say(line)


@app.command()
def status(run: Annotated[str, typer.Argument(help="A folder in data/runs.", autocompletion=_runs)] = "lab") -> None:
    """What of a run is up to date, stale or missing, and why; what runs now, how fast, how long still."""
    from bestofl_lib.study.status import describe_run

    for line in describe_run(run):
        _say(line)


@app.command()
def runs() -> None:
    """All runs, newest first: model, problems, date, verdicts."""
    from bestofl_lib.study.status import list_runs

    for line in list_runs():
        _say(line)


@app.command()
def copy(
    run: Annotated[str, typer.Argument(help="A folder in data/runs.", autocompletion=_runs)],
    new: Annotated[str, typer.Argument(help="Name of the copy, such as scratch.")],
) -> None:
    """Copy a run, to try things out in notebooks without touching the study's figures."""
    from bestofl_lib.runs import copy_run

    made = copy_run(run, new)
    _say(f"{made.folder}; in a notebook set run = {new!r} in the parameters cell")


@app.command()
def rm(
    run: Annotated[str, typer.Argument(help="A folder in data/runs.", autocompletion=_runs)],
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Delete a run with its candidates, and its report."""
    from bestofl_lib.runs import existing_run, remove_run

    folder = existing_run(run).folder
    if not yes:
        typer.confirm(f"Delete {folder} with all its candidates, and its report?", abort=True)
    for gone in remove_run(run):
        _say(f"deleted {gone}")


@app.command("open")
def open_report(
    run: Annotated[str, typer.Argument(help="A folder in data/runs.", autocompletion=_runs)] = "lab",
) -> None:
    """Open a run's report in the browser."""
    import webbrowser

    from bestofl_lib.runs import Folders, existing_run
    from bestofl_lib.study.errors import StudyError

    folders = Folders.default()
    index = folders.reports / existing_run(run, folders.runs).name / "index.html"
    if not index.exists():
        raise StudyError(f"run {run!r} has no report yet; run its study again to build one")
    webbrowser.open(index.as_uri())
    _say(f"open {index}")


@app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def explore(
    context: typer.Context,
    run: Annotated[str, typer.Argument(help="A folder in data/runs.", autocompletion=_runs)] = "lab",
    split: Annotated[str, typer.Option("--split", help="Which problems: test, dev or train.")] = "test",
    browser: Annotated[bool, typer.Option(help="Open a browser; otherwise the address is printed.")] = True,
    setting: Annotated[str, typer.Option("--setting", help="A setting saved under What if, to open with.")] = "",
) -> None:
    """Look at a run's candidates in JupyterLab, and ask what if; more options go to JupyterLab, such as --port=9999."""
    from bestofl_lib.display.explorer.launch import launch

    raise typer.Exit(launch(run, split, [*([] if browser else ["--no-browser"]), *context.args], setting))


@app.command()
def compare(
    runs: Annotated[
        list[str],
        typer.Argument(help="Folders in data/runs, two or more; differences are to the first.", autocompletion=_runs),
    ],
) -> None:
    """What differs between runs and why, their curves in one chart; writes a page into reports/."""
    from bestofl_lib.analysis.comparison import compare_runs
    from bestofl_lib.display.report.compare import names_of, summary, write_page
    from bestofl_lib.runs import Folders, existing_run
    from bestofl_lib.study.status import warnings_of

    if len(runs) < 2:
        raise ValueError(
            f"one run is named, {runs[0]}; name two or more: bestofl compare {runs[0]} OTHER (bestofl runs lists them)"
        )
    folders = Folders.default()
    opened = [existing_run(name, folders.runs) for name in runs]
    for line in (line for run in opened for line in warnings_of(run, folders)):
        _say(line)
    found = [compare_runs(opened[0], other) for other in opened[1:]]
    for one in found:
        for line in summary(one, names_of(opened)):
            _say(line)
    _say(f"open {write_page(opened, found, folders.reports)}")


@app.command()
def share(
    run: Annotated[str, typer.Argument(help="A folder in data/runs.", autocompletion=_runs)] = "lab",
    to: Annotated[
        str | None,
        typer.Option(
            "--to", help="A file, or a folder (ending in /) for a static host; by default reports/<run>.html."
        ),
    ] = None,
) -> None:
    """A run's whole report as one HTML file that works when it is mailed, or as a folder for a static host."""
    from pathlib import Path

    from bestofl_lib.display.report.share import share as write
    from bestofl_lib.display.report.share import share_folder
    from bestofl_lib.runs import Folders, existing_run
    from bestofl_lib.study.status import page_states

    folders = Folders.default()
    made = existing_run(run, folders.runs)
    title, states = page_states(made, folders)
    path = Path(to) if to else folders.reports / f"{made.name}.html"
    if to and (to.endswith(("/", "\\")) or path.is_dir()):
        size = share_folder(made, path, title=title, states=states)
        _say(f"{path} ({size / 1e6:.1f} MB): open {path / 'index.html'}, or copy the folder to any web server")
        return
    size = write(made, path, title=title, states=states)
    _say(f"{path} ({size / 1e6:.1f} MB): one file, no network needed")


@app.command()
def figures(
    run: Annotated[str, typer.Argument(help="A folder in data/runs.", autocompletion=_runs)] = "lab",
    formats: Annotated[
        str, typer.Option("--format", help="Of pdf, svg, png, csv, tex (result tables), separated by commas.")
    ] = "svg,png,csv",
    to: Annotated[str | None, typer.Option("--to", help="Where to; by default reports/<run>-figures.")] = None,
    width: Annotated[str | None, typer.Option("--width", help="Of a picture, such as 3.3in or 84mm.")] = None,
    font: Annotated[str, typer.Option("--font", help='A font on this machine, such as "Times New Roman".')] = "",
    title: Annotated[bool, typer.Option(help="Whether the finding and the question are above each chart.")] = True,
    only: Annotated[
        str, typer.Option("--only", help="Parts of the names wanted, such as claims,accuracy; by default all.")
    ] = "",
) -> None:
    """A run's charts as vector and pixel pictures, their data as CSV, its results as LaTeX tables."""
    from pathlib import Path

    from bestofl_lib.display.figures import export_figures, inches
    from bestofl_lib.display.pictures import Look
    from bestofl_lib.runs import Folders, existing_run
    from bestofl_lib.study.status import warnings_of
    from bestofl_lib.text import counted

    folders = Folders.default()
    made = existing_run(run, folders.runs)
    destination = Path(to) if to else folders.reports / f"{made.name}-figures"
    look = Look(inches(width) if width else None, font, title)
    for line in warnings_of(made, folders):
        _say(line)
    wanted, chosen = ([part.strip() for part in text.split(",") if part.strip()] for text in (formats, only))
    written = export_figures(made, destination, wanted, look, chosen, say=_say)
    _say(f"{counted(len(written), 'file')} in {destination}")


@app.command()
def export(
    run: Annotated[str, typer.Argument(help="A folder in data/runs.", autocompletion=_runs)],
    reward_model: Annotated[str, typer.Argument(help="A folder in the run's reward_models, such as cross.")],
    to: Annotated[str, typer.Option("--to", help="The new folder.")],
) -> None:
    """Write a reward model of a run as a Hugging Face checkpoint that AutoModelForSequenceClassification opens."""
    from bestofl_lib.rewards.opening import export_reward_model
    from bestofl_lib.runs import existing_run

    models = existing_run(run).folder / "reward_models"
    _say(str(export_reward_model(models / reward_model, to)))


@app.command()
def doctor(
    parameters: Annotated[list[str] | None, typer.Option("-p", help="model=…: look at this model as well.")] = None,
) -> None:
    """What this machine has, what is missing, and the remedy."""
    from bestofl_lib.doctor import examine

    given = _named(parameters)
    if other := set(given) - {"model"}:
        raise ValueError(f"-p {other.pop()}: doctor looks at a model only; write -p model=…")
    lines, healthy = examine(model=given.get("model", ""))
    for line in lines:
        _say(line)
    if not healthy:
        raise typer.Exit(1)


def _named(parameters: list[str] | None) -> dict[str, str]:
    """`name=value` words by name.

    Raises:
        ValueError: one has no name or no value.
    """
    found = {}
    for text in parameters or []:
        name, mark, value = text.partition("=")
        if not mark or not name.strip():
            raise ValueError(f"-p {text!r}: expected name=value, such as -p languages=en,sw")
        found[name.strip()] = value
    return found


if __name__ == "__main__":
    sys.exit(app())
