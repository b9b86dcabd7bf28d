"""What the tests of charts and pages share: tables made by their real producers, and a browser with the network off."""

from __future__ import annotations

import sys
from pathlib import Path

import polars as pl
import pytest

sys.path.insert(0, str(Path(__file__).parent))
import producers

from bestofl_lib.display import embed
from bestofl_lib.display.report import build
from bestofl_lib.display.report.pages import POLICY, render
from bestofl_lib.runs import Run


@pytest.fixture(scope="session")
def small(tmp_path_factory) -> Run:
    """A small made-up run with all its tables; read it, do not write into it."""
    return producers.small_run(tmp_path_factory.mktemp("small"))


@pytest.fixture(scope="session")
def tables(small) -> dict[str, pl.DataFrame]:
    """Chart or sentence to its table, see `producers.produce`."""
    return producers.produce(small)


@pytest.fixture
def opened_alone(opened, tmp_path):
    """Open one page of a report without the others: its body, and the script that draws it."""

    def open_body(body, script, links=(), **window):
        (tmp_path / "assets").mkdir(exist_ok=True)
        for name in (script, "page.css"):
            (tmp_path / "assets" / name).write_text(build.asset(build.ASSETS[name]), "utf8")
        (tmp_path / "assets" / "vega.js").write_text(embed.chart_library(), "utf8")
        scripts = ["vega.js", script] if script == "charts.js" else [script]
        shell = {"title": "t", "brand": "b", "links": links, "heading": "", "rows": [], "scripts": scripts}
        text = render("base.html.j2", policy=POLICY, body=body, **shell)
        (tmp_path / "page.html").write_text(text, "utf8")
        return opened(tmp_path / "page.html", **window)

    return open_body
