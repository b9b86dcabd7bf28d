"""Charts as pieces of HTML: inert, complete, found again."""

from __future__ import annotations

import json
import re

import nbformat
import pytest

from bestofl_lib.display import embed

NASTY = "</script><script>window.PWN=1</script><!-- \u2028\u2029 &lt; <img src=x onerror=alert(1)>"


def test_nothing_in_embedded_json_can_end_its_script():
    text = embed.inert_json({NASTY: [NASTY]})
    assert not re.search("[<>&\u2028\u2029]", text)
    assert json.loads(text) == {NASTY: [NASTY]}


def test_a_number_that_json_does_not_know_is_refused():
    with pytest.raises(ValueError):
        embed.inert_json({"accuracy": float("nan")})


def test_a_block_holds_caption_specification_and_a_note_for_readers_without_scripts():
    block = embed.chart_block({"title": {"text": NASTY, "subtitle": ["one", "two"]}, "mark": "bar"})
    assert block.count("<script") == 2 and block.count("</script>") == 2
    assert "&lt;/script&gt;" in block and "<span>one two</span>" in block
    assert "trust this notebook" in block
    assert "draw(" not in embed.chart_block({"mark": "bar"}, draw=False)


def test_two_charts_of_the_same_data_have_names_of_their_own():
    names = [re.search('id="([^"]+)"', embed.chart_block({"mark": "bar"})).group(1) for _ in range(2)]
    assert names[0] != names[1]


def test_a_chart_is_found_again_in_an_executed_notebook():
    data, metadata = embed._render({"mark": "bar", "usermeta": {"name": "a"}, "title": NASTY})
    output = nbformat.v4.new_output("display_data", data=data, metadata=metadata)
    other = nbformat.v4.new_output("display_data", data={"text/html": "<b>x</b>"})
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("x", outputs=[other, output])])
    assert [spec["title"] for spec in embed.chart_specs(notebook)] == [
        NASTY.replace("\u2028", " ").replace("\u2029", " ")
    ]


def test_the_chart_library_is_one_script_kept_in_the_cache(tmp_path, monkeypatch):
    vl_convert = pytest.importorskip("vl_convert")
    built = []
    monkeypatch.setattr(vl_convert, "javascript_bundle", lambda **_: built.append(1) or "window.vegaEmbed = 1;")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert embed.chart_library() == embed.chart_library() == "(function () {\nwindow.vegaEmbed = 1;\n})();\n"
    assert built == [1]


def test_charts_are_switched_on_with_one_call(monkeypatch):
    import altair

    shown = []
    monkeypatch.setattr("IPython.display.display", lambda data, **more: shown.append((data, more)))
    monkeypatch.setattr(embed, "chart_library", lambda: "window.vegaEmbed = '</script>';")
    before = altair.renderers.active
    try:
        embed.enable_display()
        assert altair.renderers.active == "bestofl"
    finally:
        altair.renderers.enable(before)
    [(data, more)] = shown
    assert more["metadata"] == {"bestofl": "setup"} and data["text/html"].count("</script>") == 1
