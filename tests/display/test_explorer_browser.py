"""The explorer in a real browser: in JupyterLab, by mouse and keyboard, with hostile texts, with the network blocked."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest
from made_up_runs import write_run

from bestofl_lib.analysis import run_scan, what_if
from bestofl_lib.display.explorer.launch import write_notebook
from bestofl_lib.tables import SCHEMAS

pytestmark = pytest.mark.slow

RUN = "window.__pwned = (window.__pwned || 0) + 1"
PAYLOADS = [
    f"<script>{RUN}</script>", f"</script><script>{RUN}</script>", f"<img src=x onerror='{RUN}'>", f'"><img src=x onerror="{RUN}">',
    f"<svg onload='{RUN}'>", f"<svg><script>{RUN}</script></svg>", f"<svg><animate onbegin='{RUN}' attributeName=x dur=1s>",
    f"<body onload='{RUN}'>", f"<iframe srcdoc=\"<script>parent.{RUN.replace('window.', '')}</script>\"></iframe>",
    f"<iframe src='javascript:{RUN}'></iframe>", f"<a href='javascript:{RUN}'>x</a>", f"<details open ontoggle='{RUN}'>x</details>",
    f"<input autofocus onfocus='{RUN}'>", f"<video><source onerror='{RUN}'></video>", f"<math><mi href='javascript:{RUN}'>x</mi></math>",
    f"<math><mtext></mtext><mglyph><style><img src=x onerror='{RUN}'></style></mglyph></math>",
    f"<style>@import 'javascript:{RUN}';</style>", f"<style onload='{RUN}'></style>", f"<object data='javascript:{RUN}'></object>",
    f"<form action='javascript:{RUN}'><button autofocus>x</button></form>", f"<template><script>{RUN}</script></template>",
    f"<button data-commandlinker-command='notebook:run-all-cells' data-commandlinker-args='{{}}' onclick='{RUN}'>x</button>",
    "<a id=MathJax name=jupyterapp href=x>clobber</a>", "<base href='https://example.org/'>",
    "<meta http-equiv=refresh content='0;url=https://example.org/'>", "<link rel=stylesheet href='https://example.org/x.css'>",
    f"$\\href{{javascript:{RUN}}}{{x}}$", f"$$\\text{{<img src=x onerror='{RUN}'>}}$$", "\\(\\unicode{x3c}script\\unicode{x3e}\\)",
    "\\[\\require{html}\\style{background:url(https://example.org/p.png)}{x}\\]", f"[x](javascript:{RUN})", f"![x](x onerror={RUN})",
    f"```html\n<script>{RUN}</script>\n```", f"{{{{constructor.constructor('{RUN}')()}}}}", f"${{{RUN}}}", f"`;{RUN};`", f"';{RUN};//",
    "\x1b[31mred\x1b[0m\x1b]8;;https://example.org\x07link\x1b]8;;\x07", "\u202egnirts desrever\u202c \u2066x\u2069", f"&lt;script&gt;{RUN}&lt;/script&gt;",
]  # fmt: skip
HOSTILE = f"<img src=x onerror='{RUN}'>"


def test_enough_payloads_are_tried():
    assert len(set(PAYLOADS)) >= 30


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    hard = "lab-test-0000"
    texts = {(hard, "en", i): payload for i, payload in enumerate(PAYLOADS[:20])}
    texts |= {(hard, "sw", i): payload for i, payload in enumerate(PAYLOADS[20:])}
    questions = {(hard, "en"): PAYLOADS[0] + PAYLOADS[2], (hard, "th"): "\n".join(PAYLOADS)}
    made = write_run(
        tmp_path_factory.mktemp("runs"),
        n_problems=30,
        n=20,
        languages=("en", "sw", "th"),
        texts=texts,
        questions=questions,
        mono=False,
    )
    # a language, a rule, an answer, a note and a reward model with hostile names
    import polars as pl

    readings = made.read("readings")
    bad = pl.col("problem_id") == hard
    made.write("readings", readings.with_columns(
        rule=pl.when(bad).then(pl.lit(HOSTILE)).otherwise("rule"), note=pl.when(bad).then(pl.lit(HOSTILE)).otherwise("note"),
        answer=pl.when(bad & ~pl.col("is_correct") & pl.col("answer").is_not_null()).then(pl.lit(HOSTILE)).otherwise("answer"),
        trace_language=pl.when(bad).then(pl.lit(HOSTILE)).otherwise("trace_language"),
    ))  # fmt: skip
    rewards = made.read("rewards")
    other = rewards.filter(pl.col("reward_model") == "multi").with_columns(reward_model=pl.lit(HOSTILE))
    made.write("rewards", pl.concat([rewards, other]).select(list(SCHEMAS["rewards"])))
    return made


@contextlib.contextmanager
def jupyter_lab(folder: Path, notebook: Path, runs: Path):
    """JupyterLab's address for one notebook, on a free loopback port, with all its folders in `folder`."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    places = {f"JUPYTER_{name}_DIR": str(folder / name.lower()) for name in ("CONFIG", "DATA", "RUNTIME")}
    environment = os.environ | places | {"IPYTHONDIR": str(folder / "ipython"), "BESTOFL_RUNS": str(runs)}
    command = [
        sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", "--ip=127.0.0.1", f"--port={port}", "--ServerApp.port_retries=0",
        "--IdentityProvider.token=secret", "--LabApp.expose_app_in_browser=True", f"--ServerApp.root_dir={notebook.parent}",
    ]  # fmt: skip
    with (folder / "log").open("wb") as log:
        server = subprocess.Popen(
            command, env=environment, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
        )
    try:
        for _ in range(600):
            with contextlib.suppress(OSError):
                urllib.request.urlopen(f"http://127.0.0.1:{port}/api/status?token=secret", timeout=5).close()
                break
            if server.poll() is not None:
                raise RuntimeError(f"JupyterLab ended with {server.returncode}: {(folder / 'log').read_text()[-2000:]}")
            time.sleep(0.2)
        yield f"http://127.0.0.1:{port}/lab/tree/{notebook.name}?token=secret&reset"
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        try:
            server.wait(10)
        except subprocess.TimeoutExpired:
            os.killpg(server.pid, signal.SIGKILL)
            server.wait(10)


@pytest.fixture(scope="module")
def page(browser, run, tmp_path_factory):
    """The explorer's notebook in JupyterLab, all its cells run; `page.outside` are the requests that were blocked."""
    folder = tmp_path_factory.mktemp("jupyter")
    notebook = write_notebook(run)
    with jupyter_lab(folder, notebook, run.root) as address:
        page = browser.new_page(viewport={"width": 1400, "height": 1200})
        page.outside, page.errors = [], []

        def guard(route):
            inside = route.request.url.startswith(("http://127.0.0.1:", "data:", "blob:"))
            if inside:
                route.continue_()
            else:
                page.outside.append(route.request.url)
                route.abort()

        page.route("**/*", guard)
        page.on("pageerror", lambda error: page.errors.append(str(error)))
        page.set_default_timeout(180_000)
        page.goto(address)
        page.wait_for_function(
            "window.jupyterapp?.shell?.currentWidget?.context?.sessionContext?.session?.kernel?.status === 'idle'"
        )
        run_all(page)
        yield page
        page.close()


def run_all(page) -> None:
    page.evaluate(
        "() => { window.__ran = false; jupyterapp.commands.execute('notebook:run-all-cells').then(() => { window.__ran = true; }); }"
    )
    page.wait_for_function("window.__ran")
    page.wait_for_selector(".bestofl-explorer .card")


def settled(page) -> None:
    page.wait_for_function("document.querySelector('.bestofl-explorer').dataset.busy === 'false'")


def opened(page, place: int, language: int) -> None:
    """Click the atlas: column `place`, row `language`."""
    box = page.locator(".bestofl-explorer canvas")
    count = page.evaluate("() => document.querySelector('.bestofl-explorer canvas').getBoundingClientRect().width")
    box.click(position={"x": (place + 0.5) * count / 30, "y": 19 * language + 9})
    settled(page)


def test_a_click_on_the_atlas_opens_that_problem_with_its_numbers(page, run):
    source = run_scan.open_run(run)
    order = run_scan.choose_problems(run_scan.describe_problems(source.cells))
    opened(page, 7, 1)
    assert page.locator(".problem h3").text_content() == order[7]
    table = run_scan.candidates_of(source, order[7])
    for code in source.languages:
        rows = table.filter(table["language"] == code)
        said = page.locator(f".column[data-language='{code}'] .summary").text_content()
        assert said.startswith(f"{int(rows['is_correct'].sum())} of 20 correct")
    assert page.locator(".card").count() == 60
    assert page.locator(".card mark").first.is_visible()


def test_a_key_judges_the_reading_of_the_focused_candidate(page, run):
    card = page.locator(".card").first
    name = card.get_attribute("data-card")
    problem = page.locator(".problem h3").text_content()
    for key, right in (("y", True), ("n", False)):
        page.locator(f".card[data-card='{name}']").focus()
        page.keyboard.press(key)
        page.wait_for_selector(
            f".card[data-card='{name}'] [aria-pressed=true][data-focus^={'right' if right else 'misread'}]"
        )
        settled(page)
        labels = run.read("labels").filter(problem_id=problem)
        assert (
            labels["is_right"].to_list() == [right] and name == f"{labels['language'][0]}-{labels['sample_index'][0]}"
        )
    assert "judged by hand: 0 of 1 reading right" in page.locator(".problem .head").inner_text()


def test_a_setting_and_its_chart_are_offered_as_files(page):
    page.locator("#tab-what-if").click()
    page.wait_for_selector(".figure b")
    settled(page)
    for button, ending, content in (
        ("save this setting", "-setting.yaml", "strategy:"),
        ("save the chart", "-what-if.svg", "<svg"),
    ):
        with page.expect_download() as waiting:
            page.locator(".what-if button", has_text=button).click()
        assert waiting.value.suggested_filename.endswith(ending)
        assert content in Path(waiting.value.path()).read_text("utf8")
    page.locator("#tab-problem").click()
    settled(page)


def test_the_atlas_is_worked_by_keys_alone(page, run):
    source = run_scan.open_run(run)
    order = run_scan.choose_problems(run_scan.describe_problems(source.cells))
    page.locator(".bestofl-explorer .grid").focus()
    page.keyboard.press("Home")
    for _ in range(3):
        page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowUp")
    assert page.locator(".detail").text_content().startswith(order[3])
    page.keyboard.press("Enter")
    page.wait_for_function(f"document.querySelector('.problem h3').textContent === {order[3]!r}")


def test_a_moved_slider_shows_the_library_s_figure_and_outlives_a_rerun(page, run):
    page.locator("#tab-what-if").focus()
    page.keyboard.press("Enter")
    page.wait_for_selector(".figure b")
    slider = page.locator("input[data-share='sw']")
    slider.focus()
    for _ in range(2):
        settled(page)
        page.keyboard.press("ArrowRight")
    page.wait_for_function("document.querySelector('.equal').disabled === false")
    settled(page)
    given = {code: int(page.locator(f"input[data-share='{code}']").input_value()) for code in ("en", "sw", "th")}
    assert sum(given.values()) == 8 and given["sw"] >= 4
    setting = what_if.Setting(("en", "sw", "th"), 8, given, "best_of_k", "cross")
    exact = what_if.what_if(what_if.Numbers(run_scan.open_run(run)), setting)["accuracy"]
    shown = float(page.locator(".figure b").get_attribute("data-accuracy"))
    assert shown == pytest.approx(exact)
    run_all_again = "() => document.querySelector('.bestofl-explorer').dataset.old = 'yes'"
    page.evaluate(run_all_again)
    page.evaluate(
        "() => { window.__ran = false; jupyterapp.commands.execute('notebook:run-all-cells').then(() => { window.__ran = true; }); }"
    )
    page.wait_for_function(
        "window.__ran && !document.querySelector('.bestofl-explorer[data-old]') && document.querySelector('.figure b')"
    )
    assert float(page.locator(".figure b").get_attribute("data-accuracy")) == pytest.approx(exact)


def test_nothing_that_a_model_wrote_ever_runs(page, run):
    source = run_scan.open_run(run)
    place = run_scan.choose_problems(run_scan.describe_problems(source.cells)).index("lab-test-0000")
    opened(page, place, 0)
    assert page.locator(".problem h3").text_content() == "lab-test-0000"
    for fold in page.locator(".fold:visible").all():
        fold.click()
    page.evaluate("() => document.querySelectorAll('.bestofl-explorer details').forEach((d) => { d.open = true; })")
    page.wait_for_timeout(500)
    text = page.locator(".board").text_content()
    for payload in (PAYLOADS[0], PAYLOADS[2], PAYLOADS[21]):
        assert payload in text
    inside = "img, script, iframe, object, embed, link, meta, base, style, form, svg, a, video, input, [onerror], [onload], [href], [src], [data-commandlinker-command]"
    assert (
        page.evaluate(
            "(inside) => [...document.querySelectorAll('.board *')].filter((n) => n.matches(inside)).length", inside
        )
        == 0
    )
    assert page.evaluate("window.__pwned") is None
    assert page.outside == []
    assert page.errors == []
