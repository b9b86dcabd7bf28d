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

  // Chance to be right of one problem: over groups of equal rank from the top, the chance that the best drawn candidate is of that group times
  // the expected share of correct ones among those drawn of it.
  function bestOf(rank, correct, allocation) {
    const used = allocation.map((k, l) => l).filter((l) => allocation[l] > 0);
    const groups = new Map();
    for (const l of used) rank[l].forEach((r, i) => {
      if (!groups.has(r)) groups.set(r, new Map());
      const found = groups.get(r).get(l) || [0, 0];
      groups.get(r).set(l, [found[0] + 1, found[1] + correct[l][i]]);
    });
    const below = new Map(used.map((l) => [l, rank[l].length]));
    let value = 0;
    for (const r of Array.from(groups.keys()).sort((a, b) => b - a)) {
      const members = groups.get(r);
      for (const [l, [t]] of members) below.set(l, below.get(l) - t);
      let weight = [1], share = [0]; // by the number drawn of this group: chance, and chance times correct ones
      for (const l of used) {
        const [t, c] = members.get(l) || [0, 0], n = rank[l].length, k = allocation[l], b = below.get(l);
        const most = Math.min(t, k), w = [];
        for (let x = 0; x <= most; x += 1) w.push(Math.exp(logChoose(t, x) + logChoose(b, k - x) - logChoose(n, k)));
        const nextWeight = new Array(weight.length + most).fill(0), nextShare = nextWeight.slice();
        for (let s = 0; s < weight.length; s += 1) for (let x = 0; x <= most; x += 1) {
          nextWeight[s + x] += weight[s] * w[x];
          nextShare[s + x] += share[s] * w[x] + (x ? (weight[s] * w[x] * x * c) / t : 0);
        }
        weight = nextWeight;
        share = nextShare;
      }
      for (let s = 1; s < share.length; s += 1) value += share[s] / s;
      if (used.every((l) => below.get(l) < allocation[l]) && weight[0] === 0) break;
    }
    return value;
  }

  const coverage = (correct, allocation) => 1 - Math.exp(correct.reduce((sum, list, l) => {
    const wrong = list.length - list.reduce((a, b) => a + b, 0);
    return allocation[l] ? sum + logChoose(wrong, allocation[l]) - logChoose(list.length, allocation[l]) : sum;
  }, 0));

  const random = (correct, allocation) => {
    const budget = allocation.reduce((a, b) => a + b, 0);
    return correct.reduce((sum, list, l) => sum + (allocation[l] * list.reduce((a, b) => a + b, 0)) / list.length, 0) / budget;
  };

  // Chance that the most frequent answer of a draw is right, simulated: `answers` are codes per language, 0 the right one, below 0 unread.
  // Answers with equally many votes share the win. The same numbers every time.
  function majority(answers, allocation, draws) {
    let state = 1;
    const rng = () => { state = (Math.imul(state, 1664525) + 1013904223) >>> 0; return state / 4294967296; };
    const used = allocation.map((k, l) => l).filter((l) => allocation[l] > 0), rows = used.map((l) => answers[l].slice());
    let value = 0;
    for (let draw = 0; draw < draws; draw += 1) {
      const votes = new Map();
      used.forEach((l, at) => {
        const row = rows[at];
        for (let i = 0; i < allocation[l]; i += 1) { // the first `allocation` of a shuffle
          const j = i + Math.floor(rng() * (row.length - i));
          [row[i], row[j]] = [row[j], row[i]];
          if (row[i] >= 0) votes.set(row[i], (votes.get(row[i]) || 0) + 1);
        }
      });
      const most = Math.max(0, ...votes.values());
      if (most && votes.get(0) === most) value += 1 / Array.from(votes.values()).filter((n) => n === most).length;
    }
    return value / draws;
  }

  // A budget over languages in equal parts, at most what each has; the odd ones go to the first.
  function equalShares(budget, most) {
    const given = most.map(() => 0);
    for (let left = budget; left > 0;) {
      const open = most.map((m, l) => l).filter((l) => given[l] < most[l]);
      if (!open.length) break;
      for (const l of open) if (left > 0) { given[l] += 1; left -= 1; }
    }
    return given;
  }

  target.bestoflEstimators = { bestOf: bestOf, coverage: coverage, random: random, majority: majority, equalShares: equalShares };
})(typeof window === "undefined" ? globalThis : window);
