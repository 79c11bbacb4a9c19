const { z2, alpha } = fixed, n = v.samples, wrong = Math.min(v.wrong, n), right = n - wrong, level = Number(v.level.split(" ")[0]) / 100;
const wilson = (k, m) => {
  const half = Math.sqrt(z2 * ((k * (m - k)) / m + z2 / 4)) / (m + z2), middle = (k + z2 / 2) / (m + z2);
  return [k === 0 ? 0 : Math.max(0, middle - half), k === m ? 1 : Math.min(1, middle + half)];
};
// The chance that m samples have j wrong, for j from 0 to most, at recall p.
const wrongs = (m, p, most) => {
  const odds = Math.log1p(-p) - Math.log(p), shares = [];
  let log = m * Math.log(p);
  for (let j = 0; j <= most; j++) {
    if (j) log += Math.log((m - j + 1) / j) + odds;
    shares.push(Math.exp(log));
  }
  return shares;
};
const asGood = (k, m, p) => wrongs(m, p, m - k).reduce((sum, x) => sum + x, 0);
const exact = (k, m) => {
  if (k === 0) return 0;
  let [low, high] = [0, 1];
  for (let i = 0; i < 60; i++) {
    const middle = (low + high) / 2;
    if (asGood(k, m, middle) < alpha) low = middle; else high = middle;
  }
  return low;
};
const more = (bound) => {
  const enough = (x) => bound(right + x, n + x) >= level - 1e-12;
  let [low, high] = [0, 1];
  if (enough(0)) return 0;
  while (!enough(high)) [low, high] = [high, 2 * high];
  while (high - low > 1) {
    const middle = Math.floor((low + high) / 2);
    if (enough(middle)) high = middle; else low = middle;
  }
  return high;
};
const needed = more(exact), wilsons = more((k, m) => wilson(k, m)[0]), far = 10 ** Math.max(3, Math.ceil(Math.log10(1.05 * (n + needed))));
const from = Math.max(1, wrong), ns = [...new Set(draw.log(from, far, 121).map(Math.round))], ends = ns.map((m) => wilson(m - wrong, m));
const p = draw.panel({ title: wrong ? `With ${wrong} wrong` : "With all right", ylabel: "recall (%)", x: [1, far], y: [0, 119], xlog: true, xlabel: "samples" });
p.band(ns, ends.map((e) => 100 * e[0]), ends.map((e) => 100 * e[1])).line(ns, ns.map((m) => (100 * (m - wrong)) / m));
p.line(ns, ns.map((m) => 100 * exact(m - wrong, m)), "b", "d").level(100 * level, "", false).rule(n);
p.dots([n], [(100 * right) / n]).dots([n], [100 * exact(right, n)], "b", true);
if (needed) p.dots([n + needed], [100 * level], "b");
p.line([1.2, 2.2], [112, 112]).note(2.6, 109, "score").line([far ** 0.42, far ** 0.5], [112, 112], "b", "d").note(far ** 0.53, 109, "exact bound");
const mean = n * (1 - level), most = Math.min(n, Math.max(wrong + 1, Math.ceil(mean + 4 * Math.sqrt(mean * level) + 2))), shares = wrongs(n, level, most).map((x) => 100 * x);
const top = Math.max(...shares), q = draw.panel({ title: `If the recall were ${v.level}`, ylabel: `runs of ${n} (%)`, x: [-0.5, most + 0.5], y: [0, 1.24 * top], whole: true, xlabel: "wrong answers" });
const some = (test, tone) => {
  const js = draw.range(most + 1).filter(test);
  q.bars(js.map((j) => j - 0.4), js.map(() => 0), js.map((j) => shares[j]), 0.8, tone);
};
some((j) => j > wrong, "");
some((j) => j <= wrong, "a");
const luck = asGood(right, n, level), percent = (x) => draw.num(+(100 * x).toPrecision(3)), [low, high] = wilson(right, n);
q.note(most + 0.4, 1.12 * top, `as good as yours: ${percent(luck)} %`, "end");
const claim = needed ? `To claim ${v.level} it takes <b class="lc-b">${draw.num(needed)}</b> more samples, all right (by Wilson's interval ${draw.num(wilsons)}).`
  : `That supports a claim of ${v.level}` + (wilsons ? `; by Wilson's two-sided interval it takes ${draw.num(wilsons)} more, all right.` : ".");
draw.say(`<b>${right} of ${n}</b> right: the recall lies from <b>${percent(low)}</b> to <b>${percent(high)}\u00a0%</b> (Wilson, 95 %), and is at least <b>${percent(exact(right, n))}\u00a0%</b> (exact, one-sided 95 %). ${claim}`);
