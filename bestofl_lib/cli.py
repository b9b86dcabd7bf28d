"""The command line: `bestofl run | status | explore | compare | share | figures | doctor`.

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


class _Plain(TyperGroup):
    """Commands whose expected errors are one message instead of a traceback."""

    def invoke(self, ctx: Any) -> Any:
        from bestofl_lib.study.errors import StudyError

        try:
            return super().invoke(ctx)
        except (StudyError, ValueError, OSError, ImportError) as error:
            if ctx.params.get("debug"):
                raise
            typer.echo(f"bestofl: {error}", err=True)
            ctx.exit(getattr(error, "exit_code", 1))
        except KeyboardInterrupt:
            typer.echo("bestofl: interrupted; what is done is kept, the same command goes on from there", err=True)
            ctx.exit(130)


app = typer.Typer(
    cls=_Plain,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="Best-of-L: sample in many languages, rank across them, see what a budget buys.",
)


@app.callback()
def main(debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False) -> None:
    def stop(number: int, frame: FrameType | None) -> None:
        raise SystemExit(128 + number)

    signal.signal(signal.SIGTERM, stop)


@app.command()
def run(
    study: Annotated[str, typer.Argument(help="A file in notebooks/studies, such as lab.")],
    parameters: Annotated[list[str] | None, typer.Option("-p", help="name=value, as often as needed.")] = None,
    start_from: Annotated[
        str | None, typer.Option("--from", help="Leave out the notebooks before this one, such as 05.")
    ] = None,
    only: Annotated[str | None, typer.Option("--only", help="Run this notebook alone, such as 06.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Run notebooks even if they are up to date.")] = False,
    replace: Annotated[
        bool, typer.Option("--replace", help="Let other parameters replace the figures of a finished run.")
    ] = False,
) -> None:
    """Run what has changed of a study, and build its report."""
    from bestofl_lib.study.run import run_study

    overrides = {}
    for text in parameters or []:
        name, mark, value = text.partition("=")
        if not mark or not name.strip():
            raise ValueError(f"-p {text!r}: expected name=value, such as -p languages=en,sw")
        overrides[name.strip()] = value
    index = run_study(study, overrides, start_from=start_from, only=only, force=force, replace=replace, say=typer.echo)
    typer.echo(f"open {index}")


@app.command()
def status(run: Annotated[str, typer.Argument(help="A folder in data/runs.")] = "lab") -> None:
    """What of a run is up to date, stale or missing, and why."""
    from bestofl_lib.study.status import describe_run

    for line in describe_run(run):
        typer.echo(line)


@app.command()
def explore(
    run: Annotated[str, typer.Argument(help="A folder in data/runs.")] = "lab",
    split: Annotated[str, typer.Option("--split", help="Which problems: test, dev or train.")] = "test",
    browser: Annotated[bool, typer.Option(help="Open a browser; otherwise the address is printed.")] = True,
) -> None:
    """Look at a run's candidates in JupyterLab, and ask what if."""
    from bestofl_lib.display.explorer.launch import launch

    raise typer.Exit(launch(run, split, [] if browser else ["--no-browser"]))


@app.command()
def compare(
    first: Annotated[str, typer.Argument(help="A folder in data/runs.")],
    second: Annotated[str, typer.Argument(help="Another one; differences are second minus first.")],
) -> None:
    """What changed between two runs and why; writes a page into reports/."""
    from bestofl_lib.analysis.comparison import compare as compare_runs
    from bestofl_lib.display.report.compare import summary, write_page
    from bestofl_lib.runs import Folders, Run

    folders = Folders.default()
    found = compare_runs(Run(first, folders.runs), Run(second, folders.runs))
    for line in summary(found):
        typer.echo(line)
    typer.echo(f"open {write_page(found, folders.reports)}")


@app.command()
def share(
    run: Annotated[str, typer.Argument(help="A folder in data/runs.")] = "lab",
    to: Annotated[str | None, typer.Option("--to", help="The file; by default reports/<run>.html.")] = None,
) -> None:
    """A run's whole report as one HTML file that works when it is mailed."""
    from pathlib import Path

    from bestofl_lib.display.report.share import share as write
    from bestofl_lib.runs import Folders, Run
    from bestofl_lib.study.status import page_states

    folders = Folders.default()
    made = Run(run, folders.runs)
    title, states = page_states(made, folders)
    path = Path(to) if to else folders.reports / f"{made.name}.html"
    size = write(made, path, title=title, states=states)
    typer.echo(f"{path} ({size / 1e6:.1f} MB): one file, no network needed")


@app.command()
def figures(
    run: Annotated[str, typer.Argument(help="A folder in data/runs.")] = "lab",
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
    from bestofl_lib.runs import Folders, Run

    folders = Folders.default()
    made = Run(run, folders.runs)
    target = Path(to) if to else folders.reports / f"{made.name}-figures"
    look = Look(inches(width) if width else None, font, title)
    wanted, chosen = ([part.strip() for part in text.split(",") if part.strip()] for text in (formats, only))
    typer.echo(f"{len(export_figures(made, target, wanted, look, chosen, say=typer.echo))} files in {target}")


@app.command()
def doctor() -> None:
    """What this machine has, what is missing, and the remedy."""
    from bestofl_lib.doctor import examine

    lines, healthy = examine()
    for line in lines:
        typer.echo(line)
    if not healthy:
        raise typer.Exit(1)


if __name__ == "__main__":
    sys.exit(app())
