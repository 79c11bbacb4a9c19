const m = v.slope, n = v.length, gain = Math.exp(v.margin), far = 65536;
const endless = -1 / Math.expm1(-m), total = -endless * Math.expm1(-m * n);
const weight = (d) => 1 / (1 + (total * Math.exp(m * d) - 1) / gain), flat = gain / (gain + n - 1);
const half = Math.log((gain + 1) / total) / m, limit = Math.log((gain + 1) / endless) / m;
const p = draw.panel({ title: "Attention weight of the needle", x: [1, far], xlog: true, y: [0, 1], xlabel: "distance from the query to the needle (tokens)" });
const d = draw.log(1, n - 1, 400);
p.shade(n - 1, far).rule(n - 1, "end of the text", 30).line([1, n - 1], [flat, flat], "b", "d").line(d, d.map(weight));
p.note(1.15, flat + (flat > 0.5 ? -0.08 : 0.03), "without the bias");
if (half >= 1 && half < n) p.dots([half], [0.5], "a", false, 5).note(half * 1.2, 0.5, draw.num(half), "start");
const where = half < 0 ? "<b>nowhere</b>" : half < n ? `up to <b>${draw.num(half)}</b> tokens` : "<b>to the end</b> of the text";
draw.say(`With the bias the needle keeps half of the attention ${where}` + (limit > 0 ? ` (in a text without end: ${draw.num(limit)}). ` : ". ") +
  `Without it (dashed) it gets <b class="lc-b">${draw.num(flat)}</b> at every distance, and less in any longer text.`);
