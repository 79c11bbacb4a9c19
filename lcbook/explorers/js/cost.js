const w = v.width, L = v.layers, n = v.length, ends = [1024, 2 ** 24];
const full = Math.ceil(L / v.every), local = L - full, heads = w / headWidth, kv = headWidth * Math.max(1, heads / v.group);
const params = L * (2 * w * w + 2 * w * kv + 3 * mlp * w * w);
const pairs = (t, m) => Math.min(t, m) * t - Math.min(t, m) ** 2 / 2;
const linear = (t) => 2 * params * t, attention = (t) => 4 * w * (full * pairs(t, t) + local * pairs(t, near));
const cache = (t) => 2 * kv * v.bytes * (full * t + local * Math.min(t, near)), weights = params * v.bytes;
const prefill = (t) => (linear(t) + attention(t)) / (v.rate * 1e12), token = (t) => (weights + cache(t)) / (v.bandwidth * 1e9);
// Below the window all layers are alike; beyond it the crossing solves 2 w full t² + b t = 2 w local near².
const early = params / (w * L), b = 4 * w * local * near - 2 * params;
const cross = early <= near ? early : (-b + Math.sqrt(b * b + 16 * w * w * full * local * near * near)) / (4 * w * full);
const scaled = (x, names) => { const k = Math.max(0, Math.floor(Math.log10(x) / 3 + 1e-9)); return `${draw.num(x / 1000 ** k)} ${names[k]}`; };
const si = (x, unit) => scaled(x, ["", "k", "M", "G", "T", "P", "E", "Z", "Y"].map((k) => k + unit));
const time = (s) => {
  const [name, size] = [["years", 31536000], ["days", 86400], ["h", 3600], ["min", 60], ["s", 1], ["ms", 1e-3]].find((u) => s >= u[1]) || ["µs", 1e-6];
  return `${draw.num(s / size)} ${name}`;
};
const xs = draw.log(...ends, 57), legend = (p, y, t, tone, kind) => p.line([1200, 2600], [y, y], tone, kind).note(3200, y / 2, t);
const p = draw.panel({ title: "Work to read the text", ylabel: "floating-point operations", x: ends, xlog: true, y: [1e8, 1e22], ylog: true, xlabel: "length (tokens)" });
legend(p, 1e21, "projections and MLP", "a"); legend(p, 1e20, "attention", "b", "d");
p.shade(n, ends[1]).line(xs, xs.map(linear)).line(xs, xs.map(attention), "b", "d").dots([n], [linear(n)]).dots([n], [attention(n)], "b");
if (cross >= ends[0] && cross <= ends[1]) p.dots([cross], [linear(cross)], "a", true, 5).note(cross * (cross > 4e5 ? 0.8 : 1.4), Math.max(linear(cross) * (cross > 4e5 ? 30 : 1 / 60), 2e8), `equal at ${draw.num(cross)}`, cross > 4e5 ? "end" : "start");
const q = draw.panel({ title: "Time on this machine", ylabel: "seconds", x: ends, xlog: true, y: [1e-8, 1e11], ylog: true, xlabel: "length (tokens)" });
q.shade(n, ends[1]).level(1, "1 second").level(86400, "1 day", false);
legend(q, 5e9, "to read the text", "a"); legend(q, 2e8, "for each token written", "b", "d");
q.line(xs, xs.map(prefill)).line(xs, xs.map(token), "b", "d").dots([n], [prefill(n)]).dots([n], [token(n)], "b");
const share = (100 * attention(n)) / (attention(n) + linear(n));
draw.say(`A model of <b>${scaled(params, ["", "thousand", "million", "billion", "trillion"])}</b> parameters reads <b>${draw.num(n)}</b> tokens in <b>${time(prefill(n))}</b>: ` +
  `<b>${si(attention(n) + linear(n), "FLOP")}</b>, <b class="lc-b">${draw.num(share)} %</b> of it attention. Each token after that takes <b class="lc-b">${time(token(n))}</b>, ` +
  `to move ${si(weights, "B")} of weights and a KV cache of <b class="lc-b">${si(cache(n), "B")}</b>. The scores of one full layer, if stored, would fill <b>${si(heads * n * n * v.bytes, "B")}</b>.`);
