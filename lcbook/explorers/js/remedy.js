const { lengths, names, depths, chance, baseline } = fixed, hay = "haystack" in v ? v.haystack : fixed.hay;
const chosen = v.remedy, entry = data[hay][chosen], other = chosen === baseline ? null : data[hay][baseline];
const columns = lengths.length, rows = depths.length, every = (count, most) => draw.range(count).filter((i) => i % Math.ceil(count / most) === 0);
// Left: a raster, whose labels stand in a margin inside the panel.
const gutter = 0.13 * columns, line = 0.09 * rows;
const p = draw.panel({ title: `Recall: ${chosen}`, ylabel: "depth of the needle (%); full tone: all recalled", x: [-gutter, columns], y: [1.2 * rows, 0], bare: true });
p.cells(rows, columns, (r, c) => entry.map[r][c] / 100).line([0, columns, columns, 0, 0], [0, 0, rows, rows, 0]);
every(rows, 8).forEach((r) => p.note(-0.15 * gutter, r + 0.5 + 0.02 * rows, draw.num(depths[r]), "end"));
every(columns, 6).forEach((c) => p.note(c + 0.5, rows + line, names[c], "middle"));
p.note(columns / 2, rows + 2 * line, "length (tokens)", "middle");
// Right: a log axis from 2 to 9 has no tick of its own; the lengths stand below it, evenly spaced.
const at = draw.range(columns).map((c) => 2 * 4.5 ** ((c + 0.5) / columns)), span = (share) => 2 * 4.5 ** share;
const q = draw.panel({ title: "Recall by length", ylabel: "recall (%)", x: [2, 9], y: [0, 119], xlog: true, xlabel: "length (tokens)" });
q.level(chance, "chance", false).band(at, entry.low, entry.high);
if (other) q.line(at, other.recall, "b", "d").dots(at, other.recall, "b", true);
q.line(at, entry.recall).dots(at, entry.recall).line([span(0.02), span(0.08)], [112, 112]).note(span(0.1), 109, chosen);
if (other) q.line([span(0.56), span(0.62)], [112, 112], "b", "d").note(span(0.64), 109, baseline);
every(columns, 6).forEach((c) => q.note(at[c], -9.5, names[c], "middle"));
// Where recall first falls through one half, between two lengths on a log axis.
const half = (ys) => {
  const k = ys.findIndex((y, i) => i > 0 && y < 50 && ys[i - 1] >= 50);
  if (k < 0) return ys.every((y) => y >= 50) ? "one half or more at every length" : ys[0] < 50 && ys[columns - 1] < 50 ? "below one half at both ends" : "one half or more at the longest";
  const found = lengths[k - 1] * (lengths[k] / lengths[k - 1]) ** ((ys[k - 1] - 50) / (ys[k - 1] - ys[k]));
  return `below one half from about ${draw.num(+found.toPrecision(2))} tokens on`;
};
const told = (ys, tag) => `${tag}${Math.round(ys[0])} %</b> at ${draw.num(lengths[0])} tokens, ${tag}${Math.round(ys[columns - 1])} %</b> at ${draw.num(lengths[columns - 1])}, and ${half(ys)}`;
draw.say(`Recall of the same weights, ${chosen}: ${told(entry.recall, "<b>")}.` + (other ? ` As trained: ${told(other.recall, '<b class="lc-b">')}.` : ""));
