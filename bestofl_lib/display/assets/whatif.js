// The page that answers back: other budgets, languages, ways of choosing, from the ranks that stand in the page. Needs common.js, estimators.js and
// intervals.js.
(function () {
  "use strict";
  const { h, svg, percent, counted } = window.bestoflCommon;
  const { bestOf, coverage, random, majority, equalShares, budgetOf } = window.bestoflEstimators;
  const intervals = window.bestoflIntervals;
  const average = (list) => list.reduce((a, b) => a + b, 0) / list.length;

  const DRAWS = 400; // of a simulated vote, per problem
  const POINT = /^#(?:page=whatif\/)?([^/=]+)\/([^/]+)\/(\d+)$/; // pool, way of choosing, budget: what a chart's point links to

  function show(root, data) {
    const languages = data.languages, ids = data.ids;
    const on = languages.map(() => true);
    let how = data.ways[0].name, allocation = equalShares(Math.min(8, total()), most()), kept = null, line = {};
    function most() { return languages.map((language, l) => (on[l] ? language.n : 0)); }
    function total() { return most().reduce((a, b) => a + b, 0); }
    const budget = () => budgetOf(allocation);

    // Chance to be right of each problem, and its mean per training seed of a reward model.
    function values(way, given) {
      const seeds = data.ranks[way] || [null];
      const found = seeds.map((ranks) => ids.map((id, p) => {
        const correct = languages.map((language, l) => data.correct[l][p]);
        if (way === "oracle") return coverage(correct, given);
        if (way === "random") return random(correct, given);
        if (way === "majority") return majority(languages.map((language, l) => data.answers[l][p]), given, DRAWS);
        return bestOf(languages.map((language, l) => ranks[l][p]), correct, given);
      }));
      return { all: ids.map((id, p) => average(found.map((one) => one[p]))), seeds: found.map(average) };
    }
    const interval = ([low, high]) => "[" + (100 * low).toFixed(1) + ", " + (100 * high).toFixed(1) + "]";

    const choose = h("select", { "aria-label": "way of choosing", on: { change: () => { how = choose.value; draw(); } } }, data.ways.map((way) => h("option", { value: way.name }, way.text)));
    const slider = h("input", { type: "range", min: 1, max: total(), value: budget(), "aria-label": "completions per problem", on: { input: () => { allocation = equalShares(Number(slider.value), most()); draw(); } } });
    const count = h("output", {});
    const rows = languages.map((language, l) => {
      const box = h("input", { type: "checkbox", checked: true, "aria-label": language.name, on: { change: () => {
        on[l] = box.checked;
        if (!on.some(Boolean)) on[l] = box.checked = true;
        allocation = equalShares(Math.min(budget(), total()), most());
        draw();
      } } });
      const part = h("input", { type: "range", min: 0, max: language.n, value: 0, "aria-label": language.name + ": completions", on: { input: () => {
        allocation = settled(allocation);
        allocation[l] = on[l] ? Number(part.value) : 0;
        if (!budget()) allocation[l] = 1;
        draw();
      } } });
      const told = h("td", { class: "number" });
      return { box: box, part: part, told: told, row: h("tr", {}, h("th", { scope: "row" }, h("label", {}, box, " " + language.name)), h("td", {}, part), told) };
    });
    const figure = h("p", { class: "big", role: "status" }), note = h("p", { class: "note" }), chart = h("div", { class: "curve" }), flips = h("div", {});
    const keep = h("button", { on: { click: () => { kept = kept ? null : { found: values(how, allocation), text: describe(allocation) }; draw(); } } });
    root.replaceChildren(
      h("div", { class: "bar" }, h("label", {}, "choosing by ", choose), h("label", {}, "completions ", slider, count), keep),
      h("div", { class: "two" }, h("table", {}, h("tbody", {}, rows.map((row) => row.row))), h("div", {}, figure, note, chart)), flips);

    // One more for the first of those that may have it: what sliders show, and where a hand takes over.
    const settled = (given) => given.map((k, l) => k + (given.extra && given.open.slice(0, given.extra).includes(l) ? 1 : 0));
    const parts = (given, l) => (given.extra && given.open.includes(l) ? given[l] + " or " + (given[l] + 1) : String(given[l]));
    const describe = (given) => {
      const told = data.ways.find((way) => way.name === how).text + ", ", named = languages.map((language, l) => l).filter((l) => parts(given, l) !== "0");
      if (given.extra) return told + counted(budgetOf(given), "completion") + " in equal shares over " + counted(named.length, "language");
      return told + named.map((l) => languages[l].code + " " + given[l]).join(", ");
    };

    function draw() {
      slider.max = total();
      slider.value = budget();
      count.textContent = " " + budget();
      rows.forEach((row, l) => { row.part.value = settled(allocation)[l]; row.part.disabled = !on[l]; row.told.textContent = parts(allocation, l); });
      const here = values(how, allocation), found = average(here.all), ends = intervals.accuracy(here.all, data.t, here.seeds);
      root.dataset.accuracy = found;
      root.dataset.interval = ends.join(" ");
      figure.textContent = percent(found, 1);
      note.textContent = "of " + counted(ids.length, "problem") + " right, 95 % interval " + interval(ends) + " over problems" + (here.seeds.length > 1 ? " and training seeds" : "") + " (" + (how === "majority" ? "votes are simulated, " + DRAWS + " draws a problem" : "exact over all draws") + "): " + describe(allocation) + ".";
      keep.textContent = kept ? "forget the kept setting" : "keep this setting to compare with";
      curve(found);
      flips.replaceChildren(...(kept ? compared(here) : []));
    }

    function compared(here) {
      const before = kept.found, apart = here.all.map((value, p) => value - before.all[p]);
      const n = Math.max(here.seeds.length, before.seeds.length), trained = (one, s) => one.seeds[one.seeds.length === n ? s : 0];
      const seeds = Array.from({ length: n }, (_, s) => trained(here, s) - trained(before, s));
      const ends = intervals.difference(apart, data.t, seeds);
      const flipped = ids.map((id, p) => p).filter((p) => (here.all[p] > 0.5) !== (before.all[p] > 0.5)).sort((a, b) => Math.abs(apart[b]) - Math.abs(apart[a]));
      const sign = (x) => (x < 0 ? "−" : "+") + Math.abs(100 * x).toFixed(1);
      return [h("p", {}, h("b", {}, sign(average(apart)) + " points [" + ends.map(sign).join(", ") + "]"), " against " + kept.text + ", paired by problem, 95 % interval. " + counted(flipped.length, "problem") + (flipped.length === 1 ? " flips:" : " flip:")),
        h("ul", { class: "flips" }, flipped.slice(0, 40).map((p) => h("li", {}, h("a", { href: data.atlas.replace("{}", encodeURIComponent(ids[p])) }, ids[p]), " " + percent(before.all[p]) + " → " + percent(here.all[p]))))];
    }

    function curve(now) {
      const top = total(), asked = how + " " + most();
      if (line.of !== asked) {
        line = { of: asked, points: [] };
        for (let k = 1; k <= top; k = Math.max(k + 1, Math.round(k * 1.6))) line.points.push([k, average(values(how, equalShares(k, most())).all)]);
      }
      const points = line.points;
      const x = (k) => 40 + (440 * Math.log2(k)) / Math.max(Math.log2(top), 1), y = (v) => 190 - 170 * v;
      const picture = svg("svg", { viewBox: "0 0 500 220", role: "img", "aria-label": "accuracy against budget in equal shares" });
      for (const share of [0, 0.25, 0.5, 0.75, 1]) picture.append(svg("line", { x1: 40, x2: 480, y1: y(share), y2: y(share), class: "rule" }), svg("text", { x: 34, y: y(share) + 4, "text-anchor": "end" }, Math.round(100 * share) + "%"));
      for (let k = 1; k <= top; k *= 2) picture.append(svg("text", { x: x(k), y: 208, "text-anchor": "middle" }, k));
      picture.append(svg("polyline", { points: points.map(([k, v]) => x(k) + "," + y(v)).join(" "), class: "line" }), svg("circle", { cx: x(budget()), cy: y(now), r: 6, class: "now" }));
      chart.replaceChildren(picture, h("p", { class: "note" }, "Line: equal shares over the chosen languages; odd completions go to languages drawn at random, as in every chart. Ring: this setting."));
    }
    // A point of a chart: its pool, way and budget, beside the base language alone. False where this page does not offer it.
    function open(pool, way, k) {
      const base = languages.map((language, l) => l === data.base), codes = pool.split("+");
      const members = pool === "mixed" || pool.startsWith("half-") ? languages.map(() => true)
        : pool.startsWith("mixed-") ? languages.map((language) => language.code !== pool.slice(6))
        : languages.map((language) => codes.includes(language.code));
      if (!members.some(Boolean) || !data.ways.some((found) => found.name === way)) return false;
      const held = (chosen) => languages.map((language, l) => (chosen[l] ? language.n : 0));
      members.forEach((chosen, l) => { on[l] = chosen; rows[l].box.checked = chosen; });
      how = choose.value = way;
      allocation = equalShares(k, held(members));
      if (pool.startsWith("half-")) {
        const first = Math.ceil(k / 2), rest = equalShares(k - first, held(base.map((is) => !is)));
        allocation = Object.assign(rest.slice(), rest);
        languages.forEach((language, l) => { if (base[l]) allocation[l] = Math.min(first, language.n); });
      }
      const alone = equalShares(k, held(base));
      kept = { found: values(how, alone), text: describe(alone) };
      draw();
      return true;
    }
    const go = () => {
      const found = POINT.exec(window.location.hash);
      if (found) open(decodeURIComponent(found[1]), decodeURIComponent(found[2]), Number(found[3]));
    };
    draw();
    go();
    window.addEventListener("hashchange", go);
  }

  async function start() {
    const root = document.querySelector("main > .whatif[data-whatif], main > section.page > .whatif[data-whatif]");
    const bytes = Uint8Array.from(atob(JSON.parse(root.querySelector("script").textContent)), (letter) => letter.charCodeAt(0));
    const text = await new Response(new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"))).text();
    show(root, JSON.parse(text));
    document.documentElement.dataset.whatif = "drawn";
  }
  start();
})();
