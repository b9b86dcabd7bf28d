"""Charts where they are not usually seen: printed, in Firefox, in a notebook that is not trusted; never with a network."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import time

import pytest
from producers import write_executed
from test_explorer_browser import jupyter_lab

from bestofl_lib.display import charts, embed
from bestofl_lib.display.report.build import build_report, mark_unfinished
from bestofl_lib.runs import Run

pytestmark = pytest.mark.slow
FIREFOX = shutil.which("firefox") or shutil.which("firefox-esr")
NO_NETWORK = {
    "network.proxy.type": 1, "network.proxy.http": "127.0.0.1", "network.proxy.http_port": 9, "network.proxy.ssl": "127.0.0.1",
    "network.proxy.ssl_port": 9, "network.proxy.allow_hijacking_localhost": True,
}  # fmt: skip
CHARTS = """[...document.querySelectorAll('.bestofl-chart')].map(f => {
    const box = f.querySelector('svg').getBoundingClientRect();
    return [f.dataset.drawn, f.querySelectorAll('svg .mark-text, svg path').length, box.width, box.height]; })"""


@pytest.fixture(scope="module")
def report(tmp_path_factory, tables):
    """A report whose page 01_all_charts shows every chart, from its real table."""
    folder = tmp_path_factory.mktemp("elsewhere")
    run = Run("tiny", folder / "runs")
    made = [embed._render(getattr(charts, name)(tables[name]).to_dict()) for name in charts.__all__]
    write_executed(run, "01_all_charts", made)
    states = {"01_all_charts": ("up to date", "")}
    return build_report(run, folder / "reports" / "tiny", title="All charts", states=states).parent


def test_every_chart_is_printed_whole_and_nothing_is_asked_for(opened, report):
    page, asked, said = opened(report / "01_all_charts.html", 1000, "dark")
    before = len(asked)
    page.emulate_media(media="print")
    page.set_viewport_size({"width": 695, "height": 1000})  # A4 without its margins
    drawn = page.evaluate(CHARTS)
    assert len(drawn) == len(charts.__all__)
    assert all(
        state == "yes" and marks > 3 and 200 < width <= 700 and height > 50 for state, marks, width, height in drawn
    )
    assert page.locator(".bestofl-tools:visible").count() == 0
    pdf = page.pdf(format="A4")
    assert pdf.startswith(b"%PDF") and pdf.count(b"/Type /Page\n") > len(charts.__all__) // 4
    assert (asked[before:], said) == ([], [])


def test_pages_of_an_unfinished_run_say_so_in_words(opened, report):
    said = "These pages may be older than their run: 01_all_charts was started"
    place = "(() => [document.querySelector('h1').getBoundingClientRect().top, getComputedStyle(document.documentElement, '::before').content])()"
    before, _ = opened(report / "01_all_charts.html")[0].evaluate(place)
    mark_unfinished(report, said)
    try:
        after, content = opened(report / "01_all_charts.html")[0].evaluate(place)
    finally:
        (report / "assets" / "state.js").write_text("")
    assert content == f'"{said}"' and after > before + 40  # a line of text in a frame


class Marionette:
    """Firefox's own protocol for remote control: JSON behind its length, over a local socket."""

    def __init__(self, port: int):
        for _ in range(300):
            try:
                self._socket = socket.create_connection(("127.0.0.1", port), timeout=120)
                break
            except OSError:
                time.sleep(0.2)
        self._read()  # its greeting
        self.call("WebDriver:NewSession", capabilities={})

    def call(self, command: str, **arguments):
        message = json.dumps([0, 1, command, arguments]).encode()
        self._socket.sendall(b"%d:%s" % (len(message), message))
        _, _, error, answer = self._read()
        assert error is None, error
        return answer.get("value", answer)

    def ask(self, script: str):
        return self.call("WebDriver:ExecuteScript", script=f"return {script}", args=[])

    def _read(self) -> list:
        length = data = b""
        while (byte := self._socket.recv(1)) != b":":
            assert byte, "Firefox ended"
            length += byte
        while len(data) < int(length):
            data += self._socket.recv(int(length) - len(data))
        return json.loads(data)


@pytest.fixture
def firefox(tmp_path):
    if FIREFOX is None:
        pytest.skip("no Firefox on this machine (Debian: apt-get install firefox-esr)")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    profile = tmp_path / "profile"
    profile.mkdir()
    lines = [f"user_pref({json.dumps(name)}, {json.dumps(value)});\n" for name, value in NO_NETWORK.items()]
    (profile / "user.js").write_text("".join([*lines, f'user_pref("marionette.port", {port});\n']))
    command = [FIREFOX, "--headless", "--marionette", "--no-remote", "--profile", str(profile), "about:blank"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield Marionette(port)
    finally:
        process.kill()
        process.wait()


def test_every_chart_is_drawn_in_firefox_and_nothing_is_asked_for(firefox, report):
    firefox.call("WebDriver:Navigate", url=(report / "01_all_charts.html").as_uri())
    end = time.monotonic() + 120
    while firefox.ask("document.documentElement.dataset.charts") != "drawn" and time.monotonic() < end:
        time.sleep(0.2)
    drawn = firefox.ask(CHARTS)
    assert len(drawn) == len(charts.__all__)
    assert all(state == "yes" and marks > 3 and width > 200 and height > 50 for state, marks, width, height in drawn)
    asked = firefox.ask("performance.getEntriesByType('resource').map(e => e.name)")
    assert all(url.startswith((report.as_uri(), "data:")) for url in asked)


def test_a_notebook_that_is_not_trusted_says_in_place_of_each_chart_how_to_see_it(browser, tmp_path, tables):
    run = Run("tiny", tmp_path / "runs")
    chart = charts.budget_curves(tables["budget_curves"])
    path = write_executed(run, "08_budget_curves", [embed._render(chart.to_dict())])
    with jupyter_lab(tmp_path, path, run.root) as address:
        page = browser.new_page()
        page.goto(address)
        page.wait_for_selector(".bestofl-fallback", timeout=180_000)
        said = page.locator(".bestofl-chart").inner_text()
        assert "open the HTML report, or trust this notebook" in said
        assert json.dumps(chart.to_dict()["title"]["text"])[1:20] in json.dumps(said)
        assert page.locator(".bestofl-fallback").bounding_box()["height"] > 10
        assert page.locator(".bestofl-chart svg").count() == 0 and page.evaluate("window.bestofl") is None
        page.close()
