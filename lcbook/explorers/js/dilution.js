const { trained, kept, high, last, lowest, step, tails } = fixed, { margin, spread, normalizer } = v;
// The distractors' standard normal scores, ascending, and how many of n - 1 have each, as lcbook.explorers_dilution.distractors.
const distractors = (n) => {
  const above = (k) => (n - 1) * tails[k], edge = (k) => lowest + step * k, zs = [], counts = [];
  let k = 0;
  for (; above(k + 1) > last; k++) { zs.push(edge(k) + step / 2); counts.push(above(k) - above(k + 1)); }
  const top = edge(k) + (step * Math.log(above(k) / last)) / Math.log(above(k) / above(k + 1));
  zs.push((edge(k) + top) / 2, top);
  counts.push(above(k) - last, last);
  return { zs, counts };
};
const power = { "sparsemax": 1, "entmax 1.5": 2 };  // weights are [score / power - tau]_+ ^ power
const scale = (name, n) => (name === "log-n softmax" ? Math.log(n) / Math.log(trained) : 1);
// tau at which the weights of the scores, already divided by the power, sum to the total.
const threshold = (scores, counts, pow, total) => {
  let high = Math.max(...scores), low = high - 2;
  for (let i = 0; i < 50; i++) {
    const tau = (low + high) / 2;
    let sum = 0;
    for (let j = 0; j < scores.length; j++) if (scores[j] > tau) sum += counts[j] * (scores[j] - tau) ** pow;
    if (sum > total) low = tau; else high = tau;
  }
  return low;
};
// log of the sum that the needle's exp(score) stands against under softmax and its kin.
const against = (name, n, zs, counts) => {
  let sum = name === "off-by-one softmax" ? 1 : 0, room = name === "top-16" ? kept - 1 : Infinity;
  for (let j = zs.length - 1; j >= 0 && room > 0; j--) {
    const used = Math.min(counts[j], room);
    sum += used * Math.exp(scale(name, n) * spread * zs[j]);
    room -= used;
  }
  return Math.log(sum);
};
const share = (logit) => 1 / (1 + Math.exp(-logit)), needed = Math.log(high / (1 - high));
const weight = (name, n) => {
  if (name === "sigmoid") return share(margin - Math.log(n));
  const { zs, counts } = distractors(n), pow = power[name];
  if (pow) {
    const scores = [...zs.map((z) => (spread * z) / pow), margin / pow];
    return Math.min(1, Math.max(0, margin / pow - threshold(scores, [...counts, 1], pow, 1)) ** pow);
  }
  const higher = zs.reduce((sum, z, j) => sum + (spread * z > margin ? counts[j] : 0), 0);
  if (name === "top-16" && higher >= kept) return 0;
  return share(scale(name, n) * margin - against(name, n, zs, counts));
};
const marginFor = (name, n) => {
  if (name === "sigmoid") return needed + Math.log(n);
  const { zs, counts } = distractors(n), pow = power[name];
  if (pow) return Math.max(0, pow * (threshold(zs.map((z) => (spread * z) / pow), counts, pow, 1 - high) + high ** (1 / pow)));
  return Math.max(0, (needed + against(name, n, zs, counts)) / scale(name, n));
};
const far = 2 ** 20, most = 2 ** 30, keys = draw.log(16, far, 65), plain = normalizer === "softmax", names = plain ? [normalizer] : [normalizer, "softmax"];
const p = draw.panel({ title: "The needle's weight", ylabel: "weight", x: [16, far], y: [0, 1.19], xlog: true, xlabel: "keys" });
const q = draw.panel({ title: `Margin for a weight of ${high}`, ylabel: "nats; the level is the margin chosen", x: [16, far], y: [0, 28], xlog: true, xlabel: "keys" });
p.shade(16, trained).level(0.5);
q.shade(16, trained).level(margin);
names.forEach((name, i) => {
  p.line(keys, keys.map((n) => weight(name, n)), "ab"[i], i ? "d" : "").line(i ? [6000, 16000] : [20, 52], [1.12, 1.12], "ab"[i], i ? "d" : "").note(i ? 20000 : 64, 1.09, name);
  q.line(keys, keys.map((n) => marginFor(name, n)), "ab"[i], i ? "d" : "");
});
p.note(18, 0.03, `to ${trained}`);
q.note(18, 0.7, `to ${trained}`);
// Where the weight first falls through one half up to 2^30 keys.
const half = (name, tag) => {
  const grid = draw.log(16, most, 105), ws = grid.map((n) => weight(name, n)), k = ws.findIndex((w, i) => i > 0 && w < 0.5 && ws[i - 1] >= 0.5);
  if (k < 0) return ws[ws.length - 1] >= 0.5 ? "at least one half even at a billion keys" : "below one half from 16 keys on";
  let [low, high] = [grid[k - 1], grid[k]];
  for (let i = 0; i < 30; i++) {
    const middle = Math.sqrt(low * high);
    if (weight(name, middle) >= 0.5) low = middle; else high = middle;
  }
  return `below one half from ${tag}${draw.num(Math.ceil(+high.toPrecision(3)))}</b> keys on`;
};
const told = (name, tag) => `${tag}${draw.num(weight(name, trained), 2)}</b> among ${trained} keys and ${tag}${draw.num(weight(name, far), 2)}</b> among 1M, and is ${half(name, tag)}`;
draw.say(`Under ${normalizer} the needle's weight is ${told(normalizer, "<b>")}.` + (plain ? "" : ` Under softmax it is ${told("softmax", '<b class="lc-b">')}.`));
