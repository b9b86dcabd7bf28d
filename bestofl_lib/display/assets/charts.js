// Draws every chart of a page from the specification that stands beside it, and offers its data as CSV.
// Needs window.vegaEmbed. Makes no request. Text from a table is only ever set as text.
(function () {
  "use strict";
  if (window.bestofl) return;

  // A chart fills its page: one plot is fitted with its labels; panels are set side by side as far as there is room.
  function fit(spec, width) {
    if (!width) return spec;
    const room = (spec.usermeta && spec.usermeta.room) || 60;
    if (spec.concat) {
      const most = Math.max.apply(null, spec.concat.map((panel) => panel.width));
      const gap = spec.spacing || 20;
      spec.columns = Math.max(1, Math.min(spec.columns || 3, spec.concat.length, Math.floor((width + gap) / (0.72 * most + room + gap))));
      const wide = Math.floor((width - gap * (spec.columns - 1)) / spec.columns) - room;
      for (const panel of spec.concat) panel.width = Math.max(90, Math.min(wide, 2 * most));
    } else if (spec.width && spec.width.step) {
      const x = ((spec.layer || [spec])[0].encoding || {}).x || {};
      const columns = new Set(rows(spec).map((row) => row[x.field])).size || 1;
      spec.width.step = Math.max(34, Math.min(64, Math.floor((width - 110) / columns)));
    } else if (typeof spec.width === "number") {
      spec.width = Math.min(width, Math.max(spec.width * 1.4, 420));
      if (spec.height && spec.height.step) spec.height = stepped(spec);
      spec.autosize = { type: "fit-x", contains: "padding" };
    }
    if (width < 520) {
      spec.config = spec.config || {};
      spec.config.legend = Object.assign({}, spec.config.legend, { orient: "bottom", columns: 1, labelLimit: width - 60 });
    }
    return spec;
  }

  // Pixels of a plot with one step per row: Vega fits a width only beside a height in pixels.
  function stepped(spec) {
    const encodings = (spec.layer || [spec]).map((layer) => layer.encoding || {});
    const count = (channel) => {
      const fields = new Set(encodings.filter((encoding) => encoding[channel] && encoding[channel].field).map((encoding) => encoding[channel].field));
      const values = new Set();
      for (const table of Object.values(spec.datasets || {})) for (const row of table) for (const field of fields) if (field in row) values.add(row[field]);
      return Math.max(1, values.size);
    };
    const beside = count("yOffset");
    return spec.height.step * count("y") * (beside > 1 ? 1.25 * beside : 1);
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
    const title = spec.title; // on the page it is the caption
    delete spec.title;
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
      tools.appendChild(button("SVG", "this chart as a picture", async () => save(name + ".svg", "image/svg+xml", await whole(figure, title))));
      figure.appendChild(tools);
      const source = spec.usermeta && spec.usermeta.source;
      if (source && !figure.querySelector(".bestofl-source")) figure.insertBefore(document.createElement("p"), tools).className = "bestofl-source";
      if (source) figure.querySelector(".bestofl-source").textContent = source;
      figure.dataset.width = width;
    } catch (error) {
      figure.dataset.drawn = "no";
      holder.textContent = "This chart could not be drawn: " + error.message;
      throw error;
    }
  }

  // The picture alone, with its title and its source in it: what is saved.
  async function whole(figure, title) {
    const spec = specOf(figure);
    const source = spec.usermeta && spec.usermeta.source;
    spec.background = "white";
    spec.padding = { left: 8, right: 12, top: 8, bottom: source ? 30 : 8 };
    spec.title = wrapped(title, 95);
    const holder = document.createElement("div");
    holder.style.cssText = "position:absolute;left:-9999px;top:0;color:#1d2126";
    document.body.appendChild(holder);
    try {
      const result = await window.vegaEmbed(holder, spec, { renderer: "svg", actions: false });
      const text = await result.view.toSVG();
      result.finalize();
      return withSource(text.replaceAll("currentColor", "#1d2126"), source);
    } finally {
      holder.remove();
    }
  }

  function wrapped(title, most) {
    if (!title || !title.subtitle || Array.isArray(title.subtitle)) return title;
    const lines = [""];
    for (const word of title.subtitle.split(" ")) {
      if ((lines[lines.length - 1] + " " + word).length > most) lines.push(word);
      else lines[lines.length - 1] = (lines[lines.length - 1] + " " + word).trim();
    }
    return Object.assign({}, title, { subtitle: lines });
  }

  function withSource(text, source) {
    if (!source) return text;
    const page = new DOMParser().parseFromString(text, "image/svg+xml");
    const root = page.documentElement;
    const [, , width, height] = root.getAttribute("viewBox").split(" ").map(Number);
    const line = page.createElementNS("http://www.w3.org/2000/svg", "text");
    for (const [key, value] of Object.entries({ x: 8, y: height - 9, fill: "#545c66", "font-size": 12, "font-family": "system-ui, sans-serif" })) line.setAttribute(key, value);
    line.textContent = source;
    root.appendChild(line);
    return new XMLSerializer().serializeToString(page);
  }

  async function drawAll() {
    for (const figure of document.querySelectorAll("figure.bestofl-chart")) {
      try { await draw(figure); } catch (error) { console.error(figure.id + ": " + error.message); } // the others go on
    }
    document.documentElement.dataset.charts = "drawn";
  }

  window.bestofl = { draw: draw, drawAll: drawAll, csv: csv, rows: rows };
})();
