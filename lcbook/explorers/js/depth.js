const kind = "training" in v ? v.training : fixed.training, entries = data[kind];
const entry = entries[entries.length > 1 ? fixed.levels.indexOf(v.strength) : 0];
const state = "state" in v ? fixed.states.indexOf(v.state) : fixed.first, found = entry.recall[state], other = entry.recall[1 - state];
const [depth, recall, low, high] = found, tenths = draw.range(fixed.bins), wide = 100 / fixed.bins;
const top = Math.max(2, Math.ceil(Math.max(...entry.weights)));
const p = draw.panel({ title: `Trained: ${kind}`, ylabel: "multiples of the uniform share", x: [0, 100], y: [0, top], xlabel: "depth of the needle (%)" });
p.bars(tenths.map((i) => i * wide), tenths.map(() => 0), entry.weights, wide * 0.92, "a").level(1);
const q = draw.panel({ title: "Recall by depth", ylabel: "recall (%)", x: [0, 100], y: [0, 119], xlabel: "depth of the needle (%)" });
q.level(100 * fixed.chance, "chance", false).band(depth, low, high);
if (other) q.line(other[0], other[1], "b", "d").dots(other[0], other[1], "b", true);
q.line(depth, recall).dots(depth, recall).line([0, 6], [112, 112]).note(8, 109, state ? "fine-tuned" : "as trained");
if (other) q.line([52, 58], [112, 112], "b", "d").note(60, 109, state ? "as trained" : "fine-tuned");
const three = ([, r]) => [r[0], r[Math.floor(r.length / 2)], r[r.length - 1]].map((x) => Math.round(x));
const wave = ([, r]) => Math.round(Math.max(...r) - Math.min(...r)), [start, middle, end] = three(found);
const likely = Math.max(...entry.weights) / Math.min(...entry.weights);
draw.say(`In training the most asked tenth was asked <b>${draw.num(likely, 2)}</b> time${likely > 1 ? "s" : ""} as often as the least. ` +
  `${state ? "After fine-tuning on uniform depths" : "As trained,"} ${fixed.seeds > 1 ? `${fixed.seeds} seeds` : "one seed"} recall${fixed.seeds > 1 ? "" : "s"} <b>${start} %</b> at the start, <b>${middle} %</b> in the middle and ` +
  `<b>${end} %</b> at the end; the depths differ by up to ${wave(found)} points` + (other ? `, ${state ? "as trained" : "after the fine-tuning"} by <b class="lc-b">${wave(other)}</b>.` : "."));
