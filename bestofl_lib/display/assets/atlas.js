// Draws the atlas of a report from the data that stands beside it: heat map, problem, candidates.
// Needs common.js and asks for nothing. Every text is set with textContent; nothing a model wrote becomes markup.
(function () {
  "use strict";
  const { h, pieces, written, fitFormulas, percent, number, counted, shade, paintCell, cellWords } = window.bestoflCommon;
  const FAILURES = { unread: "nothing readable", cut: "cut off", stray: "written in another language", sums: "a written sum is false", other: "another number" };
  const FIELDS = ["index", "pieces", "answer", "correct", "rule", "note", "rewards", "logprob", "tokens", "finish", "trace", "condition", "sums"];

  // What is wrong with a candidate, in one word; the first that holds. Null where it is correct.
  function failure(c, language) {
    if (c.correct) return null;
    if (c.finish === "length") return "cut";
    if (c.answer === null) return "unread";
    if (c.trace && c.trace !== language.code) return "stray";
    return c.sums ? "sums" : "other";
  }

  async function unpack(text) {
    const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
    return JSON.parse(await new Response(stream).text());
  }

  // -- the page

  function show(root, data) {
    const languages = data.languages;
    const n = data.ids.length;
    const wide = () => root.clientWidth >= 640;
    const name = (code) => { const found = languages.find((language) => language.code === code); return found ? found.name : code; };
    const state = { order: "difficulty", filters: new Set(), shown: [], x: 0, y: 0, problem: null, language: 0 };

    const order = h("select", { on: { change: () => { state.order = order.value; list(); } } }, Object.entries(data.sorts).map(([key, text]) => h("option", { value: key }, text)));
    const boxes = Object.entries(data.filters).map(([key, text]) => {
      const box = h("input", { type: "checkbox", on: { change: () => { state.filters[box.checked ? "add" : "delete"](key); list(); } } });
      return h("label", { class: "chip" }, box, text);
    });
    const jump = h("select", { on: { change: () => jump.value !== "" && open(Number(jump.value), state.language, true) } });
    const search = h("input", { type: "search", placeholder: "id or words of the question", "aria-label": "search", on: { input: () => list() } });
    const pick = (label) => h("select", { "aria-label": label, on: { change: () => list() } }, h("option", { value: "" }, "any"), languages.map((language, l) => h("option", { value: l }, language.name)));
    const level = h("select", { "aria-label": "level", on: { change: () => list() } }, h("option", { value: "" }, "any"), data.levels.map((name) => h("option", { value: name }, name)));
    const right = pick("solved in"), wrong = pick("not solved in");
    const fields = (row) => Object.fromEntries(FIELDS.map((field, i) => [field, row[i]]));
    // Per problem, language and kind of failure: how many of the candidates on this page.
    const failed = data.problems.map((problem) => languages.map((language, l) => {
      const counts = {};
      for (const row of problem.candidates ? problem.candidates[l] : []) {
        const kind = failure(fields(row), language);
        if (kind) counts[kind] = (counts[kind] || 0) + 1;
      }
      return counts;
    }));
    const failures = (p, kind, l) => failed[p].reduce((sum, counts, at) => sum + (l === "" || at === Number(l) ? counts[kind] || 0 : 0), 0);
    const kinds = Object.entries(FAILURES).filter(([kind]) => data.problems.some((problem, p) => failures(p, kind, "")));
    const like = h("select", { "aria-label": "failures", on: { change: () => failuresLike(like.value, likeIn.value) } }, h("option", { value: "" }, "any"), kinds.map(([kind, text]) => h("option", { value: kind }, text)));
    const likeIn = h("select", { "aria-label": "failures in", on: { change: () => failuresLike(like.value, likeIn.value) } }, h("option", { value: "" }, "any language"), languages.map((language, l) => h("option", { value: l }, language.name)));
    const likeCount = h("span", { class: "count", role: "status" });
    function failuresLike(kind, l) {
      like.value = kind;
      likeIn.value = l;
      list();
      const sum = kind ? state.shown.reduce((total, p) => total + failures(p, kind, l), 0) : 0;
      likeCount.textContent = kind ? counted(sum, "wrong candidate") + " of " + counted(state.shown.length, "problem") : "";
      if (kind && state.shown.length && !failures(state.problem, kind, l)) open(state.shown[0], l === "" ? state.language : Number(l), false);
      else if (state.problem !== null) open(state.problem, l === "" ? state.language : Number(l), false);
    }
    const told = data.problems.map((problem) => problem.questions.map((parts) => parts.map((part) => part.text || "").join("")).join("\n").toLowerCase());
    const found = (p) => {
      const words = search.value.trim().toLowerCase();
      if (words && !data.ids[p].toLowerCase().includes(words) && !told[p].includes(words)) return false;
      if (like.value && !failures(p, like.value, likeIn.value)) return false;
      if (level.value && data.problems[p].level !== level.value) return false;
      return (right.value === "" || data.correct[right.value][p] > 0) && (wrong.value === "" || (data.n[wrong.value][p] > 0 && data.correct[wrong.value][p] === 0));
    };
    const count = h("span", { class: "count", role: "status" });
    const canvas = h("canvas", {});
    const cursor = h("div", { class: "cursor", "aria-hidden": "true" });
    const chosen = h("div", { class: "chosen", "aria-hidden": "true" });
    const plane = h("div", { class: "plane" }, canvas, chosen, cursor);
    const grid = h("div", { class: "grid", tabindex: "0", role: "group", "aria-roledescription": "heat map",
      "aria-label": "Heat map, share correct by language and problem. Arrow keys move, Enter opens the problem. The list “problem” above opens the same problems." }, plane);
    const names = h("div", { class: "names" });
    const shares = h("div", { class: "shares" });
    const detail = h("p", { class: "detail", "aria-live": "polite" });
    const panel = h("section", { class: "problem", "aria-label": "Problem" });
    root.replaceChildren(
      h("div", { class: "bar" }, h("label", {}, "order ", order), h("label", {}, "problem ", jump), data.levels.length ? h("label", {}, "level ", level) : null, h("label", {}, "search ", search), count),
      h("div", { class: "bar" }, h("label", {}, "right in ", right), h("label", {}, "wrong in ", wrong), h("label", {}, "failures ", like), h("label", {}, "in ", likeIn), likeCount),
      h("fieldset", { class: "bar" }, h("legend", {}, "only problems where"), boxes),
      h("div", { class: "map" }, names, grid, shares),
      h("div", { class: "under" }, detail,
        h("p", { class: "key" }, h("i", { class: "none" }), "none correct", h("i", { class: "ramp" }), "all correct", h("i", { class: "dot" }), "an answer unreadable")),
      panel);
    root.dataset.drawn = "yes";

    // What is where: problems run along x on a wide page and along y on a narrow one.
    let cell = { w: 4, h: 19 };
    function draw() {
      const flat = wide();
      root.classList.toggle("narrow", !flat);
      const style = getComputedStyle(root);
      const stops = style.getPropertyValue("--ramp").trim().split(/\s+/);
      const ink = style.getPropertyValue("--soft").trim();
      const m = state.shown.length;
      names.replaceChildren(...languages.map((language) => h("div", { title: language.name }, flat ? language.name : language.code)));
      shares.replaceChildren(...languages.map((language, y) => h("div", { title: language.name + ": share of all candidates that are correct" }, percent(share(y)))));
      const room = grid.clientWidth || 300;
      cell = flat ? { w: Math.max(3, Math.min(26, room / Math.max(m, 1))), h: 19 } : { w: room / languages.length, h: 12 };
      const width = Math.max(1, Math.round(flat ? cell.w * m : room));
      const height = Math.max(1, Math.round(cell.h * (flat ? languages.length : m)));
      const ratio = window.devicePixelRatio || 1;
      canvas.width = width * ratio;
      canvas.height = height * ratio;
      for (const node of [canvas, plane]) { node.style.width = width + "px"; node.style.height = height + "px"; }
      const paint = canvas.getContext("2d");
      paint.scale(ratio, ratio);
      const gap = flat ? (cell.w >= 6 ? 1 : 0) : 1;
      for (let i = 0; i < m; i += 1) {
        for (let y = 0; y < languages.length; y += 1) {
          const p = state.shown[i], of = data.n[y][p];
          if (!of) continue;
          const at = { left: (flat ? i : y) * cell.w, top: (flat ? y : i) * cell.h, width: cell.w, height: cell.h, gap };
          paintCell(paint, at, shade(stops, data.correct[y][p] / of), data.unread[y][p] ? ink : null);
        }
      }
      mark();
    }

    // Of the problems shown, the share of a language's candidates that are correct.
    function share(y) {
      if (state.shown.length === data.total) return data.shares[y];
      const sum = (grid) => state.shown.reduce((total, p) => total + grid[y][p], 0);
      return sum(data.n) ? sum(data.correct) / sum(data.n) : 0;
    }

    function mark(scroll) {
      const m = state.shown.length, flat = wide();
      state.x = Math.max(0, Math.min(state.x, m - 1));
      const box = (node, i, y, grow) => {
        node.style.left = (flat ? i : y) * cell.w - grow + "px";
        node.style.top = (flat ? y : i) * cell.h - grow + "px";
        node.style.width = cell.w + 2 * grow - 1 + "px";
        node.style.height = cell.h + 2 * grow - 1 + "px";
      };
      cursor.hidden = !m;
      box(cursor, state.x, state.y, 2);
      const i = state.shown.indexOf(state.problem);
      chosen.hidden = i < 0;
      if (i >= 0) {
        chosen.style.left = flat ? i * cell.w - 1 + "px" : 0;
        chosen.style.top = flat ? 0 : i * cell.h - 1 + "px";
        chosen.style.width = flat ? Math.max(cell.w, 3) + 2 + "px" : "100%";
        chosen.style.height = flat ? "100%" : cell.h + 1 + "px";
      }
      if (scroll) {
        const [start, size] = flat ? ["scrollLeft", "clientWidth"] : ["scrollTop", "clientHeight"];
        const place = state.x * (flat ? cell.w : cell.h);
        if (place < grid[start] || place + 20 > grid[start] + grid[size]) grid[start] = place - grid[size] / 2;
      }
      detail.textContent = m ? cellWords(data, state.shown[state.x], state.y, languages[state.y].name, name).join(" · ") : "No problem fulfils all of these.";
    }

    function list() {
      state.shown = data.orders[state.order].filter((p) => Array.from(state.filters).every((key) => data.flags[key][p]) && found(p));
      count.textContent = state.shown.length === data.total ? counted(n, "problem") : state.shown.length + " of " + counted(data.total, "problem");
      jump.replaceChildren(h("option", { value: "" }, "choose …"), ...state.shown.map((p) => h("option", { value: p, selected: p === state.problem }, data.ids[p])));
      draw();
    }

    const find = (event) => {
      const box = canvas.getBoundingClientRect();
      const a = Math.floor((event.clientX - box.left) / cell.w), b = Math.floor((event.clientY - box.top) / cell.h);
      const [i, y] = wide() ? [a, b] : [b, a];
      return [Math.max(0, Math.min(i, state.shown.length - 1)), Math.max(0, Math.min(y, languages.length - 1))];
    };
    canvas.addEventListener("mousemove", (event) => { [state.x, state.y] = find(event); mark(); });
    canvas.addEventListener("click", (event) => { [state.x, state.y] = find(event); mark(); enter(true); });
    const enter = (scroll) => state.shown.length && open(state.shown[state.x], state.y, scroll);
    grid.addEventListener("keydown", (event) => {
      const step = event.shiftKey ? 10 : 1, last = state.shown.length;
      let move = { ArrowLeft: [-step, 0], ArrowRight: [step, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
      if (move && !wide()) move = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-step, 0], ArrowDown: [step, 0] }[event.key];
      if (event.key === "Home") move = [-last, 0];
      if (event.key === "End") move = [last, 0];
      if (move) {
        state.x += move[0];
        state.y = Math.max(0, Math.min(state.y + move[1], languages.length - 1));
      } else if (event.key === "Enter" || event.key === " ") enter(true);
      else return;
      event.preventDefault();
      mark(true);
    });

    // -- one problem

    function open(p, y, scroll) {
      state.problem = p;
      state.language = y;
      const place = state.shown.indexOf(p);
      if (place >= 0) { state.x = place; state.y = y; }
      const problem = data.problems[p];
      const step = (by) => {
        const next = state.shown[state.shown.indexOf(p) + by];
        return h("button", { disabled: next === undefined, on: { click: () => open(next, state.language, false) } }, by < 0 ? "‹ previous" : "next ›");
      };
      const most = Math.max(...problem.votes.map((vote) => vote[1]), 1);
      const all = problem.votes.reduce((sum, vote) => sum + vote[1], 0);
      const board = h("div", { class: "board", tabindex: "0", role: "group", "aria-label": "Question and candidates by language" }, languages.map((language, l) => column(problem, p, language, l)));
      const go = (l) => {
        const wanted = board.children[l];
        board.scrollLeft = wanted.offsetLeft - board.offsetLeft;
        for (const other of board.children) other.classList.toggle("here", other === wanted);
      };
      panel.replaceChildren(...[
        h("header", {}, h("h2", {}, data.ids[p]), h("p", {}, "right answer ", h("b", { class: "answer" }, problem.reference === null ? "unknown" : written(problem.reference, problem.formulas)), " · " + all + " candidates" + (problem.level ? " · level " + problem.level : "")), h("span", { class: "tools" }, step(-1), step(1))),
        h("div", { class: "facts" },
          h("table", {}, h("caption", {}, "Answers of all " + all + " candidates"), h("tbody", {}, problem.votes.map(([answer, votes, correct]) => vote(answer, votes, correct, most, problem.formulas)))),
          problem.winners.length ? h("table", {}, h("caption", {}, "Highest reward of all"), h("tbody", {}, problem.winners.map((row) => winner(row, problem.formulas, board, go)))) : null),
        h("nav", { class: "chips", "aria-label": "Languages" }, languages.map((language, l) => h("button", { class: "chip", on: { click: () => { state.language = l; state.y = l; go(l); mark(); } } },
          language.name + " ", h("small", {}, data.correct[l][p] + "/" + data.n[l][p])))),
        problem.candidates ? null : h("p", { class: "note" }, "The candidates of this problem are not on this page."),
        board].filter(Boolean));
      jump.value = p;
      fitFormulas(board, ".text, .question");
      for (const text of board.querySelectorAll(".text")) {
        const button = text.parentElement.querySelector(".fold");
        button.hidden = text.scrollHeight <= text.clientHeight + 4;
        const read = text.querySelector("mark");
        if (!button.hidden && read) text.scrollTop = Math.max(0, read.offsetTop + read.offsetHeight - text.clientHeight + 18);
      }
      go(y);
      mark(true);
      if (root.offsetParent !== null) window.location.replace("#" + encodeURIComponent(data.ids[p]) + "/" + encodeURIComponent(languages[y].code));
      if (scroll) panel.scrollIntoView({ block: "nearest" });
    }

    function vote(answer, votes, correct, most, formulas) {
      const rest = answer === "";
      const bar = h("span", { class: "bar-of" + (correct && !rest ? " good" : "") });
      bar.style.width = Math.max(1, (100 * votes) / most) + "%";
      return h("tr", { class: correct && !rest ? "good" : "" },
        h("th", { scope: "row" }, rest ? correct + " other answers" : answer === null ? "∅ unread" : written(answer, formulas), correct && !rest ? h("span", { class: "icon" }, " ✓ correct") : null),
        h("td", { class: "long" }, bar), h("td", { class: "number" }, votes));
    }

    function winner([model, l, index, answer, correct, reward, tied], formulas, board, go) {
      const look = h("button", { class: "link", on: { click: () => {
        go(l);
        const card = board.children[l].querySelector('[data-index~="' + Number(index) + '"]');
        if (card) { card.scrollIntoView({ block: "nearest", inline: "nearest" }); card.focus(); }
      } } }, languages[l].name + " #" + index);
      return h("tr", {}, h("th", { scope: "row" }, model), h("td", { class: correct ? "good" : "bad" }, h("span", { class: "icon" }, correct ? "✓ correct " : answer === null ? "∅ unread " : "✗ wrong "), answer === null ? "" : written(answer, formulas)),
        h("td", {}, look, tied > 1 ? " and " + (tied - 1) + " more" : ""), h("td", { class: "number" }, number(reward)));
    }

    function column(problem, p, language, l) {
      const held = problem.candidates ? problem.candidates[l] : [];
      const of = data.n[l][p], groups = alike(held);
      const wanted = (rows) => failure(fields(rows[0]), language) === like.value && (likeIn.value === "" || Number(likeIn.value) === l);
      const shown = like.value === "" ? groups : groups.filter(wanted);
      return h("section", { class: "column" },
        h("h3", {}, language.name + " ", h("small", { lang: language.code, dir: "auto" }, language.endonym === language.name ? "" : language.endonym)),
        h("p", { class: "sum" }, data.correct[l][p] + " of " + of + " correct" + (data.unread[l][p] ? ", " + data.unread[l][p] + " unread" : "")),
        h("div", { class: "question", lang: language.code, dir: language.dir }, pieces(problem.questions[l])),
        data.revised[l][p] ? h("p", { class: "flag" }, "⚑ this question was revised") : null,
        shown.map((rows) => card(rows, problem.formulas, language, l)),
        shown.length < groups.length ? h("p", { class: "sum" }, groups.length - shown.length + " other texts hidden: failures of one kind are shown") : null,
        problem.candidates && held.length < of ? h("p", { class: "sum" }, of - held.length + " more not on this page") : null);
    }

    // Candidates of one text in one group, in the order in which their first stands.
    function alike(rows) {
      const groups = new Map();
      for (const row of rows) {
        const text = JSON.stringify(row.slice(1, 5));
        if (!groups.has(text)) groups.set(text, []);
        groups.get(text).push(row);
      }
      return Array.from(groups.values());
    }

    function card(rows, formulas, language, l) {
      const c = fields(rows[0]), what = failure(c, language);
      const others = rows.slice(1).map((row) => "#" + row[0]);
      const [kind, verdict] = c.correct ? ["good", "✓ correct"] : c.answer === null ? ["none", "∅ unread"] : ["bad", "✗ wrong"];
      const text = h("div", { class: "text", lang: c.trace || language.code, dir: language.dir },
        pieces(c.pieces));
      const fold = h("button", { class: "link fold", "aria-expanded": "false", on: { click: () => {
        const whole = text.classList.toggle("whole");
        fold.textContent = whole ? "less" : "more";
        fold.setAttribute("aria-expanded", whole);
      } } }, "more");
      const facts = [];
      data.models.forEach((model, i) => c.rewards[i] !== null && facts.push(model + " " + number(c.rewards[i])));
      if (c.logprob !== null) facts.push("log-probability " + number(c.logprob, 1));
      if (c.tokens !== null) facts.push(c.tokens + " tokens");
      if (c.finish === "length") facts.push("cut off at the longest length");
      if (c.rule) facts.push("read by: " + c.rule.replaceAll("_", " "));
      if (c.condition) facts.push(c.condition.replaceAll("_", " "));
      const more = what && h("button", { class: "link", title: "show all wrong candidates of this kind in " + language.name, on: { click: () => failuresLike(what, String(l)) } }, "failures like this: " + FAILURES[what]);
      return h("article", { class: "card " + kind, "data-index": rows.map((row) => row[0]).join(" "), tabindex: "-1", "aria-label": language.name + " candidate " + c.index },
        h("p", { class: "top" }, h("span", { class: "icon" }, verdict), h("b", { class: "answer" }, c.answer === null ? "" : written(c.answer, formulas)), h("small", {}, "#" + c.index)),
        others.length ? h("p", { class: "same" }, "the same text " + rows.length + " times, also " + (others.length > 6 ? others.slice(0, 6).join(", ") + " …" : others.join(", "))) : null,
        text, fold, h("p", { class: "small" }, facts.join(" · ")), more,
        c.trace && c.trace !== language.code ? h("p", { class: "flag" }, "⚑ written in " + name(c.trace)) : null,
        c.note ? h("p", { class: "flag" }, "⚑ " + c.note) : null);
    }

    const go = () => {
      const [id, code] = window.location.hash.slice(1).split("/").map(decodeURIComponent);
      const p = data.ids.indexOf(id);
      if (p >= 0 && p !== state.problem) open(p, Math.max(0, languages.findIndex((language) => language.code === code)), true);
      return p >= 0;
    };
    list();
    if (!go() && n) {
      const first = state.shown.find((p) => data.exclusive[p]); // one that a single language solves shows what this is about
      const p = first === undefined ? state.shown[0] : first;
      open(p, Math.max(0, languages.findIndex((language) => language.code === data.exclusive[p])), false);
    }
    let width = root.clientWidth;
    new ResizeObserver(() => { if (root.clientWidth !== width) { width = root.clientWidth; draw(); } }).observe(root);
    window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
    window.addEventListener("hashchange", go);
  }

  async function start() {
    const root = document.querySelector("main > .atlas[data-atlas], main > section.page > .atlas[data-atlas]");
    const note = root.querySelector("p");
    if (typeof DecompressionStream === "undefined") {
      note.textContent = "This browser is too old for the atlas (it lacks DecompressionStream, in browsers since 2023).";
      return;
    }
    try {
      show(root, await unpack(JSON.parse(root.querySelector("script").textContent)));
      document.documentElement.dataset.atlas = "drawn";
    } catch (error) {
      root.replaceChildren(note);
      note.textContent = "The atlas could not be drawn: " + error.message;
      throw error;
    }
  }
  start();
})();
