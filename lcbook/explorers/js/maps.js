const name = v.head ?? names[0], rows = maps[names.indexOf(name)], n = tokens.length, query = v.query;
const weight = (q, k) => (k <= q ? (rows[q][k] ?? 0) / 1000 : 0), places = draw.range(n), plain = (t) => t.replace(/[&<>]/g, (c) => `&#${c.charCodeAt(0)};`);
const p = draw.panel({ title: name, x: [0, n], y: [n, 0], whole: true, ywhole: true, square: true, xlabel: "place of the key", ylabel: "place of the query, the chosen one in orange" });
p.cells(n, n, (q, k) => (q === query ? 0 : weight(q, k))).cells(n, n, (q, k) => (q === query ? weight(q, k) : 0), "b");
p.line([0, n, n, 0, 0], [query, query, query + 1, query + 1, query], "b");
// The scale stands where no query looks: above the diagonal.
const from = Math.ceil(n / 2), wide = n - from, tall = Math.max(1, Math.round(n / 20)), line = n * 0.055;
if (n > 7) {
  p.cells(n, n, (r, c) => (r >= tall && r < 2 * tall && c >= from ? (c - from) / (wide - 1) : 0));
  p.note(from, 2 * tall + line, "0").note((from + n) / 2, 2 * tall + line, "weight", "middle").note(n, 2 * tall + line, "1", "end");
}
const lines = Math.ceil(n / columns), line_of = (k) => Math.floor(k / columns), x = (k) => (k % columns) + 0.14;
const foot = (k) => line_of(k) + 0.74, tip = (k, w) => foot(k) - 0.5 * w, seen = places.slice(0, query + 1);
const t = draw.panel({ title: `From “${tokens[query]}” at place ${query}`, ylabel: "weight on each token (grey: 1; same token: orange)", x: [0, columns], y: [lines, 0], bare: true });
t.bars(seen.map(x), seen.map(foot), seen.map((k) => tip(k, 1)), 0.72).bars(seen.map(x), seen.map(foot), seen.map((k) => tip(k, weight(query, k))), 0.72, "b");
for (const k of places) {
  t.note(x(k) + 0.36, line_of(k) + 0.95, tokens[k], "middle", k > query ? "o" : tokens[k] === tokens[query] ? "q" : "");
  if (weight(query, k) >= 0.05) t.note(x(k) + 0.36, tip(k, weight(query, k)) - 0.03, weight(query, k).toFixed(2), "middle");
}
const order = [...seen].sort((a, b) => weight(query, b) - weight(query, a)).slice(0, 3).filter((k) => weight(query, k) > 0);
const where = (k) => (k === query ? "itself" : `“${plain(tokens[k])}” at place ${k}${k === query - 1 ? ", just before" : ""}`);
draw.say(`In ${name}, “${plain(tokens[query])}” at place ${query} puts ` +
  order.map((k, i) => `<b class="lc-b">${draw.num(weight(query, k))}</b> on ${where(k)}`).join("; ") + ".");
