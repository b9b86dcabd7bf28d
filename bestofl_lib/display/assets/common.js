// What the pages' scripts share: making elements, typeset maths, numbers. Every text is set with textContent.
(function () {
  "use strict";
  if (window.bestoflCommon) return;
  const MATHML = "http://www.w3.org/1998/Math/MathML";

  // An element: attributes, `on` for listeners, then children (texts, nodes, arrays, nothing).
  function h(tag, attributes) {
    const node = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes || {})) {
      if (name === "on") for (const [event, run] of Object.entries(value)) node.addEventListener(event, run);
      else if (value === true) node.setAttribute(name, "");
      else if (value !== false && value !== null && value !== undefined) node.setAttribute(name, value);
    }
    // JupyterLab looks for this on the focused node itself before it takes arrow keys and Enter for its own cells
    if (["button", "input", "select", "summary"].includes(tag) || node.hasAttribute("tabindex")) node.setAttribute("data-lm-suppress-shortcuts", "true");
    for (const child of Array.prototype.slice.call(arguments, 2).flat(Infinity)) if (child !== null && child !== undefined && child !== "") node.append(child);
    return node;
  }

  // Maths that Python typeset: a tree of [name, attributes, children or text], of allowed names only.
  function maths(tree) {
    const node = document.createElementNS(MATHML, tree[0]);
    for (const [name, value] of Object.entries(tree[1])) node.setAttribute(name, value);
    if (typeof tree[2] === "string") node.textContent = tree[2];
    else for (const child of tree[2]) node.append(maths(child));
    return node;
  }

  // A text cut for display: {text}, {text, math: tree}, {cut: characters left out}; `read` marks the answer's place.
  function pieces(list) {
    return list.map((piece) => {
      if (piece.cut) return h("em", { class: "cut" }, "[" + piece.cut.toLocaleString("en") + " characters not shown]");
      const inner = piece.math ? h("span", { class: "formula", title: piece.text }, maths(piece.math)) : piece.text;
      return piece.read ? h("mark", { title: "the answer was read here" }, inner) : inner;
    });
  }

  // An answer: typeset where Python did so (answer -> tree), else as it is written.
  function written(answer, formulas) {
    const tree = formulas && Object.hasOwn(formulas, answer) ? formulas[answer] : null;
    return tree ? h("span", { class: "formula", title: answer }, maths(tree)) : answer;
  }

  // Formulas too wide for their column are shown as they were written.
  function fitFormulas(root, boxes) {
    for (const made of root.querySelectorAll(".formula")) {
      const box = made.closest(boxes);
      if (box && made.getBoundingClientRect().width > box.clientWidth - 24) made.textContent = made.title;
    }
  }

  function svg(tag, attributes, text) {
    const node = document.createElementNS("http://www.w3.org/2000/svg", tag);
    for (const [name, value] of Object.entries(attributes || {})) node.setAttribute(name, value);
    if (text !== undefined) node.textContent = text;
    return node;
  }

  // A share as a colour: the first stop for 0, else between the second (almost 0) and the last (1).
  function shade(stops, share) {
    if (share <= 0) return stops[0];
    const place = Math.min(share, 1) * (stops.length - 2);
    const low = Math.min(Math.floor(place), stops.length - 3);
    const rgb = (hex) => [1, 3, 5].map((i) => parseInt(hex.slice(i, i + 2), 16));
    const [a, b] = [rgb(stops[low + 1]), rgb(stops[low + 2])];
    return "rgb(" + a.map((v, i) => Math.round(v + (b[i] - v) * (place - low))).join() + ")";
  }

  // One cell of a heat map: `at` is {left, top, width, height, gap}; a dot says that an answer could not be read.
  function paintCell(paint, at, colour, dot) {
    paint.fillStyle = colour;
    paint.fillRect(at.left, at.top, Math.ceil(at.left + at.width - at.gap) - at.left, at.height - 1);
    if (!dot) return;
    paint.fillStyle = dot;
    paint.fillRect(at.left + at.width / 2 - 1, at.top + at.height / 2 - 1, 2, 2);
  }

  // A cell in words: problem `p` in the row `y` of a grid of counts; `name` gives a language's name.
  function cellWords(grid, p, y, language, name) {
    const of = grid.n[y][p];
    const words = [grid.ids[p], language, of ? grid.correct[y][p] + " of " + of + " correct" : "no candidates"];
    if (grid.unread[y][p]) words.push(grid.unread[y][p] + " unreadable");
    if (grid.revised[y][p]) words.push("question revised");
    if (grid.exclusive[p]) words.push("solved in " + name(grid.exclusive[p]) + " only");
    return words;
  }

  const counted = (n, what) => n.toLocaleString("en") + " " + what + (n === 1 ? "" : "s");
  const percent = (x, digits) => (100 * x).toFixed(digits || 0) + " %";
  const number = (x, digits) => (x === null || x === undefined ? "–" : x.toFixed(digits === undefined ? 2 : digits).replace("-", "−"));
  window.bestoflCommon = { h: h, svg: svg, pieces: pieces, written: written, fitFormulas: fitFormulas, percent: percent, number: number, counted: counted, shade: shade, paintCell: paintCell, cellWords: cellWords };
})();
