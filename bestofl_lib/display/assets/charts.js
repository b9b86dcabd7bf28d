// Draws every chart of a page from the specification that stands beside it, and offers its data as CSV.
// Needs window.vegaEmbed. Makes no request. Text from a table is only ever set as text.
(function () {
  "use strict";
  if (window.bestofl) return;

  // Charts are written for a wide page: on a narrow one, fewer panels stand side by side and single panels shrink.
  function fit(spec, width) {
    if (!width) return spec;
    const inner = spec.facet ? spec.spec : spec;
    const margin = (spec.usermeta && spec.usermeta.margin) || 150;
    if (spec.facet && spec.columns) {
      const panel = (typeof inner.width === "number" ? inner.width : 200) + 26;
      spec.columns = Math.max(1, Math.min(spec.columns, Math.floor((width - 60) / panel)));
      if (spec.columns === 1) inner.width = Math.max(180, Math.min(360, width - 80));
    } else if (spec.hconcat) {
      const total = spec.hconcat.reduce((sum, part) => sum + part.width, 0);
      const factor = Math.min(1, (width - 130) / total);
      for (const part of spec.hconcat) part.width = Math.max(60, Math.floor(part.width * factor));
    } else if (spec.width && spec.width.step) {
      const x = ((spec.layer || [spec])[0].encoding || {}).x || {};
      const columns = new Set(rows(spec).map((row) => row[x.field])).size || 1;
      spec.width.step = Math.max(22, Math.min(spec.width.step, Math.floor((width - 100) / columns)));
    } else if (typeof spec.width === "number") {
      spec.width = Math.max(170, Math.min(spec.width, width - margin));
    }
    const narrow = width < 520;
    if (narrow) {
      spec.config = spec.config || {};
      spec.config.legend = Object.assign({}, spec.config.legend, { orient: "bottom", columns: 1, labelLimit: width - 60 });
    }
    return spec;
  }

  function rows(spec) {
    const sets = Object.values(spec.datasets || {});
    if (spec.data && Array.isArray(spec.data.values)) sets.push(spec.data.values);
    return sets.filter(Array.isArray).sort((a, b) => b.length - a.length)[0] || [];
  }

  function cell(value) {
    if (value === null || value === undefined) return "";
    let text = String(value);
    if (typeof value === "string" && /^[=+\-@\t\r]/.test(text)) text = "'" + text; // no formula for a spreadsheet
    return /[",\n\r]/.test(text) ? '"' + text.replace(/"/g, '""') + '"' : text;
  }

  function csv(table) {
    const columns = table.length ? Object.keys(table[0]) : [];
    return [columns.map(cell).join(",")].concat(table.map((row) => columns.map((c) => cell(row[c])).join(","))).join("\r\n") + "\r\n";
  }

  function save(name, type, text) {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([text], { type: type }));
    link.download = name;
    document.body.appendChild(link);
    link.click();
    link.remove();
    setTimeout(() => URL.revokeObjectURL(link.href), 10000);
  }

  function button(label, hint, act) {
    const made = document.createElement("button");
    made.type = "button";
    made.textContent = label;
    made.title = hint;
    made.addEventListener("click", act);
    return made;
  }

  function specOf(figure) {
    return JSON.parse(figure.querySelector('script[type="application/json"]').textContent);
  }

  async function draw(figure) {
    if (typeof figure === "string") figure = document.getElementById(figure);
    if (!figure) return;
    for (let waited = 0; !window.vegaEmbed && waited < 100; waited += 1) await new Promise((go) => setTimeout(go, 100));
    const holder = figure.querySelector(".bestofl-holder");
    const spec = specOf(figure);
    const table = rows(spec);
    const name = (spec.usermeta && spec.usermeta.name) || "chart";
    delete spec.title; // it is the caption
    const width = figure.clientWidth;
    try {
      const result = await window.vegaEmbed(holder, fit(spec, width), { renderer: "svg", actions: false });
      // Vega calls groups of lines pictures and gives them no name: they are ornament, the marks inside have names.
      for (const group of holder.querySelectorAll('[role="graphics-symbol"]:not([aria-label])')) {
        group.removeAttribute("role");
        group.removeAttribute("aria-roledescription");
      }
      figure.dataset.drawn = "yes";
      holder.tabIndex = holder.scrollWidth > holder.clientWidth ? 0 : -1;
      let tools = figure.querySelector(".bestofl-tools");
      if (tools) tools.remove();
      tools = document.createElement("div");
      tools.className = "bestofl-tools";
      tools.appendChild(button("CSV", "the data of this chart, " + table.length + " rows", () => save(name + ".csv", "text/csv", "\ufeff" + csv(table))));
      tools.appendChild(button("SVG", "this chart as a picture", async () => save(name + ".svg", "image/svg+xml", await result.view.toSVG())));
      figure.appendChild(tools);
      figure.dataset.width = width;
    } catch (error) {
      figure.dataset.drawn = "no";
      holder.textContent = "This chart could not be drawn: " + error.message;
      throw error;
    }
  }

  async function drawAll() {
    for (const figure of document.querySelectorAll("figure.bestofl-chart")) {
      try { await draw(figure); } catch (error) { console.error(figure.id + ": " + error.message); } // the others go on
    }
    document.documentElement.dataset.charts = "drawn";
  }

  window.bestofl = { draw: draw, drawAll: drawAll, csv: csv, rows: rows };
})();
