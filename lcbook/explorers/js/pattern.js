const n = 64, near = (w, apart, first) => (q, k) => (q - k < w * apart && (q - k) % apart === 0) || k < first;
const block = (b, i) => Math.floor(i / b);
const rule = {
  "full": () => () => true,
  "window": () => near(v.window, 1, v.globals),
  "dilated window": () => near(v.window, v.stride, v.globals),
  "window + stride": ({ window: w, stride: s } = v) => (q, k) => q - k < w || (q - k) % s === 0,
  "blocks": (b = v.window) => (q, k) => block(b, q) === block(b, k),
  "BigBird": (b = v.window, first = v.globals) => (q, k) => {
    const i = block(b, q), j = block(b, k);
    return i - j < 2 || j < first || drawn[first][i].includes(j);
  },
}[v.kind]();
const places = draw.range(n), last = n - 1, seen = places.map((q) => places.map((k) => k <= q && rule(q, k)));
const pairs = seen.flat().filter(Boolean).length, all = (n * (n + 1)) / 2;
// need[q][k]: the fewest layers through which the query hears of the key; 0 where none do.
const need = seen.map((row) => row.map(Number));
for (let l = 2, more = true; more; l++) {
  more = false;
  for (const q of places) for (let m = 0; m < q; m++) if (seen[q][m]) for (let k = 0; k < m; k++)
    if (!need[q][k] && need[m][k] && need[m][k] < l) { need[q][k] = l; more = true; }
}
const within = (x) => x > 0 && x <= v.layers, shade = (x) => (within(x) ? 0.85 ** (x - 1) : 0);
const told = need[last].filter(within).length, far = need[last].findIndex(within), whole = need[last].every(Boolean) && Math.max(...need[last]);
const panel = (title, of) => {
  const p = draw.panel({ title, x: [0, n], y: [n, 0], whole: true, square: true, xlabel: "place of the key", ylabel: "place of the query, last one in orange" });
  return p.cells(n, n, (q, k) => (q < last ? of(q, k) : 0)).cells(n, n, (q, k) => (q < last ? 0 : of(q, k)), "b");
};
panel("One layer sees", (q, k) => +seen[q][k]);
const p = panel(v.layers > 1 ? `${v.layers} layers can pass on` : "1 layer can pass on", (q, k) => shade(need[q][k]));
p.line([far, far], [far, n], "b", "d").note(far < 50 ? Math.max(far, 6) + 2 : n - 1, Math.max(far, 6) - 1, `${last - far} back`, far < 50 ? "start" : "end");
p.cells(n, n, (r, c) => (r > 9 && r < 13 && c >= n - 4 * v.layers ? 0.85 ** block(4, c - n + 4 * v.layers) : 0));
p.note(n, 8.5, "layers needed", "end");
draw.range(v.layers).forEach((l) => p.note(n - 4 * v.layers + 4 * l + 2, 16.5, l + 1, "middle"));
const product = v.kind === "window" && !v.globals && last - far === v.layers * (v.window - 1) ? `, that is ${v.layers}&nbsp;×&nbsp;(${v.window}&nbsp;−&nbsp;1)` : "";
draw.say(`One layer computes <b>${draw.num(pairs)}</b> of ${draw.num(all)} pairs, <b>${draw.num((100 * pairs) / all)} %</b> of the cost of full attention. ` +
  `After ${v.layers} layer${v.layers > 1 ? "s" : ""} the last token can be told of <b class="lc-b">${told}</b> of the ${n} tokens, the farthest <b class="lc-b">${last - far}</b> places back${product}. ` +
  (!whole ? "More layers never reach the whole text." : whole > v.layers ? `The whole text takes ${whole} layers.` : "That is the whole text."));
