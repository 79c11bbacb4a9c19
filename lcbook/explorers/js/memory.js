const n = v.pairs, d = v.width, places = draw.range(most);
const uniform = (k) => {
  const a = (Math.imul(k, 0x6d2b79f5) + 7) | 0;
  let t = Math.imul(a ^ (a >>> 15), a | 1);
  t = (t + Math.imul(t ^ (t >>> 7), t | 61)) ^ t;
  return (((t ^ (t >>> 14)) >>> 0) + 0.5) / 2 ** 32;
};
// With keys that come again each third write goes to the key two writes before.
const again = (i) => v.keys === "reused" && i % 3 === 2;
const replacedAt = places.map((i) => (i % 3 === 0 && again(i + 2) ? i + 2 : Infinity));
const drawPairs = (m) => {
  const normal = (k) => Math.sqrt(-2 * Math.log(uniform(2 * k))) * Math.cos(2 * Math.PI * uniform(2 * k + 1));
  const keys = [], values = [], any = (i, count) => Math.floor(count * uniform(1e6 + m * most + i));
  for (const i of places) {
    const raw = draw.range(d).map((c) => normal((m * most + i) * widest + c)), norm = Math.hypot(...raw);
    keys.push(again(i) ? keys[i - 2] : raw.map((x) => x / norm));
    values.push(again(i) ? (values[i - 2] + 1 + any(i, kinds - 1)) % kinds : any(i, kinds));
  }
  return { keys, values };
};
// Writes the pairs in order and keeps what each key reads, which the overlaps of the keys suffice for.
const store = ({ keys, values }, overlap, rule, each) => {
  const reads = places.map(() => new Float64Array(kinds));
  for (const w of places) {
    const change = reads[w].map((x, c) => (c === values[w]) - (rule === "delta" ? x : 0));
    for (const i of places) for (let c = 0; c < kinds; c++) reads[i][c] += overlap[w][i] * change[c];
    each(w, change, (i) => {
      let best = -Infinity;
      for (let c = 0; c < kinds; c++) if (c !== values[i] && reads[i][c] > best) best = reads[i][c];
      return reads[i][values[i]] - best;
    });
  }
};
const live = places.map((w) => places.filter((i) => i <= w && replacedAt[i] > w));
const rules = ["additive", "delta"], recall = { additive: places.map(() => 0), delta: places.map(() => 0) };
const state = draw.range(d).map(() => new Float64Array(kinds));
let leads = [];
for (const m of draw.range(memories)) {
  const drawn = drawPairs(m), overlap = places.map(() => new Float64Array(most));
  for (const i of places) for (let j = 0; j <= i; j++) {
    let sum = 0;
    for (let c = 0; c < d; c++) sum += drawn.keys[i][c] * drawn.keys[j][c];
    overlap[i][j] = overlap[j][i] = sum;
  }
  for (const rule of rules) store(drawn, overlap, rule, (w, change, lead) => {
    const all = live[w].map(lead), right = all.filter((x) => x > 1e-9).length;
    recall[rule][w] += right;
    if (m || rule !== v.rule || w >= n) return;
    drawn.keys[w].forEach((x, r) => change.forEach((y, c) => { state[r][c] += x * y; }));
    leads = all;
  });
}
for (const rule of rules) recall[rule] = recall[rule].map((count, w) => count / (live[w].length * memories));
const shown = live[n - 1], right = leads.filter((x) => x > 1e-9).length, other = rules[v.rule === rules[0] ? 1 : 0];
const top = Math.max(...state.flatMap((row) => [...row].map(Math.abs)));
draw.panel({ title: `State: ${d} × ${kinds}`, ylabel: "key channel, blue +, orange −", x: [0, kinds], y: [d, 0], whole: true, ywhole: true,
  xlabel: `value; full tone is ${draw.num(top, 2)}` })
  .cells(d, kinds, (r, c) => state[r][c] / top).cells(d, kinds, (r, c) => -state[r][c] / top, "b");
const high = Math.max(1, Math.ceil(Math.max(...leads))), low = Math.min(-1, Math.floor(Math.min(...leads))), up = high + (high - low) * 0.1;
const p = draw.panel({ title: `${right} of ${shown.length} pairs right`, ylabel: "lead over the best wrong value", x: [0, most], y: [low, up + (high - low) * 0.1],
  whole: true, ywhole: true, xlabel: "pair, in the order stored" });
const put = (good, tone, hollow) => {
  const kept = shown.map((i, k) => [i + 1, leads[k]]).filter(([, x]) => x > 1e-9 === good);
  p.dots(kept.map(([i]) => i), kept.map(([, x]) => x), tone, hollow);
};
p.level(0);
put(true, "a", false);
put(false, "b", true);
p.dots([2], [up], "a").note(5, up - (high - low) * 0.025, "right").dots([32], [up], "b", true).note(35, up - (high - low) * 0.025, "wrong");
const many = places.map((i) => i + 1), q = draw.panel({ title: "Recall by pairs", ylabel: `share right, ${memories} memories`, x: [0, most], y: [0, 1.2],
  whole: true, xlabel: "pairs stored" });
q.shade(0, d).level(1 / kinds, "", false).line(many, recall[v.rule]).line(many, recall[other], "b", "d");
q.dots([n], [recall[v.rule][n - 1]]).dots([n], [recall[other][n - 1]], "b", true);
q.line([1, 7], [1.12, 1.12]).note(9, 1.09, v.rule).line([36, 42], [1.12, 1.12], "b", "d").note(44, 1.09, other).note(0.5, 0.09, "chance");
const percent = (x) => `${Math.round(100 * x)} %`, gone = n - shown.length;
draw.say(`Written by the ${v.rule} rule, this memory of <b>${d * kinds}</b> numbers gives back <b>${right}</b> of ${shown.length} pairs. ` +
  `${memories} like it give back <b>${percent(recall[v.rule][n - 1])}</b>, and <b class="lc-b">${percent(recall[other][n - 1])}</b> by the ${other} rule; ` +
  `a guess is right once in ${kinds}.` + (gone ? ` Not asked: the ${gone > 1 ? `${gone} pairs` : "pair"} whose key has a newer value.` : ""));
