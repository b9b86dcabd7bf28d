// The library's interval of a mean over problems (analysis/bootstrap.py), for pages: BCa joined with an unseen problem at the bound, and training
// seeds by a t distribution. The generator is seeded, so the same values give the same interval; the library's own random numbers differ.
(function (target) {
  "use strict";
  const REPLICATES = 2000, TAIL = 0.025, UNSEEN = 0.5, MANY = 40, FEW = 8;
  const kept = new Map(); // resampling weights by number of problems

  // Uniform numbers between 0 and 1, without the ends (mulberry32).
  function uniform(seed) {
    let state = seed >>> 0;
    return () => {
      state = (state + 0x6d2b79f5) >>> 0;
      let t = Math.imul(state ^ (state >>> 15), 1 | state);
      t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
      return (((t ^ (t >>> 14)) >>> 0) + 0.5) / 4294967296;
    };
  }
  const exponential = (random) => -Math.log(random());
  const normal = (random) => Math.sqrt(2 * exponential(random)) * Math.cos(2 * Math.PI * random());

  // Normal distribution and its inverse (Abramowitz and Stegun 26.2.17; its inverse by bisection).
  function below(z) {
    const t = 1 / (1 + 0.2316419 * Math.abs(z));
    const tail = (Math.exp((-z * z) / 2) / Math.sqrt(2 * Math.PI)) * t * (0.31938153 + t * (-0.356563782 + t * (1.781477937 + t * (-1.821255978 + t * 1.330274429))));
    return z < 0 ? tail : 1 - tail;
  }
  function score(share) {
    let low = -9, high = 9;
    for (let i = 0; i < 60; i += 1) if (below((low + high) / 2) < share) low = (low + high) / 2; else high = (low + high) / 2;
    return (low + high) / 2;
  }

  // Two smooth resamplings of n problems: weights of the first, and of the second with its unseen problem.
  function weights(n) {
    if (kept.has(n)) return kept.get(n);
    const first = uniform(1), second = uniform(2), shape = n >= 30 ? 4 : 1;
    const seen = [], again = [], more = [];
    for (let r = 0; r < REPLICATES; r += 1) {
      const row = new Float64Array(n), other = new Float64Array(n);
      let sum = 0, total = normal(second) ** 2 / 2; // gamma of shape one half
      const unseen = total;
      for (let p = 0; p < n; p += 1) {
        let gamma = 0;
        for (let s = 0; s < shape; s += 1) gamma += exponential(first);
        sum += row[p] = (gamma - shape) / Math.sqrt(shape) + 1;
        total += other[p] = exponential(second);
      }
      for (let p = 0; p < n; p += 1) { row[p] /= sum; other[p] /= total; }
      seen.push(row);
      again.push(other);
      more.push(unseen / total);
    }
    kept.set(n, { seen: seen, again: again, more: more });
    return kept.get(n);
  }

  const average = (values) => values.reduce((a, b) => a + b, 0) / values.length;
  const product = (row, values) => { let sum = 0; for (let p = 0; p < values.length; p += 1) sum += row[p] * values[p]; return sum; };

  // What other training seeds would add to the mean, one number per replicate; none where one seed is all there is.
  function seedShifts(seeds) {
    const n = seeds.length, random = uniform(3);
    if (n < 2) return null;
    const m = average(seeds), error = Math.sqrt(seeds.reduce((a, b) => a + (b - m) ** 2, 0) / (n - 1) / n);
    return Array.from({ length: REPLICATES }, () => {
      let square = 0;
      for (let i = 1; i < n; i += 1) square += normal(random) ** 2;
      return (error * normal(random)) / Math.sqrt(square / (n - 1));
    });
  }

  function bca(values, bounds, t, shifts, sampled) {
    const n = values.length, m = average(values), away = values.map((value) => value - m);
    const square = away.reduce((a, b) => a + b * b, 0);
    if (square <= 1e-20 * n) return bounds.map((bound) => m + (1 - TAIL ** (1 / n)) * (bound - m));
    const skew = away.reduce((a, b) => a + b ** 3, 0) / (6 * square ** 1.5);
    const means = sampled.seen.map((row, r) => product(row, away) + (shifts ? shifts[r] : 0)).sort((a, b) => a - b);
    const share = means.reduce((sum, mean) => sum + (mean < -1e-13 ? 1 : mean <= 1e-13 ? 0.5 : 0), 0) / REPLICATES;
    const bias = score(Math.min(Math.max(share, 0.5 / REPLICATES), 1 - 0.5 / REPLICATES));
    return [-1, 1].map((sign) => {
      const z = bias + Math.sqrt(n / Math.max(n - 1, 1)) * sign * t;
      const at = below(bias + z / Math.max(1 - skew * z, 1e-3)) * (REPLICATES - 1);
      const lower = Math.min(Math.max(Math.floor(at), 0), REPLICATES - 1), upper = Math.min(lower + 1, REPLICATES - 1);
      return m + means[lower] + (at - lower) * (means[upper] - means[lower]);
    });
  }

  function withUnseen(values, bounds, natural, shifts, sampled) {
    let ends = bounds;
    if (!natural) { // the unseen problem lies only as far out as those seen, unless few of them differ
      const sorted = values.slice().sort((a, b) => a - b), half = sorted.length >> 1;
      const middle = sorted.length % 2 ? sorted[half] : (sorted[half - 1] + sorted[half]) / 2;
      const effective = effectiveNumber(values, middle);
      const reach = Math.max(...values.map((value) => Math.abs(value - middle))) * Math.min(1, MANY / Math.max(effective, 1));
      if (effective >= FEW) ends = [Math.max(middle - reach, bounds[0]), Math.min(middle + reach, bounds[1])];
    }
    const means = sampled.again.map((row, r) => product(row, values) + (shifts ? shifts[r] : 0));
    return ends.map((end, side) => {
      const sorted = means.map((mean, r) => mean + end * sampled.more[r]).sort((a, b) => a - b);
      return sorted[Math.round((side ? 1 - TAIL : TAIL) * (REPLICATES - 1))];
    });
  }

  // How many problems differ from the middle, small differences counted as such.
  function effectiveNumber(values, middle) {
    const away = values.map((value) => Math.abs(value - middle));
    return away.reduce((a, b) => a + b, 0) ** 2 / Math.max(away.reduce((a, b) => a + b * b, 0), 1e-300);
  }

  // 95 % interval of the mean of values in [0, 1]. `t` is the upper 2.5 % point of Student's t with one degree of freedom less than problems;
  // `seeds` are the means per training seed.
  function accuracy(values, t, seeds) { return joined(values, [0, 1], true, t, seeds); }

  // The same of a paired difference: where few problems differ, the interval also holds what as many equal values cannot exclude of the largest seen.
  function difference(values, t, seeds) {
    const [low, high] = joined(values, [-1, 1], false, t, seeds);
    if (Math.min(2 ** (1 - effectiveNumber(values, 0)), 1) <= 2 * TAIL) return [low, high];
    const largest = Math.max(...values.map(Math.abs)), reach = (1 - TAIL ** (1 / values.length)) * (largest || 1);
    return [Math.min(low, -reach), Math.max(high, reach)];
  }

  function joined(values, bounds, natural, t, seeds) {
    const sampled = weights(values.length), shifts = seedShifts(seeds || []);
    const one = bca(values, bounds, t, shifts, sampled), two = withUnseen(values, bounds, natural, shifts, sampled);
    return [Math.max(Math.min(one[0], two[0]), bounds[0]), Math.min(Math.max(one[1], two[1]), bounds[1])];
  }

  target.bestoflIntervals = { accuracy: accuracy, difference: difference };
})(typeof window === "undefined" ? globalThis : window);
