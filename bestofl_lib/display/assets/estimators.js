// The exact estimators of the library, for pages: what any allocation reaches, as an expectation over all subsets of the stored candidates.
// A problem is {rank: [per language: ranks of its candidates], correct: [per language: 0 or 1 of each]}; higher ranks win, equal ones share the win.
(function (target) {
  "use strict";
  const logs = [0];
  const logFactorial = (n) => {
    while (logs.length <= n) logs.push(logs[logs.length - 1] + Math.log(logs.length));
    return logs[n];
  };
  const logChoose = (n, k) => (k < 0 || k > n ? -Infinity : logFactorial(n) - logFactorial(k) - logFactorial(n - k));

  // A setting is a list of completions per language. Where a budget does not divide, its `extra` names how many of the languages in its `open` have
  // one more, drawn at random: figures are then the expectation over that draw too, by elementary symmetric sums over the number that had one.
  const drawnMore = (given) => ({ extra: given.extra || 0, open: new Set(given.extra ? given.open : []) });
  const used = (given) => given.map((k, l) => l).filter((l) => given[l] > 0 || (given.extra && given.open.includes(l)));
  const budgetOf = (given) => given.reduce((a, b) => a + b, 0) + (given.extra || 0);

  // Chance to be right of one problem: over groups of equal rank from the top, the chance that the best drawn candidate is of that group times
  // the expected share of correct ones among those drawn of it.
  function bestOf(rank, correct, given) {
    const { extra, open } = drawnMore(given), members = used(given), choices = Math.exp(logChoose(open.size, extra));
    const groups = new Map();
    for (const l of members) rank[l].forEach((r, i) => {
      if (!groups.has(r)) groups.set(r, new Map());
      const found = groups.get(r).get(l) || [0, 0];
      groups.get(r).set(l, [found[0] + 1, found[1] + correct[l][i]]);
    });
    const below = new Map(members.map((l) => [l, rank[l].length]));
    let value = 0;
    for (const r of Array.from(groups.keys()).sort((a, b) => b - a)) {
      const group = groups.get(r);
      for (const [l, [t]] of group) below.set(l, below.get(l) - t);
      // by languages that had one more, then by the number drawn of this group: chance, and chance times correct ones
      let weight = [[1]], share = [[0]];
      for (const l of members) {
        const [t, c] = group.get(l) || [0, 0], n = rank[l].length, b = below.get(l), nextWeight = [], nextShare = [];
        for (let more = 0; more <= (open.has(l) ? 1 : 0); more += 1) {
          const k = given[l] + more, most = Math.min(t, k), w = [];
          for (let x = 0; x <= most; x += 1) w.push(Math.exp(logChoose(t, x) + logChoose(b, k - x) - logChoose(n, k)));
          weight.forEach((row, e) => {
            if (e + more > extra) return;
            const intoWeight = (nextWeight[e + more] = nextWeight[e + more] || []), intoShare = (nextShare[e + more] = nextShare[e + more] || []);
            for (let s = 0; s < row.length; s += 1) for (let x = 0; x <= most; x += 1) {
              intoWeight[s + x] = (intoWeight[s + x] || 0) + row[s] * w[x];
              intoShare[s + x] = (intoShare[s + x] || 0) + share[e][s] * w[x] + (x ? (row[s] * w[x] * x * c) / t : 0);
            }
          });
        }
        weight = nextWeight;
        share = nextShare;
      }
      for (let s = 1; s < share[extra].length; s += 1) value += share[extra][s] / s;
      if (weight[extra][0] === 0) break;
    }
    return value / choices;
  }

  // Chance that a correct one is among those drawn.
  function coverage(correct, given) {
    const { extra, open } = drawnMore(given);
    let missed = [1];
    for (const l of used(given)) {
      const n = correct[l].length, wrong = n - correct[l].reduce((a, b) => a + b, 0), next = new Array(extra + 1).fill(0);
      for (let more = 0; more <= (open.has(l) ? 1 : 0); more += 1) {
        const miss = Math.exp(logChoose(wrong, given[l] + more) - logChoose(n, given[l] + more));
        missed.forEach((chance, e) => { if (e + more <= extra) next[e + more] += chance * miss; });
      }
      missed = next;
    }
    return 1 - missed[extra] / Math.exp(logChoose(open.size, extra));
  }

  function random(correct, given) {
    const { extra, open } = drawnMore(given);
    const expected = (l) => given[l] + (open.has(l) ? extra / open.size : 0);
    return used(given).reduce((sum, l) => sum + (expected(l) * correct[l].reduce((a, b) => a + b, 0)) / correct[l].length, 0) / budgetOf(given);
  }

  // Chance that the most frequent answer of a draw is right, simulated: `answers` are codes per language, 0 the right one, below 0 unread.
  // Answers with equally many votes share the win. The same numbers every time.
  function majority(answers, given, draws) {
    let state = 1;
    const rng = () => { state = (Math.imul(state, 1664525) + 1013904223) >>> 0; return state / 4294967296; };
    const shuffled = (list, first) => { // its first ones are a random choice
      for (let i = 0; i < first; i += 1) {
        const j = i + Math.floor(rng() * (list.length - i));
        [list[i], list[j]] = [list[j], list[i]];
      }
      return list;
    };
    const { extra, open } = drawnMore(given), members = used(given), rows = members.map((l) => answers[l].slice()), chosen = Array.from(open);
    let value = 0;
    for (let draw = 0; draw < draws; draw += 1) {
      const votes = new Map(), more = new Set(shuffled(chosen, extra).slice(0, extra));
      members.forEach((l, at) => {
        const k = given[l] + (more.has(l) ? 1 : 0), row = shuffled(rows[at], k);
        for (let i = 0; i < k; i += 1) if (row[i] >= 0) votes.set(row[i], (votes.get(row[i]) || 0) + 1);
      });
      const most = Math.max(0, ...votes.values());
      if (most && votes.get(0) === most) value += 1 / Array.from(votes.values()).filter((n) => n === most).length;
    }
    return value / draws;
  }

  // A budget over languages in equal parts, at most what each has; the odd ones go to languages drawn at random.
  function equalShares(budget, most) {
    const given = most.map(() => 0);
    for (let left = budget; left > 0;) {
      const open = most.map((m, l) => l).filter((l) => given[l] < most[l]);
      if (!open.length) break;
      if (left < open.length) return Object.assign(given, { extra: left, open: open });
      for (const l of open) given[l] += 1;
      left -= open.length;
    }
    return given;
  }

  target.bestoflEstimators = { bestOf: bestOf, coverage: coverage, random: random, majority: majority, equalShares: equalShares, budgetOf: budgetOf };
})(typeof window === "undefined" ? globalThis : window);
