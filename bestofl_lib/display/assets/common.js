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

  const counted = (n, what) => n.toLocaleString("en") + " " + what + (n === 1 ? "" : "s");
  const percent = (x, digits) => (100 * x).toFixed(digits || 0) + " %";
  const number = (x, digits) => (x === null || x === undefined ? "–" : x.toFixed(digits === undefined ? 2 : digits).replace("-", "−"));
  window.bestoflCommon = { h: h, svg: svg, pieces: pieces, written: written, fitFormulas: fitFormulas, percent: percent, number: number, counted: counted };
})();
