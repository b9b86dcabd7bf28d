"""Draws the README's three pictures from the lab's run and report: `make pictures`, after `make study`.

One chart as `bestofl figures` writes it, and the atlas and the explorer as Chromium shows them.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from pathlib import Path

from playwright.sync_api import Page, sync_playwright

sys.path.insert(0, str(Path(__file__).parent / "display"))
from test_explorer_browser import jupyter_lab, run_all, settled

from bestofl_lib.display.explorer.launch import write_notebook
from bestofl_lib.display.figures import export_figures
from bestofl_lib.display.pictures import Look, browser
from bestofl_lib.files import ROOT
from bestofl_lib.runs import Folders, Run

PICTURES = ROOT / "reports" / "figures"
SCALE = 1.5  # pixels of a picture per pixel of the page


def main() -> None:
    folders = Folders.default()
    run = Run("lab", folders.runs)
    with tempfile.TemporaryDirectory() as made, sync_playwright() as driver:
        folder = Path(made)
        look = Look(width=9.0)
        export_figures(run, folder, ["png"], look, ["english_against_mixed"], say=print)
        chart = min(
            folder.glob("*english_against_mixed*.png"), key=lambda path: len(path.name)
        )  # not the one at tokens
        shutil.copy(chart, PICTURES / "english-against-mixed.png")
        chromium = driver.chromium.launch(
            executable_path=browser(), args=["--no-sandbox", "--headless=new", "--disable-gpu"]
        )
        page = chromium.new_page(viewport={"width": 1200, "height": 820}, device_scale_factor=SCALE)
        atlas(page, folders.reports / run.name / "atlas.html")
        with jupyter_lab(folder, write_notebook(run), run.root) as address:
            explorer(chromium.new_page(viewport={"width": 1500, "height": 2400}, device_scale_factor=SCALE), address)
        chromium.close()
    for path in sorted(PICTURES.glob("*.png")):
        print(f"{path} ({path.stat().st_size / 1e3:.0f} kB)")


def atlas(page: Page, report: Path) -> None:
    """The top of the atlas, at the problem that it opens with."""
    page.goto(report.as_uri())
    page.wait_for_selector(".atlas .card")
    page.screenshot(path=PICTURES / "atlas.png")


def explorer(page: Page, address: str) -> None:
    """The explorer at the problem that it opens with."""
    page.set_default_timeout(300_000)
    page.goto(address)
    page.wait_for_function(
        "window.jupyterapp?.shell?.currentWidget?.context?.sessionContext?.session?.kernel?.status === 'idle'"
    )
    run_all(page)
    settled(page)
    page.locator(".bestofl-explorer").scroll_into_view_if_needed()
    box = page.locator(".bestofl-explorer").bounding_box()
    clip = {"x": box["x"], "y": box["y"], "width": box["width"], "height": min(box["height"], 1100)}
    page.screenshot(path=PICTURES / "explorer.png", clip=clip)


if __name__ == "__main__":
    main()
