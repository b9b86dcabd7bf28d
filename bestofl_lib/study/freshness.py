"""When is a notebook up to date, and when is a report?

A notebook is up to date when its parameters, its cells, the library files that it imports (directly or not), the files
that its parameters name, the files that earlier notebooks left in the run folder, and the files that it left there
itself are all what they were when it last finished. Files are compared by content.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from bestofl_lib.files import ROOT
from bestofl_lib.runs import Run
from bestofl_lib.study.notebooks import LIBRARY, cells_digest, imported_names
from bestofl_lib.study.plan import Step

SAMPLED = 256 * 2**20  # bytes; of larger files the size, both ends and 62 places between are compared


@dataclass(frozen=True)
class State:
    """Whether one notebook has to run."""

    name: str
    state: str  # "up to date", "stale", "missing" or "failed"
    why: str  # empty when up to date


class Digests:
    """Digests of the files of a run, each computed once per object, by content: modification times are not trusted."""

    def __init__(self, folder: Path):
        self.folder = folder
        self._known: dict[str, str] = {}

    def of(self, name: str) -> str:
        """Digest of a file, its name taken from the run folder (or absolute); empty when it is not there."""
        if name not in self._known:
            path = self.folder / name
            self._known[name] = file_digest(path) if path.is_file() else ""
        return self._known[name]


def states(run: Run, steps: list[Step]) -> list[State]:
    """Whether each notebook has to run, and why; one per step."""
    records = run.notebook_records()
    digests = Digests(run.folder)
    return [state_of(run, step, steps, records, digests) for step in steps]


def state_of(run: Run, step: Step, steps: list[Step], records: dict[str, Any], digests: Digests) -> State:
    """Whether one notebook has to run.

    Args:
        steps: all of the study, in order: what earlier ones left counts.
        records: section `notebooks` of `run.json`.
    """
    record = records.get(step.name)
    if record is None:
        return State(step.name, "missing", "not run yet")
    if record["status"] == "failed":
        return State(step.name, "failed", f"cell {record['error']['cell']}: {record['error']['message']}")
    if record["status"] != "done":
        return State(step.name, "stale", "it was interrupted")
    why = difference("parameter", record["parameters"], step.effective, show=True)
    why = why or ("" if record["source"] == cells_digest(step.path) else "the notebook changed")
    why = why or difference("library file", record["library"], library_files(imported_names(step.path)))
    why = why or difference("input", record["data"], named_files(step, digests))
    why = why or difference("file", record["outputs"], {name: digests.of(name) for name in record["outputs"]})
    why = why or difference("earlier table", *_upstream(step, steps, records, digests))
    if not why and not executed_path(run, step.name).exists():
        why = "its executed notebook is missing"
    if not why and executed_changed(step.name, record, digests):
        why = "its executed notebook changed"
    return State(step.name, "stale" if why else "up to date", why)


def executed_path(run: Run, notebook: str) -> Path:
    """Where a run keeps an executed notebook."""
    return run.folder / "notebooks" / f"{notebook}.ipynb"


def executed_changed(notebook: str, record: dict[str, Any], digests: Digests) -> bool:
    """Whether an executed notebook is another file than its run left."""
    return record.get("executed") != digests.of(f"notebooks/{notebook}.ipynb")


def earlier_outputs(step: Step, steps: list[Step], records: dict[str, Any]) -> set[str]:
    """Names of the files that the notebooks before this one have left."""
    order = [other.name for other in steps]
    return {f for name in order[: order.index(step.name)] for f in records.get(name, {}).get("outputs", {})}


def difference(what: str, then: dict[str, Any], now: dict[str, Any], show: bool = False) -> str:
    """The first few entries that differ, in words; empty when none does.

    >>> difference("parameter", {"rows": 4}, {"rows": 8}, show=True)
    'parameter changed: rows (4 → 8)'
    """
    changed = [key for key in sorted(then.keys() | now.keys()) if then.get(key) != now.get(key)]
    if not changed:
        return ""
    if show:
        changed = [f"{key} ({then.get(key)!r} → {now.get(key)!r})" for key in changed]
    return f"{what} changed: " + ", ".join(changed[:3]) + (f" and {len(changed) - 3} more" if len(changed) > 3 else "")


def run_files(folder: Path) -> list[str]:
    """Files of a run that count: not hidden, not half-written, not the account of the run itself."""
    return sorted(
        name
        for path in folder.rglob("*")
        if path.is_file()
        and not any(part.startswith(".") for part in path.relative_to(folder).parts)
        and path.suffix not in (".lock", ".part", ".tmp")
        and (name := path.relative_to(folder).as_posix()) not in ("run.json", "explore.ipynb")
        and not name.startswith("notebooks/")
    )


def named_files(step: Step, digests: Digests) -> dict[str, str]:
    """Digests of the files that the parameters name: a path as it stands, of the project, or of its `data` folder."""
    found: dict[str, str] = {}
    for name, value in step.effective.items():
        for text in value if isinstance(value, list) else [value]:
            if name != "run" and isinstance(text, str) and text.strip() and "\0" not in text:
                for file in _files_at(text):
                    shown = file.relative_to(ROOT) if file.is_relative_to(ROOT) else file
                    found[str(shown)] = digests.of(str(file))
    return found


def library_files(names: Iterable[str], package: str = LIBRARY) -> dict[str, str]:
    """Digest of every library file behind some imports, directly or through another module.

    Files beside a module that are not Python (templates, scripts, styles) count as well, and those in folders below it
    that are no package.

    Args:
        names: dotted, modules or things in modules, such as `bestofl_lib.display.charts`.
    """
    graph, root = _import_graph(package)
    wanted = {name for name in names if name in graph.modules}
    wanted |= {above for name in wanted for above in graph.find_upstream_modules(name)}
    wanted |= {".".join(name.split(".")[:k]) for name in wanted for k in range(1, name.count(".") + 2)}
    bases = {module: root.joinpath(*module.split(".")[1:]) for module in wanted}
    paths = {m: base / "__init__.py" if base.is_dir() else base.with_suffix(".py") for m, base in bases.items()}
    folders = {path.parent for module, path in paths.items() if module != package}
    files = {*paths.values(), *(file for folder in folders for file in _assets(folder))}
    return {path.relative_to(root.parent).as_posix(): file_digest(path) for path in sorted(files) if path.is_file()}


def report_key(run: Run, title: str, destination: Path, steps: list[Step], made_by: Iterable[str]) -> str:
    """Digest of all that a report depends on and of its pages: equal keys mean that nothing is to be built.

    Args:
        destination: the report's folder.
        made_by: modules that build the report.
    """
    records = run.notebook_records()
    shown = [
        [s.name, s.state, s.why, records.get(s.name, {}).get("started"), records.get(s.name, {}).get("outputs")]
        for s in states(run, steps)
    ]
    pages = {
        path.relative_to(destination).as_posix(): file_digest(path) for path in destination.rglob("*") if path.is_file()
    }
    executed = {step.name: Digests(run.folder).of(f"notebooks/{step.name}.ipynb") for step in steps}
    content = [title, library_files(made_by), shown, dict(sorted(pages.items())), executed]
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]


def file_digest(path: Path) -> str:
    """First 16 digits of a file's SHA-256; beyond 256 MB of its size and 64 places of 64 kB, both ends among them.

    Raises:
        OSError: naming the file that cannot be read.
    """
    digest = hashlib.sha256()
    size = path.stat().st_size
    with path.open("rb") as stream:
        if size <= SAMPLED:
            while block := stream.read(1 << 20):
                digest.update(block)
        else:
            digest.update(str(size).encode())
            for part in range(64):
                stream.seek(part * (size - 65536) // 63)
                digest.update(stream.read(65536))
    return digest.hexdigest()[:16]


def _upstream(step: Step, steps: list[Step], records: dict[str, Any], digests: Digests) -> tuple[dict, dict]:
    """What earlier notebooks left when this one ran, and what they have left now.

    A file that a later notebook has since taken over (a store that it topped up) does not make the earlier notebook
    stale.
    """
    earlier = earlier_outputs(step, steps, records)
    before = [other.name for other in steps][: [other.name for other in steps].index(step.name)]
    others = {f for name, record in records.items() if name not in before for f in record["outputs"]}
    then = {name: digest for name, digest in records[step.name]["inputs"].items() if name not in others - earlier}
    return then, {name: digests.of(name) for name in earlier}


def _files_at(text: str) -> list[Path]:
    """The file or files of a folder that a parameter's value names; none where it is no path."""
    for path in (ROOT / Path(text).expanduser(), ROOT / "data" / text):
        with contextlib.suppress(OSError, ValueError, RuntimeError):  # too long for a path, or not one
            if path.is_file():
                return [path]
            if path.is_dir() and not ROOT.is_relative_to(path.resolve()):
                return [file for file in _walk(path) if file.is_file()]
    return []


def _walk(folder: Path) -> list[Path]:
    found = []
    for place, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        found += [Path(place) / name for name in sorted(files) if not name.startswith(".")]
    return found


def _assets(folder: Path) -> set[Path]:
    """Files that are not Python, here and in folders below that are no package."""
    found: set[Path] = set()
    for path in folder.iterdir():
        if path.is_dir() and path.name != "__pycache__" and not (path / "__init__.py").exists():
            found |= _assets(path)
        elif path.is_file() and path.suffix not in (".py", ".pyc") and not path.name.startswith("."):
            found.add(path)
    return found


@lru_cache(maxsize=4)
def _import_graph(package: str) -> tuple[Any, Path]:
    """Who imports whom in a package, as grimp reads it from the sources (0.1 s), and the package's folder."""
    from importlib.util import find_spec

    import grimp

    spec = find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise ImportError(f"no package {package!r} on this machine")
    graph = grimp.build_graph(package, cache_dir=None, exclude_type_checking_imports=True)
    return graph, Path(next(iter(spec.submodule_search_locations)))
