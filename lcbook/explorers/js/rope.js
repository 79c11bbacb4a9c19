const m = v.width / 2, L = v.length, far = 64 * 8192, ratio = far ** (1 / 240);
const angle = draw.range(m).map((i) => v.base ** (-i / m)), mean = (list) => list.reduce((a, b) => a + b) / list.length;
const turns = angle.map((t) => (t * L) / (2 * Math.PI)), seen = turns.filter((t) => t >= 1), n = seen.length;
const left = draw.range(240).map((k) => ratio ** k), score = (d) => mean(angle.map((t) => Math.cos(d * t)));
const inside = left.map((d) => draw.range(17).map((j) => score(d * ratio ** (j / 16))));
const average = left.map((d) => mean(angle.map((t) => (Math.sin(d * ratio * t) - Math.sin(d * t)) / (d * (ratio - 1) * t))));
const p = draw.panel({ title: "Score of equal content", ylabel: "mean of cos(distance × angle), and its range", x: [1, far], xlog: true, y: [-1, 1], xlabel: "distance (tokens)" });
p.shade(L, far).band(left, inside.map((s) => Math.min(...s)), inside.map((s) => Math.max(...s)));
p.line(left.map((d) => d * Math.sqrt(ratio)), average).rule(L, "trained to " + draw.num(L));
const q = draw.panel({ title: "Turns at the training length", ylabel: "full turns of each channel", x: [-0.5, m - 0.5], whole: true, y: [1e-5, 1e4], ylog: true, xlabel: "channel, fast to slow" });
q.level(1, "one full turn").dots(draw.range(n), seen).dots(draw.range(m).slice(n), turns.slice(n), "b", true);
draw.say(`<b>${n} of ${m}</b> channels have seen every phase. ` + (n < m ? `The other <b class="lc-b">${m - n}</b> meet new phases in any longer text; ` : "A longer text brings no new one; ") +
  `the slowest has made ${draw.num(turns[m - 1])} turns.`);
