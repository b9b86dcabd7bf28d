// The explorer's page: draws what Python sends and says what was chosen. It knows no figure and computes none.
// Needs common.js. Every text arrives as a string and is placed with textContent; maths arrives as a tree of allowed MathML names.

const { h, svg, pieces, written, number, shade, paintCell, cellWords } = window.bestoflCommon;
const percent = (x, digits = 1) => window.bestoflCommon.percent(x, digits);

const verdict = (card) =>
  card.correct ? ["good", "✓", "correct"] : card.read ? ["bad", "✗", "wrong"] : ["none", "∅", "unread"];

function render({ model, el }) {
  const meta = model.get("meta");
  const named = Object.fromEntries(meta.languages.map((language) => [language.code, language]));
  const name = (code) => named[code]?.name ?? code;
  const state = () => model.get("state");

  // One question at a time: while Python works, newer changes of the same kind replace older ones.
  let waiting = false;
  let queue = [];
  const ask = (change) => {
    const kind = (entry) => Object.keys(entry).map((key) => key + (Array.isArray(entry[key]) ? entry[key][0] : "")).join();
    queue = queue.filter((entry) => kind(entry) !== kind(change));
    queue.push(change);
    send();
  };
  const send = () => {
    if (waiting || !queue.length) return;
    waiting = true;
    root.dataset.busy = "true";
    model.send({ changes: queue.splice(0) });
  };
  const answered = () => {
    waiting = false;
    root.dataset.busy = queue.length ? "true" : "false";
    send();
  };

  const select = (label, options, key, extra = {}) => {
    const control = h("select", { "aria-label": label, on: { change: () => ask({ [key]: control.value }) }, ...extra },
      options.map(([value, text]) => h("option", { value }, text)));
    return [h("label", {}, h("span", {}, label), control), control];
  };

  // -- atlas
  const [sortLabel, sort] = select("Order", Object.entries(meta.sorts), "sort");
  const [modelLabel, rewardModel] = select("Reward model", meta.reward_models.map((x) => [x, meta.reward_labels[x] ?? x]), "reward_model");
  const filters = Object.entries(meta.filters).map(([key, text]) => {
    const box = h("input", { type: "checkbox", value: key, on: { change: () => ask({ filters: filters.filter((f) => f.box.checked).map((f) => f.key) }) } });
    return { key, box, label: h("label", { class: "chip" }, box, h("span", {}, text)) };
  });
  const canvas = h("canvas", {});
  const cursor = h("div", { class: "cursor", "aria-hidden": "true" });
  const opened = h("div", { class: "opened", "aria-hidden": "true" });
  const plane = h("div", { class: "plane" }, canvas, opened, cursor);
  const grid = h("div", { class: "grid", tabindex: "0", role: "application", "aria-roledescription": "heat map",
    "aria-label": "Atlas: share correct by language and problem. Arrow keys move, Enter opens the problem." }, plane);
  const rowNames = h("div", { class: "rows names" });
  const rowMeans = h("div", { class: "rows means" });
  const detail = h("p", { class: "detail", "aria-live": "polite" });
  const count = h("span", { class: "count" });
  const pager = h("span", { class: "pager" });
  const legend = h("div", { class: "legend" });
  const ROW = 19, STRIP = 12;
  let at = { x: 0, y: 0 };
  let cell = 4;

  const ramp = () => getComputedStyle(root).getPropertyValue("--ramp").trim().split(/\s+/);
  function drawAtlas() {
    const atlas = model.get("atlas");
    if (!atlas.ids || !root.isConnected) return; // the observer below calls again once the page holds it
    const room = grid.clientWidth || 800;
    cell = Math.max(3, Math.min(26, room / Math.max(atlas.ids.length, 1)));
    const width = Math.max(1, Math.round(cell * atlas.ids.length));
    const rows = meta.languages.length;
    const height = rows * ROW + 2 * STRIP + 6;
    const ratio = window.devicePixelRatio || 1;
    canvas.width = width * ratio;
    canvas.height = height * ratio;
    canvas.style.width = `${width}px`;
    canvas.style.height = `${height}px`;
    plane.style.width = `${width}px`;
    plane.style.height = `${height}px`;
    const paint = canvas.getContext("2d");
    paint.scale(ratio, ratio);
    const style = getComputedStyle(root);
    const [ink, bad, accent] = ["--soft", "--bad", "--accent"].map((key) => style.getPropertyValue(key).trim());
    const stops = ramp();
    const gap = cell >= 6 ? 1 : 0;
    for (let y = 0; y < rows; y += 1) {
      for (let x = 0; x < atlas.ids.length; x += 1) {
        const n = atlas.n[y][x];
        if (!n) continue;
        const place = { left: x * cell, top: y * ROW, width: cell, height: ROW, gap };
        paintCell(paint, place, shade(stops, atlas.correct[y][x] / n), atlas.unread[y][x] ? ink : null);
      }
    }
    for (let x = 0; x < atlas.ids.length; x += 1) {
      const middle = (x + 0.5) * cell, top = rows * ROW + 4;
      if (atlas.exclusive[x]) {
        paint.fillStyle = accent;
        paint.beginPath();
        paint.arc(middle, top + STRIP / 2, Math.min(3, Math.max(cell / 2, 1.6)), 0, 7);
        paint.fill();
      }
      if (atlas.mistake[x]) {
        paint.strokeStyle = bad;
        paint.lineWidth = 1.4;
        const r = Math.min(3, Math.max(cell / 2, 1.6));
        paint.beginPath();
        paint.moveTo(middle - r, top + STRIP * 1.5 - r);
        paint.lineTo(middle + r, top + STRIP * 1.5 + r);
        paint.moveTo(middle + r, top + STRIP * 1.5 - r);
        paint.lineTo(middle - r, top + STRIP * 1.5 + r);
        paint.stroke();
      }
    }
    at = { x: Math.min(at.x, Math.max(atlas.ids.length - 1, 0)), y: Math.min(at.y, rows - 1) };
    mark();
  }

  function mark(scroll = false) {
    const atlas = model.get("atlas");
    const chosen = atlas.ids?.indexOf(state().problem) ?? -1;
    opened.hidden = chosen < 0;
    opened.style.left = `${chosen * cell - 1}px`;
    opened.style.width = `${Math.max(cell, 3) + 2}px`;
    opened.style.height = `${meta.languages.length * ROW}px`;
    cursor.hidden = !atlas.ids?.length;
    cursor.style.left = `${at.x * cell - 2}px`;
    cursor.style.top = `${at.y * ROW - 2}px`;
    cursor.style.width = `${cell + 3}px`;
    cursor.style.height = `${ROW + 2}px`;
    if (scroll) {
      const left = at.x * cell;
      if (left < grid.scrollLeft) grid.scrollLeft = left - 40;
      if (left + cell > grid.scrollLeft + grid.clientWidth) grid.scrollLeft = left - grid.clientWidth + 40;
    }
    if (!atlas.ids?.length) {
      detail.textContent = "No problem fulfils all these filters.";
      return;
    }
    const { x, y } = at;
    const words = cellWords(atlas, x, y, name(meta.languages[y].code), name);
    if (atlas.mistake[x]) words.push("reward model picks wrong");
    detail.textContent = words.join(" · ");
  }

  const find = (event) => {
    const box = canvas.getBoundingClientRect();
    const atlas = model.get("atlas");
    return {
      x: Math.max(0, Math.min(Math.floor((event.clientX - box.left) / cell), (atlas.ids?.length ?? 1) - 1)),
      y: Math.max(0, Math.min(Math.floor((event.clientY - box.top) / ROW), meta.languages.length - 1)),
    };
  };
  const open = () => {
    const id = model.get("atlas").ids?.[at.x];
    if (id !== undefined) ask({ problem: [id, meta.languages[at.y].code] });
  };
  canvas.addEventListener("mousemove", (event) => { at = find(event); mark(); });
  canvas.addEventListener("click", (event) => { at = find(event); mark(); open(); });
  grid.addEventListener("keydown", (event) => {
    const last = { x: (model.get("atlas").ids?.length ?? 1) - 1, y: meta.languages.length - 1 };
    const step = event.shiftKey ? 10 : 1;
    const move = { ArrowLeft: [-step, 0], ArrowRight: [step, 0], ArrowUp: [0, -1], ArrowDown: [0, 1], Home: [-last.x, 0], End: [last.x, 0] }[event.key];
    if (move) at = { x: Math.max(0, Math.min(at.x + move[0], last.x)), y: Math.max(0, Math.min(at.y + move[1], last.y)) };
    else if (event.key === "Enter" || event.key === " ") open();
    else return;
    event.preventDefault();
    mark(true);
  });

  function showAtlas() {
    const atlas = model.get("atlas");
    if (!atlas.ids) return;
    count.textContent = atlas.total === meta.n_problems ? `${atlas.total} problems` : `${atlas.total} of ${meta.n_problems} problems`;
    pager.replaceChildren();
    if (atlas.pages > 1) {
      const turn = (by, text) => h("button", { disabled: atlas.page + by < 0 || atlas.page + by >= atlas.pages, on: { click: () => ask({ page: atlas.page + by }) } }, text);
      pager.append(turn(-1, "‹ earlier"), ` view ${atlas.page + 1} of ${atlas.pages} `, turn(1, "later ›"));
    }
    rowNames.replaceChildren(...meta.languages.map((language) => h("div", {}, language.name)),
      h("div", { class: "strip first" }, "one language only"), h("div", { class: "strip" }, "reward picks wrong"));
    rowMeans.replaceChildren(...atlas.rows.map((row) => h("div", { title: `${percent(row.share)} of candidates correct, ${percent(row.unread)} unreadable` },
      h("span", { class: "bar" }, fill(row.share)), h("span", {}, percent(row.share, 0)))));
    drawAtlas();
  }
  const fill = (share, kind = "") => { const node = h("span", { class: `fill ${kind}` }); node.style.width = `${100 * share}%`; return node; };

  legend.append("share correct", h("span", { class: "key zero" }), "none",
    h("span", { class: "ramp" }), "all", h("span", { class: "key dot" }), "an answer unreadable");

  // -- tabs
  const tabs = { problem: h("button", { role: "tab", id: "tab-problem" }, "Problem"), what_if: h("button", { role: "tab", id: "tab-what-if" }, "What if") };
  for (const [key, tab] of Object.entries(tabs)) {
    tab.addEventListener("click", () => ask({ tab: key }));
    tab.addEventListener("keydown", (event) => {
      if (!["ArrowLeft", "ArrowRight"].includes(event.key)) return;
      const other = key === "problem" ? "what_if" : "problem";
      tabs[other].focus();
      ask({ tab: other });
    });
  }
  const problemPanel = h("div", { class: "panel problem", role: "tabpanel", "aria-label": "Problem" });
  const whatIfPanel = h("div", { class: "panel what-if", role: "tabpanel", "aria-label": "What if" });

  // -- problem
  let unfolded = new Set();
  let drawnOnly = false;
  function showProblem() {
    const data = model.get("problem");
    const before = problemPanel.querySelector(".board");
    const kept = before && before.dataset.problem === data.id ? before.scrollLeft : 0;
    const focused = problemPanel.contains(document.activeElement) ? document.activeElement.dataset.focus : null;
    if (!data.columns) {
      problemPanel.replaceChildren(h("p", { class: "trouble" }, data.error ?? "Choose a cell of the atlas."));
      return;
    }
    const head = h("header", { class: "head" },
      h("h3", {}, data.id),
      h("p", {}, "right answer ", h("b", { class: "answer" }, data.reference ? written(data.reference, data.formulas) : "unknown"),
        ` · ${data.n} candidates, ${data.n_drawn} drawn`, data.judged ? h("small", { class: "judged" }, ` · judged by hand: ${data.judged}`) : null),
      h("span", { class: "spring" }),
      h("label", { class: "chip" }, h("input", { type: "checkbox", "data-focus": "drawn", checked: drawnOnly, on: { change: (event) => { drawnOnly = event.target.checked; showProblem(); } } }), h("span", {}, "only those drawn")),
      h("button", { "data-focus": "again", on: { click: () => ask({ seed: state().seed + 1 }) } }, "Draw again"));

    const picks = h("table", { class: "picks" },
      h("caption", {}, `Who would win with ${data.n_drawn} completions`),
      h("tbody", {}, data.picks.map((pick) => h("tr", {},
        h("th", { scope: "row" }, pick.label),
        h("td", {}, pick.card ? h("button", { class: `pick ${pick.correct ? "good" : "bad"}`, "data-focus": `pick-${pick.strategy}`, on: { click: () => reveal(pick.card) } },
          h("span", { class: "icon" }, pick.correct ? "✓" : "✗"), " ", written(pick.answer, data.formulas) ?? "unread", " ", h("small", {}, `${name(pick.language)} ${pick.where.slice(pick.where.indexOf("#"))}`)) : "–"),
        h("td", { class: "why" }, pick.why)))));
    const most = Math.max(...data.votes.map((vote) => vote.all), 1);
    const shown = data.votes.slice(0, 9);
    const votes = h("table", { class: "votes" },
      h("caption", {}, "Votes: drawn, and of all"),
      h("tbody", {}, shown.map((vote) => h("tr", { class: vote.correct ? "good" : "" },
        h("th", { scope: "row" }, vote.answer === null ? "unread" : written(vote.answer, data.formulas), vote.correct ? h("span", { class: "icon", title: "correct" }, " ✓") : null),
        h("td", { class: "tally" }, h("span", { class: "bar" }, fill(vote.all / most, "pale"), fill(vote.drawn / most, vote.correct ? "good" : ""))),
        h("td", { class: "n" }, `${vote.drawn} / ${vote.all}`))),
      data.votes.length > shown.length ? h("tr", {}, h("td", { colspan: "3", class: "why" }, `and ${data.votes.length - shown.length} other answers`)) : null));

    const board = h("div", { class: "board", "data-problem": data.id, tabindex: "0", role: "group", "aria-label": "Candidates by language" },
      data.columns.map((column) => {
        const language = named[column.language] ?? { name: column.language, endonym: "", dir: "auto" };
        const cards = column.cards.filter((card) => card.drawn || !drawnOnly);
        return h("section", { class: "column", "data-language": column.language },
          h("header", {},
            h("h4", {}, language.name, " ", h("small", { lang: column.language, dir: "auto" }, language.endonym)),
            h("p", { class: "summary" }, h("span", { class: "bar" }, fill(column.n ? column.correct / column.n : 0)),
              `${column.correct} of ${column.n} correct${column.unread ? `, ${column.unread} unread` : ""}`)),
          h("div", { class: "question", lang: column.language, dir: language.dir }, pieces(column.question)),
          column.revised ? h("p", { class: "flag" }, "⚑ this question was revised") : null,
          cards.map((card) => candidate(card, column.language, language)));
      }));
    problemPanel.replaceChildren(head, h("div", { class: "verdicts" }, picks, votes), board);
    board.scrollLeft = kept;
    if (focused) problemPanel.querySelector(`[data-focus="${CSS.escape(focused)}"]`)?.focus();
    for (const text of board.querySelectorAll(".text")) settle(text);
    const wanted = state().show;
    if (wanted && before?.dataset.problem !== data.id) bring(wanted, board);
  }

  function settle(text) {
    const long = text.scrollHeight > text.clientHeight + 4;
    const fold = text.parentElement.querySelector(".fold");
    text.classList.toggle("long", long);
    fold.hidden = !long && !text.classList.contains("whole");
    const read = text.querySelector("mark");
    if (long && read) text.scrollTop = read.offsetTop - text.offsetTop - text.clientHeight + 30;
  }

  function bring(code, board) {
    const column = board.querySelector(`.column[data-language="${CSS.escape(code)}"]`);
    if (column) board.scrollLeft = column.offsetLeft - board.offsetLeft - 8;
  }

  function reveal(id) {
    const card = problemPanel.querySelector(`[data-card="${CSS.escape(id)}"]`);
    if (!card) return;
    card.focus({ preventScroll: true });
    const board = card.closest(".board");
    board.scrollTo({ left: card.offsetLeft - board.offsetLeft - 40, top: card.offsetTop - board.offsetTop - 120 });
    card.classList.add("shown");
    setTimeout(() => card.classList.remove("shown"), 1600);
  }

  function candidate(card, code, language) {
    const [kind, icon, word] = verdict(card);
    const key = `${model.get("problem").id}/${card.id}`;
    const text = h("div", { class: `text ${unfolded.has(key) ? "whole" : ""}`, lang: card.trace ?? code, dir: "auto" }, pieces(card.pieces));
    const fold = h("button", { class: "fold", "data-focus": `fold-${card.id}`, "aria-expanded": String(unfolded.has(key)), on: { click: () => {
      if (!unfolded.delete(key)) unfolded.add(key);
      const whole = unfolded.has(key);
      text.classList.toggle("whole", whole);
      fold.textContent = whole ? "Fold" : label;
      fold.setAttribute("aria-expanded", String(whole));
      settle(text);
    } } });
    const label = `Show all ${card.length.toLocaleString("en")} characters`;
    fold.textContent = unfolded.has(key) ? "Fold" : label;
    const judge = (right) => ask({ label: [code, card.index, card.judged === right ? null : right] });
    const judging = h("p", { class: "judging" }, "reading ",
      h("button", { "aria-pressed": String(card.judged === true), "data-focus": `right-${card.id}`, title: "what was read is what is written (key y)", on: { click: () => judge(true) } }, "✓ right"),
      h("button", { "aria-pressed": String(card.judged === false), "data-focus": `misread-${card.id}`, title: "what was read is not what is written (key n)", on: { click: () => judge(false) } }, "✗ misread"));
    const keys = { keydown: (event) => {
      if (event.ctrlKey || event.metaKey || event.altKey || !["y", "n"].includes(event.key)) return;
      event.preventDefault();
      event.stopPropagation();
      judge(event.key === "y");
    } };
    const facts = [`#${card.index}`];
    if (card.tokens !== null) facts.push(`${card.tokens} tokens`);
    if (card.logprob !== null) facts.push(`log-prob. ${number(card.logprob, 1)}`);
    if (card.finish === "length") facts.push("cut off");
    if (card.finish === "error") facts.push("failed");
    if (card.condition) facts.push(card.condition);
    if (card.rule) facts.push(`read by: ${card.rule}`);
    return h("article", { class: `card ${kind} ${card.drawn ? "drawn" : "left"}`, "data-card": card.id, "data-focus": `card-${card.id}`, tabindex: "0", on: keys,
      "aria-label": `${name(code)} candidate ${card.index}, ${word}` },
      h("p", { class: "top" }, h("span", { class: `mark ${kind}` }, h("span", { class: "icon" }, icon), ` ${word}`),
        h("b", { class: "answer", dir: "auto" }, written(card.answer, model.get("problem").formulas)), h("span", { class: "spring" }),
        card.reward === null ? null : h("span", { class: "reward", title: "reward by the chosen model" }, `★ ${number(card.reward)}`)),
      card.picked.length ? h("p", { class: "badges" }, card.picked.map((strategy) => h("span", {}, `◆ ${meta.strategies[strategy]}`))) : null,
      text, fold, judging,
      h("p", { class: "facts" }, facts.join(" · ")),
      card.strays ? h("p", { class: "flag" }, `⚑ written in ${name(card.trace)}`) : null,
      card.note ? h("p", { class: "flag" }, `⚑ ${card.note}`) : null,
      card.rewards.length ? h("details", {}, h("summary", {}, "rewards"), h("table", {}, h("tbody", {}, card.rewards.map(([who, value]) =>
        h("tr", {}, h("th", { scope: "row" }, who), h("td", {}, number(value))))))) : null);
  }

  // -- what if
  const [strategyLabel, strategy] = select("Strategy", Object.entries(meta.strategies).filter(([key]) => meta.reward_models.length || !meta.needs_reward.includes(key)), "strategy");
  const [secondModelLabel, secondModel] = select("Reward model", meta.reward_models.map((x) => [x, meta.reward_labels[x] ?? x]), "reward_model");
  const budget = h("input", { type: "range", min: 1, max: 1, step: 1, "aria-label": "Budget", class: "budget", on: { input: () => { budgetValue.textContent = budget.value; ask({ budget: Number(budget.value) }); } } });
  const budgetValue = h("output", {});
  const equal = h("button", { class: "equal", on: { click: () => ask({ equal: true }) } }, "Equal shares");
  const level = h("button", { class: "equal", on: { click: () => ask({ offsets: {} }) } }, "No offsets");
  const rows = meta.languages.map(({ code }) => {
    const on = h("input", { type: "checkbox", on: { change: () => ask({ language: [code, on.checked] }) } });
    const share = h("input", { type: "range", min: 0, step: 1, "aria-label": `Completions in ${name(code)}`, "data-share": code, on: { input: () => { const k = Math.round(share.value); given.textContent = k; ask({ slider: [code, k] }); } } });
    const whole = () => { const k = Math.round(share.value); share.step = 1; share.value = k; }; // equal shares are fractions; keys step by one
    share.addEventListener("keydown", whole);
    const given = h("output", {});
    const offset = h("input", { type: "range", min: -3, max: 3, step: 0.1, "aria-label": `Reward offset of ${name(code)}`, "data-offset": code, on: { input: () => { moved.textContent = signed(offset.value); ask({ offset: [code, Number(offset.value)] }); } } });
    const moved = h("output", {});
    return { code, on, share, given, offset, moved, row: h("tr", {}, h("td", {}, h("label", { class: "toggle" }, on, h("span", {}, name(code)))),
      h("td", {}, share), h("td", { class: "n" }, given), h("td", { class: "off" }, offset), h("td", { class: "n off" }, moved)) };
  });
  const signed = (value) => { const x = Number(value); return x === 0 ? "0" : `${x > 0 ? "+" : "−"}${Math.abs(x).toFixed(1)}`; };
  const result = h("div", { class: "result", "aria-live": "polite" });
  const chart = h("div", { class: "chart" });
  const shares = h("div", { class: "selected" });
  whatIfPanel.append(
    h("form", { class: "controls", on: { submit: (event) => event.preventDefault() } },
      h("div", { class: "choices" }, strategyLabel, secondModelLabel),
      h("label", { class: "wide" }, h("span", {}, "Budget: completions per problem"), h("span", { class: "slider" }, budget, budgetValue)),
      h("table", { class: "languages" },
        h("thead", {}, h("tr", {}, h("th", {}, "Language"), h("th", { colspan: 2 }, "Completions ", equal), h("th", { colspan: 2, class: "off" }, "Reward offset ", level))),
        h("tbody", {}, rows.map((row) => row.row)))),
    h("div", { class: "answers" }, result, chart, shares));

  function showWhatIf() {
    const data = model.get("what_if");
    const now = state();
    const most = now.most;
    strategy.value = now.strategy;
    const rewarded = meta.needs_reward.includes(now.strategy);
    secondModelLabel.hidden = !rewarded;
    whatIfPanel.classList.toggle("unrewarded", !rewarded);
    budget.max = Math.max(now.total, 1);
    if (document.activeElement !== budget || !waiting) { budget.value = now.budget; budgetValue.textContent = now.budget; }
    equal.disabled = now.allocation === null;
    for (const row of rows) {
      const active = now.languages.includes(row.code);
      row.on.checked = active;
      row.on.disabled = !most[row.code];
      row.row.classList.toggle("out", !active);
      row.share.max = Math.min(most[row.code] ?? 0, now.budget);
      row.share.disabled = !active;
      row.share.step = now.allocation === null ? "any" : 1;
      row.share.value = now.allocation === null && active ? now.budget / now.languages.length : now.shown[row.code] ?? 0;
      row.given.textContent = active ? (now.allocation === null ? trim(now.budget / now.languages.length) : now.shown[row.code]) : "–";
      row.offset.disabled = !active || !rewarded;
      row.offset.value = now.offsets[row.code] ?? 0;
      row.moved.textContent = signed(now.offsets[row.code] ?? 0);
    }
    level.disabled = !Object.values(now.offsets).some((value) => value);
    if (data.accuracy === undefined) {
      result.replaceChildren(h("p", { class: "trouble" }, data.error ?? "Computing …"));
      chart.replaceChildren();
      shares.replaceChildren();
      return;
    }
    result.replaceChildren(
      h("p", { class: "figure" }, h("b", { "data-accuracy": data.accuracy }, percent(data.accuracy)), h("span", {}, `${percent(data.low)} to ${percent(data.high)}`)),
      h("p", {}, `of ${data.n_problems} problems right with ${data.budget} completion${data.budget === 1 ? "" : "s"} each, choosing by ${meta.strategies[now.strategy]}${rewarded ? ` (${now.reward_model})` : ""}. 95 % interval over problems. `,
        data.error ? `Simulated, ± ${percent(data.error, 2)}. ` : "Exact over all draws. "),
      h("p", { class: "context" }, h("button", { class: "keep", on: { click: () => ask({ keep: !state().kept }) } }, state().kept ? "forget the kept setting" : "keep this setting to compare with"),
        h("button", { class: "keep", title: "opens again with: bestofl explore RUN --setting FILE", on: { click: () => save(`${meta.run}-setting.yaml`, "text/yaml", data.file) } }, "save this setting"),
        h("button", { class: "keep", title: "the chart below as SVG", on: { click: () => save(`${meta.run}-what-if.svg`, "image/svg+xml", pictureOf(chart.querySelector("svg"))) } }, "save the chart"),
        data.against ? h("b", { class: "against" }, ` ${data.against}`) : null),
      h("p", { class: "context" }, `Random choice ${percent(data.random)} · oracle ${percent(data.oracle)}${data.tokens === null ? "" : ` · ${Math.round(data.tokens).toLocaleString("en")} tokens per problem`}`));
    chart.replaceChildren(curves(data));
    const widest = Math.max(...(data.selected ?? []).flatMap((row) => [row.share, row.given]), 0.05);
    shares.replaceChildren(...(data.selected ? [h("h4", {}, "Whose answer is chosen", h("small", {}, " bar: share of problems won; line: share of the budget")),
      ...data.selected.map((row) => {
        const line = h("span", { class: "given" });
        line.style.left = `${(100 * row.given) / widest}%`;
        return h("div", { class: "share" }, h("span", {}, name(row.language)), h("span", { class: "bar", title: `${percent(row.share)} of problems, ${percent(row.given)} of the budget` }, fill(row.share / widest), line), h("span", { class: "n" }, percent(row.share, 0)));
      })] : [h("p", { class: "context" }, "A vote and the oracle choose an answer, not a candidate: no language wins.")]));
  }
  const trim = (x) => (Number.isInteger(x) ? String(x) : x.toFixed(1));

  // Offers a text as a file.
  function save(filename, type, text) {
    const link = h("a", { href: URL.createObjectURL(new Blob([text], { type })), download: filename });
    el.append(link);
    link.click();
    link.remove();
    setTimeout(() => URL.revokeObjectURL(link.href), 10000);
  }

  // A chart of this page with its looks written into it, so that it can stand alone.
  function pictureOf(picture) {
    const copy = picture.cloneNode(true);
    const looks = ["fill", "stroke", "stroke-width", "stroke-dasharray", "opacity", "font-size", "font-family", "font-weight"];
    const [from, to] = [picture, copy].map((node) => Array.from(node.querySelectorAll("*")));
    from.forEach((node, i) => { for (const look of looks) to[i].setAttribute(look, getComputedStyle(node).getPropertyValue(look)); });
    copy.setAttribute("xmlns", "http://www.w3.org/2000/svg");
    return new XMLSerializer().serializeToString(copy);
  }

  function curves(data) {
    const W = 560, H = 250, L = 44, R = 12, T = 10, B = 38;
    const points = data.lines.flatMap((line) => line.points);
    const last = Math.max(...points.map((p) => p[0]), data.budget, 2);
    const lowest = Math.max(0, Math.floor(10 * Math.min(...points.map((p) => p[2]), data.low)) / 10);
    const highest = Math.min(1, Math.ceil(10 * Math.max(...points.map((p) => p[3]), data.high)) / 10);
    const x = (k) => L + (Math.log2(k) / Math.log2(last)) * (W - L - R);
    const y = (v) => T + (1 - (v - lowest) / Math.max(highest - lowest, 0.1)) * (H - T - B);
    const picture = svg("svg", { viewBox: `0 0 ${W} ${H}`, role: "img",
      "aria-label": `Accuracy by budget. ${data.lines.map((line) => `${line.name}: ${line.points.map((p) => `${p[0]}: ${percent(p[1])}`).join(", ")}`).join(". ")}. This setting: ${data.budget}: ${percent(data.accuracy)}.` });
    for (let v = Math.round(lowest * 10); v <= Math.round(highest * 10); v += 1) {
      picture.append(svg("line", { x1: L, x2: W - R, y1: y(v / 10), y2: y(v / 10), class: "gridline" }));
      picture.append(svg("text", { x: L - 6, y: y(v / 10) + 4, "text-anchor": "end" }, `${v * 10} %`));
    }
    for (let k = 1; k <= last; k *= 2) picture.append(svg("text", { x: x(k), y: H - B + 16, "text-anchor": "middle" }, String(k)));
    picture.append(svg("text", { x: (L + W - R) / 2, y: H - 4, "text-anchor": "middle", class: "title" }, "completions per problem"));
    data.lines.forEach((line, i) => {
      const band = [...line.points.map((p) => [x(p[0]), y(p[3])]), ...line.points.slice().reverse().map((p) => [x(p[0]), y(p[2])])];
      picture.append(svg("polygon", { points: band.map((p) => p.join()).join(" "), class: `band line-${i}` }));
      picture.append(svg("polyline", { points: line.points.map((p) => [x(p[0]), y(p[1])].join()).join(" "), class: `curve line-${i}` }));
    });
    picture.append(svg("line", { x1: x(data.budget), x2: x(data.budget), y1: y(data.low), y2: y(data.high), class: "whisker" }));
    picture.append(svg("circle", { cx: x(data.budget), cy: y(data.accuracy), r: 5.5, class: "point" }));
    return h("figure", {}, picture, h("figcaption", {}, data.lines.map((line, i) => h("span", { class: `key line-${i}` }, line.name)), h("span", { class: "key here" }, "this setting")));
  }

  // -- all together
  const root = h("div", { class: "bestofl-explorer", "data-busy": "false" },
    h("header", { class: "title" }, h("h2", {}, meta.run), h("p", {}, `${meta.n_problems} problems × ${meta.languages.length} languages · ${meta.n_candidates.toLocaleString("en")} candidates · ${percent(meta.share)} correct`)),
    h("section", { class: "atlas", "aria-label": "Atlas" },
      h("div", { class: "bar-top" }, sortLabel, meta.reward_models.length ? modelLabel : null, h("div", { class: "chips", role: "group", "aria-label": "Show only problems where" }, h("span", { class: "only" }, "only where"), filters.map((f) => f.label)), h("span", { class: "spring" }), count, pager),
      h("div", { class: "map" }, rowNames, grid, rowMeans),
      h("div", { class: "under" }, detail, legend)),
    h("div", { class: "tabs", role: "tablist", "aria-label": "Views" }, tabs.problem, tabs.what_if, h("span", { class: "working", "aria-hidden": "true" }, "computing …")),
    problemPanel, whatIfPanel);
  el.append(root);

  function showState() {
    const now = state();
    sort.value = now.sort;
    rewardModel.value = now.reward_model ?? "";
    secondModel.value = now.reward_model ?? "";
    for (const filter of filters) {
      filter.box.checked = now.filters.includes(filter.key);
      filter.box.disabled = filter.key === "mistake" && !meta.reward_models.length;
    }
    for (const [key, tab] of Object.entries(tabs)) {
      tab.setAttribute("aria-selected", String(now.tab === key));
      tab.tabIndex = now.tab === key ? 0 : -1;
    }
    problemPanel.hidden = now.tab !== "problem";
    whatIfPanel.hidden = now.tab !== "what_if";
    mark();
  }

  const redraw = () => drawAtlas();
  const sized = new ResizeObserver(redraw);
  sized.observe(grid);
  const themed = new MutationObserver(redraw);
  themed.observe(document.body, { attributes: true, attributeFilter: ["data-jp-theme-light", "data-jp-theme-name", "class"] });
  const scheme = window.matchMedia("(prefers-color-scheme: dark)");
  scheme.addEventListener("change", redraw);
  model.on("change:atlas", showAtlas);
  model.on("change:problem", showProblem);
  model.on("change:what_if", showWhatIf);
  model.on("change:state", () => { showState(); showWhatIf(); });
  model.on("msg:custom", (message) => { if (message.done) answered(); });
  showState();
  showAtlas();
  showProblem();
  showWhatIf();
  return () => { sized.disconnect(); themed.disconnect(); scheme.removeEventListener("change", redraw); };
}

export default { render };
