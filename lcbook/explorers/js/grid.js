const { lengths, names, depths, z2, level } = fixed, task = "task" in v ? v.task : fixed.task, haystack = "haystack" in v ? v.haystack : fixed.haystack;
const asked = fixed.asked[task], chance = 100 * fixed.chance[task], first = v.samples, columns = lengths.length, rows = depths.length;
const wilson = (k, m) => {
  if (!m) return [0, 1];
  const half = Math.sqrt(z2 * ((k * (m - k)) / m + z2 / 4)) / (m + z2), middle = (k + z2 / 2) / (m + z2);
  return [k === 0 ? 0 : Math.max(0, middle - half), k === m ? 1 : Math.min(1, middle + half)];
};
// A cell is a string: how many answers of each item were right, a digit to base 36 an item.
const cells = data[task][haystack].map((row) => row.map((items) => {
  const kept = [...items.slice(0, first)];
  return { right: kept.reduce((sum, x) => sum + parseInt(x, 36), 0), total: kept.length * asked };
}));
const pool = (list) => list.reduce((sum, x) => ({ right: sum.right + x.right, total: sum.total + x.total }), { right: 0, total: 0 });
const share = (x) => (x.total ? x.right / x.total : 0), every = (count, most) => draw.range(count).filter((i) => i % Math.ceil(count / most) === 0);
const gutter = 0.13 * columns, line = 0.09 * rows;
const p = draw.panel({ title: "Recall a cell", ylabel: "depth of the needle (%); full tone: all right", x: [-gutter, columns], y: [1.2 * rows, 0], bare: true });
p.cells(rows, columns, (r, c) => share(cells[r][c])).line([0, columns, columns, 0, 0], [0, 0, rows, rows, 0]);
every(rows, 8).forEach((r) => p.note(-0.15 * gutter, r + 0.5 + 0.02 * rows, draw.num(depths[r]), "end"));
every(columns, 6).forEach((c) => p.note(c + 0.5, rows + line, names[c], "middle"));
p.note(columns / 2, rows + 2 * line, "length (tokens)", "middle");
// A log axis from 2 to 9 has no tick of its own; the lengths stand below it, evenly spaced.
const at = draw.range(columns).map((c) => 2 * 4.5 ** ((c + 0.5) / columns)), pooled = draw.range(columns).map((c) => pool(cells.map((row) => row[c])));
const ends = pooled.map((x) => wilson(x.right, x.total)), scores = pooled.map(share);
const q = draw.panel({ title: "All depths", ylabel: "recall (%)", x: [2, 9], y: [0, 109], xlog: true, xlabel: "length (tokens)" });
q.level(chance, "chance", false).level(100 * level).band(at, ends.map((e) => 100 * e[0]), ends.map((e) => 100 * e[1]));
q.line(at, scores.map((x) => 100 * x)).dots(at, scores.map((x) => 100 * x));
every(columns, 6).forEach((c) => q.note(at[c], -9, names[c], "middle"));
const all = pool(cells.flat()), [low, high] = wilson(all.right, all.total), whole = (x) => `${Math.round(100 * x)}\u00a0%`;
let [worst, r0, c0] = [2, 0, 0];
cells.forEach((row, r) => row.forEach((x, c) => { if (x.total && share(x) < worst) [worst, r0, c0] = [share(x), r, c]; }));
const weak = cells[r0][c0], [least, most] = wilson(weak.right, weak.total), passed = draw.range(columns).filter((c) => pooled[c].total && scores[c] >= level - 1e-12);
const full = wilson(first * asked, first * asked)[0], effective = passed.length ? `${names[passed[passed.length - 1]]} tokens` : "no length";
draw.say(`First <b>${first}</b> ${first > 1 ? "items" : "item"} of each cell: <b>${whole(share(all))}</b> of ${draw.num(all.total)} answers right (95 % interval ${whole(low)} to ${whole(high)}). ` +
  `Lowest cell: ${weak.right} of ${weak.total} at ${names[c0]} tokens and depth ${draw.num(depths[r0])} %, that is ${whole(least)} to ${whole(most)}. ` +
  `A cell with all right still allows <b class="lc-b">${whole(full)}</b>. Longest length with ${draw.num(100 * level)} % or more: <b>${effective}</b>.`);
