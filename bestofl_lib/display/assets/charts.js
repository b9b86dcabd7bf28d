// Draws every chart of a page from the specification that stands beside it, and offers its data as CSV.
// Needs window.vegaEmbed. Makes no request. Text from a table is only ever set as text.
(function () {
  "use strict";
  if (window.bestofl) return;

  const INSIDE = ["#ffffff", "#1d2126"]; // ink of labels on a cell or a bar; all others stand on the page and have its colour around them
  const LONG = 18; // letters of a name of a row that a phone has room for on one line

  // A chart fills its page: one plot is fitted with its labels; panels are set side by side as far as there is room.
  function fit(spec, width) {
    if (!width) return spec;
    const room = (spec.usermeta && spec.usermeta.room) || 60;
    if (width < 520) {
      spec.config = spec.config || {};
      spec.config.legend = Object.assign({}, spec.config.legend, { columns: 1, labelLimit: width - 60, layout: { top: { anchor: "start", bounds: "full" } } });
      shorten(spec);
      narrow(spec);
    }
    if (spec.concat) {
      const plots = spec.concat.flatMap((panel) => panel.vconcat || [panel]);
      const most = Math.max.apply(null, plots.map((plot) => plot.width));
      const gap = spec.spacing || 20;
      spec.columns = Math.max(1, Math.min(spec.columns || 3, spec.concat.length, Math.floor((width + gap) / (0.72 * most + room + gap))));
      const wide = Math.floor((width - gap * (spec.columns - 1)) / spec.columns) - room;
      for (const plot of plots) plot.width = Math.max(70, Math.min(wide, 4 * most));
    } else if (spec.width && spec.width.step) {
      const x = ((spec.layer || [spec])[0].encoding || {}).x || {};
      const columns = new Set(rows(spec).map((row) => row[x.field])).size || 1;
      const y = ((spec.layer || [spec])[0].encoding || {}).y || {};
      const named = Math.max(0, ...rows(spec).map((row) => String(row[y.field] || "").length)); // letters of the longest name of a row
      spec.width.step = Math.max(21, Math.min(120, Math.floor((width - 42 - 6.6 * named) / columns)));
      if (spec.width.step < 44) shorten(spec);
    } else if (typeof spec.width === "number") {
      spec.width = width;
      if (spec.height && spec.height.step) spec.height = stepped(spec);
      spec.autosize = { type: "fit-x", contains: "padding" };
      if (spec.usermeta && spec.usermeta.room) spec.padding = { left: 4, top: 4, bottom: 4, right: 34 }; // fitting takes labels into account, but only once
    }
    return spec;
  }

  // Every layer of a chart, with the name of its table.
  function layers(spec, name) {
    const here = (spec.data && spec.data.name) || name;
    const inner = [].concat(spec.layer || [], spec.concat || [], spec.vconcat || []);
    return (spec.encoding ? [[spec, here]] : []).concat(inner.flatMap((part) => layers(part, here)));
  }

  // Where space is short a table's column `short` is printed, if it has one.
  function shorten(spec) {
    for (const [layer, name] of layers(spec)) {
      const table = (spec.datasets || {})[name] || [];
      if (layer.encoding.text && layer.encoding.text.field && table.length && "short" in table[0]) layer.encoding.text.field = "short";
    }
  }

  // On a phone: fewer ticks, and long names of rows on two lines.
  function narrow(spec) {
    for (const [layer, name] of layers(spec)) {
      const x = layer.encoding.x, y = layer.encoding.y, table = (spec.datasets || {})[name] || [];
      if (x && x.type === "quantitative" && x.axis && !x.axis.values) x.axis.tickCount = Math.min(x.axis.tickCount || 4, 4);
      if (!y || y.type !== "nominal" || !table.some((row) => String(row[y.field]).length > LONG && /, /.test(row[y.field]))) continue;
      y.axis = Object.assign({}, y.axis, { labelExpr: "length(datum.label) > " + LONG + " ? split(datum.label, ', ') : datum.label", labelLimit: 190 });
      for (const part of [spec].concat(spec.concat || [])) if (part.height && part.height.step) part.height.step = Math.max(part.height.step, 34);
    }
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

  // The rows behind a chart: its largest table, joined with those of the other panels, which have the same columns.
  function rows(spec) {
    const sets = Object.values(spec.datasets || {}).filter(Array.isArray);
    if (spec.data && Array.isArray(spec.data.values)) sets.push(spec.data.values);
    const columns = (table) => Object.keys(table[0] || {}).join("\n");
    const largest = sets.slice().sort((a, b) => b.length - a.length)[0] || [];
    return sets.filter((table) => columns(table) === columns(largest)).flat();
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
    delete spec.title; // on the page it is the caption
    const width = figure.clientWidth;
    try {
      const result = await window.vegaEmbed(holder, fit(spec, width), { renderer: "svg", actions: false });
      // Vega calls groups of lines pictures and gives them no name: they are ornament, the marks inside have names.
      for (const group of holder.querySelectorAll('[role="graphics-symbol"]:not([aria-label])')) {
        group.removeAttribute("role");
        group.removeAttribute("aria-roledescription");
      }
      figure.dataset.drawn = "yes";
      const opens = linked(result.view, holder, table);
      holder.tabIndex = holder.scrollWidth > holder.clientWidth ? 0 : -1;
      let tools = figure.querySelector(".bestofl-tools");
      if (tools) tools.remove();
      tools = document.createElement("div");
      tools.className = "bestofl-tools";
      tools.appendChild(button("CSV", "the data of this chart, " + table.length + " rows", () => save(name + ".csv", "text/csv", "\ufeff" + csv(table))));
      tools.appendChild(button("SVG", "this chart as a picture", async () => save(name + ".svg", "image/svg+xml", await picture(figure))));
      if (opens) tools.appendChild(document.createElement("span")).textContent = "Choose a point: the problems behind it open.";
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

  // A point that carries a setting opens the page that answers back, where the report has one. Whether it does.
  function linked(view, holder, table) {
    const page = Array.from(document.querySelectorAll("header.top nav a")).find((link) => /whatif/.test(link.getAttribute("href")));
    if (!page || !table.some((row) => row.setting)) return false;
    const address = page.getAttribute("href");
    const setting = (item) => item && item.mark.marktype === "symbol" && item.datum && item.datum.setting;
    view.addEventListener("mouseover", (event, item) => { holder.style.cursor = setting(item) ? "pointer" : ""; });
    view.addEventListener("click", (event, item) => {
      if (setting(item)) window.location.href = address + (address.includes("#") ? "/" : "#") + item.datum.setting;
    });
    return true;
  }

  // The picture alone as SVG text, with its title and its source in it: what is saved, and what papers get.
  // options: width in pixels (otherwise as written), font, title (false: none).
  async function picture(figure, options) {
    const wanted = options || {};
    const spec = wanted.width ? fit(specOf(figure), wanted.width - 20) : specOf(figure);
    const source = spec.usermeta && spec.usermeta.source;
    if (wanted.width && typeof spec.width === "number") spec.width = wanted.width - 20;
    if (wanted.font) spec.config = Object.assign({}, spec.config, { font: wanted.font });
    spec.background = "white";
    const beside = spec.padding && spec.padding.right ? spec.padding.right : 12;
    spec.padding = { left: 8, right: beside, top: 8, bottom: 8 + 20 * sourceLines(source, wanted.width || 1000).length };
    if (wanted.title === false) delete spec.title;
    else spec.title = wrapped(spec.title, wanted.width ? wanted.width / 6.6 : 100);
    const holder = document.createElement("div");
    holder.style.cssText = "position:absolute;left:-9999px;top:0;color:#1d2126";
    document.body.appendChild(holder);
    try {
      const result = await window.vegaEmbed(holder, spec, { renderer: "svg", actions: false });
      const text = await result.view.toSVG();
      result.finalize();
      return withSource(text, source, wanted);
    } finally {
      holder.remove();
    }
  }

  function wrapped(title, most) {
    if (!title) return title;
    const parts = typeof title === "string" || Array.isArray(title) ? { text: title } : title;
    const lines = (text, width) => {
      const found = [""];
      for (const word of [].concat(text || "").join(" ").split(" ")) {
        if ((found[found.length - 1] + " " + word).length > width) found.push(word);
        else found[found.length - 1] = (found[found.length - 1] + " " + word).trim();
      }
      return found;
    };
    return Object.assign({}, parts, { text: lines(parts.text, most * 0.78), subtitle: lines(parts.subtitle, most) });
  }

  // With its source as last line; a picture that is wider than asked for is made smaller as a whole.
  function withSource(text, source, wanted) {
    const page = new DOMParser().parseFromString(text, "image/svg+xml");
    const root = page.documentElement;
    for (const label of root.querySelectorAll(".mark-text text")) {
      if (INSIDE.includes(label.getAttribute("fill"))) continue; // written on a cell or a bar
      for (const [key, value] of Object.entries({ "paint-order": "stroke", stroke: "white", "stroke-width": 3, "stroke-linejoin": "round" })) label.setAttribute(key, value);
    }
    const [, , width, height] = root.getAttribute("viewBox").split(" ").map(Number);
    if (wanted.width && width > wanted.width) {
      root.setAttribute("width", wanted.width);
      root.setAttribute("height", (height * wanted.width) / width);
    }
    const told = sourceLines(source, width);
    for (const [place, part] of told.entries()) root.appendChild(sourceLine(page, part, height - 9 - 18 * (told.length - 1 - place), wanted.font));
    return new XMLSerializer().serializeToString(page).replaceAll("currentColor", "#1d2126");
  }

  function sourceLines(source, width) {
    const found = [];
    for (const part of source ? source.split(" · ") : []) {
      if (found.length && (found[found.length - 1] + part).length * 6.9 < width - 24) found[found.length - 1] += " · " + part;
      else found.push(part);
    }
    return found;
  }

  function sourceLine(page, text, y, font) {
    const line = page.createElementNS("http://www.w3.org/2000/svg", "text");
    for (const [key, value] of Object.entries({ x: 8, y: y, fill: "#545c66", "font-size": 12, "font-family": font || "system-ui, sans-serif" })) line.setAttribute(key, value);
    line.textContent = text;
    return line;
  }

  // The browser shows what is drawn before the next chart is worked out; a page in the background has no frames to wait for.
  const shown = () => new Promise((go) => { requestAnimationFrame(() => setTimeout(go)); setTimeout(go, 100); });

  // Charts of a page or of a part of it that are not drawn yet, from the top.
  async function drawAll(part) {
    for (const figure of (part || document).querySelectorAll("figure.bestofl-chart:not([data-drawn])")) {
      try { await draw(figure); } catch (error) { console.error(figure.id + ": " + error.message); } // the others go on
      await shown();
    }
    document.documentElement.dataset.charts = "drawn";
  }

  window.bestofl = { draw: draw, drawAll: drawAll, picture: picture, csv: csv, rows: rows };
})();
