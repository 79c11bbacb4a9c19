const kind = v.kind, T = v.target, s = kind === "fixed" ? T / 2 : T * v.part, tokens = v.millions * 1e6, ratio = Math.log(T / s);
const doublings = Math.floor(Math.log2(T / s) + 1e-9), stages = draw.range(doublings + 1).map((k) => T / 2 ** (doublings - k));
const mean = (xs) => xs.reduce((sum, x) => sum + x, 0) / xs.length;
const linear = {
  at: (u) => s + (T - s) * u, mean: (s + T) / 2, inverse: ratio / (T - s),
  seen: (d, m) => (T - m - d * Math.log(T / m)) / (T - s),
};
const rule = {
  "fixed": { at: () => T, mean: T, inverse: 1 / T, seen: (d) => 1 - d / T },
  "uniform": linear,
  "log-uniform": {
    at: (u) => s * (T / s) ** u, mean: (T - s) / ratio, inverse: (1 / s - 1 / T) / ratio,
    seen: (d, m) => (Math.log(T / m) - d * (1 / m - 1 / T)) / ratio,
  },
  "steps": {
    at: (u) => stages[Math.floor(u * stages.length)], mean: mean(stages), inverse: mean(stages.map((n) => 1 / n)),
    seen: (d) => mean(stages.map((n) => Math.max(0, 1 - d / n))),
  },
  "linear": linear,
}[kind];
const seen = (d) => (d >= T ? 0 : rule.seen(d, Math.max(s, d)));
const random = kind.endsWith("uniform"), count = random ? dots : 5 * dots, times = draw.range(count).map((i) => (i + 0.5) / count);
let drawn = 20011;
const next = () => (drawn = (16807 * drawn) % (2 ** 31 - 1)) / (2 ** 31 - 1);
const lengths = times.map((u) => rule.at(random ? next() : u));
const p = draw.panel({ title: "Length of the sequences", ylabel: random ? `tokens in each, ${dots} updates drawn` : "tokens in each", x: [0, 100], y: [0, 1.12 * T], xlabel: "tokens spent (%)" });
p.level(T, "target", false);
if (random) p.dots(times.map((u) => 100 * u), lengths, "a", false, 2);
else p.line(times.map((u) => 100 * u), lengths);
const far = draw.range(201).map((i) => (i * T) / 200), saved = 1 - rule.mean / T, percent = (x) => `${draw.num(100 * x, 2)} %`;
const q = draw.panel({ title: "Distances trained", ylabel: "share of tokens that see a key so far back", x: [0, T], y: [0, 1.19], xlabel: "distance to the key (tokens)" });
q.line(far, far.map((d) => 1 - d / T), "b", "d");
if (kind !== "fixed") q.line(far, far.map(seen)).line([0.02 * T, 0.08 * T], [1.12, 1.12]).note(0.1 * T, 1.09, kind);
q.line([0.52 * T, 0.58 * T], [1.12, 1.12], "b", "d").note(0.6 * T, 1.09, "fixed");
const updates = tokens / (batch * T);
draw.say(`<b>${draw.num(updates)}</b> updates read <b>${draw.num(tokens * rule.inverse)}</b> sequences` + (kind === "fixed" ? "" : ` (<b class="lc-b">${draw.num(tokens / T)}</b> at a fixed length), and attention takes <b>${percent(saved)}</b> fewer operations`) +
  `. A key half the target length back is seen by <b>${percent(seen(T / 2))}</b> of the tokens` + (kind === "fixed" ? "." : ', by <b class="lc-b">50 %</b> at a fixed length.'));
