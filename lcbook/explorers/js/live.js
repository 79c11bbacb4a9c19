// The script of a live explorer. __ID__, __SPEC__ and __BODY__ are filled in by lcbook.explore.live.
(() => {
  "use strict";
  const script = document.currentScript;
  const root = (script && script.closest(".lc-explorer")) || document.getElementById("__ID__");
  const spec = __SPEC__;
  const update = (v, draw) => {
__BODY__
  };
  const find = (query) => root.querySelector(query);
  const inputs = [...root.querySelectorAll("input,select")], view = find(".lc-view"), say = find(".lc-say");
  const esc = (t) => String(t).replace(/[&<>"]/g, (c) => `&#${c.charCodeAt(0)};`);
  const num = (x, digits = 3) => {
    if (Math.abs(x) >= 1000) return Math.round(x).toLocaleString("en-US");
    return Math.abs(x) >= 1e-6 || !x ? String(+x.toPrecision(digits)) : x.toExponential(1);
  };
  const named = (x) => (x > 0 && x <= 0.25 && Number.isInteger(Math.log2(x)) ? `1/${1 / x}` : num(x));
  const tick = (t) => {
    if (t >= 1e3 && t < 1e9) return t >= 1e6 ? `${t / 1e6}M` : `${t / 1e3}k`;
    if (t <= 0 || (t >= 0.01 && t < 1e3)) return String(+t.toPrecision(6)).replace("-", "−");
    return "10" + [...String(Math.round(Math.log10(t)))].map((c) => "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"["-0123456789".indexOf(c)]).join("");
  };
  const ticks = (ends, log, room, whole) => {
    const [a, b] = [Math.min(...ends), Math.max(...ends)];
    const span = log ? Math.log10(b / a) : b - a, most = Math.max(2, room), out = [];
    let step = log ? Math.ceil(span / most) : 10 ** Math.floor(Math.log10(span / most));
    if (!log) step *= [1, 2, 2.5, 5, 10].find((k) => span / (step * k) <= most);
    if (whole) step = step === 2.5 ? 5 : Math.max(1, step);
    const [from, to] = log ? [Math.log10(a), Math.log10(b)] : [a, b];
    for (let k = Math.ceil(from / step - 1e-9); k * step <= to + 1e-9; k++) out.push(log ? 10 ** (k * step) : +(k * step).toPrecision(9));
    return out;
  };
  const scale = ([a, b], log, size) => (t) => size * (log ? Math.log(t / a) / Math.log(b / a) : (t - a) / (b - a));
  let width = 0, parts = [], count = 0;
  const across = () => (width >= 560 ? Math.min(spec.panels, Math.floor(width / 220)) : 1);
  const text = (x, y, t, anchor = "start", kind = "") => `<text x="${x.toFixed(1)}" y="${y.toFixed(1)}" text-anchor="${anchor}" class="${kind}">${esc(t)}</text>`;
  const panel = (o) => {
    const columns = across(), w = width / columns, k = count++;
    const pad = o.bare ? 7 : 44, head = o.ylabel ? 44 : 28, left = (k % columns) * w + pad, top = Math.floor(k / columns) * spec.height + head;
    let iw = w - pad - (k % columns < columns - 1 ? 18 : 10), ih = spec.height - head - (o.bare ? 12 : 46);
    if (o.square) iw = ih = Math.min(iw, ih);
    const X = scale(o.x, o.xlog, iw), Y = (t) => ih - scale(o.y, o.ylog, ih)(t);
    const put = (s) => (parts.push(`<g transform="translate(${left},${top})">${s}</g>`), p);
    const clip = (s) => put(`<svg width="${iw}" height="${ih}" style="overflow:hidden;width:${iw}px">${s}</svg>`);
    const at = (xs, ys) => Array.from(xs, (x, i) => `${X(x).toFixed(1)},${Y(ys[i]).toFixed(1)}`);
    const side = (x) => (X(x) > iw * 0.6 ? [-6, "end"] : [6, "start"]);
    const p = {
      line: (xs, ys, tone = "a", kind = "") => clip(`<polyline class="l ${kind}" style="stroke:var(--${tone})" points="${at(xs, ys).join(" ")}"/>`),
      band: (xs, low, high, tone = "a") => clip(`<polygon class="f" style="fill:var(--${tone})" points="${[...at(xs, low), ...at(xs, high).reverse()].join(" ")}"/>`),
      dots: (xs, ys, tone = "a", hollow = false, r = 3) => put(at(xs, ys).map((c) => c.split(",")).map(([x, y]) =>
        `<circle cx="${x}" cy="${y}" r="${r}" style="stroke:var(--${tone});stroke-width:1.5;fill:${hollow ? "none" : `var(--${tone})`}"/>`).join("")),
      rule: (x, t = "", y = 12) => put(`<path class="r" d="M${X(x).toFixed(1)} 0V${ih}"/>` + text(X(x) + side(x)[0], y < 0 ? ih + y : y, t, side(x)[1])),
      level: (y, t = "", end = true) => put(`<path class="r" d="M0 ${Y(y).toFixed(1)}H${iw}"/>` + text(end ? iw : 4, Y(y) - 5, t, end ? "end" : "start")),
      shade: (a, b) => clip(`<rect class="s" x="${X(a).toFixed(1)}" y="0" width="${Math.max(0, X(b) - X(a)).toFixed(1)}" height="${ih}"/>`),
      note: (x, y, t, anchor = "start", kind = "") => put(text(X(x), Y(y), t, anchor, kind)),
      bars: (xs, low, high, wide, tone = "") => put(Array.from(xs, (x, i) => `<rect ${tone ? `class="c" style="fill:var(--${tone})"` : 'class="s"'} x="${X(x).toFixed(1)}" ` +
        `y="${Math.min(Y(low[i]), Y(high[i])).toFixed(1)}" width="${(X(x + wide) - X(x)).toFixed(1)}" height="${Math.abs(Y(high[i]) - Y(low[i])).toFixed(1)}"/>`).join("")),
      cells: (rows, columns, shade, tone = "a") => {
        const runs = {}, px = (t) => t.toFixed(1);
        for (let r = 0; r < rows; r++) {
          const row = draw.range(columns).map((c) => Math.min(1, Math.max(0, shade(r, c))).toFixed(2));
          for (let c = 0, to; c < columns; c = to) {
            for (to = c + 1; row[to] === row[c]; ) to++;
            if (row[c] > 0) runs[row[c]] = `${runs[row[c]] || ""}M${px(X(c))} ${px(Y(r))}H${px(X(to))}V${px(Y(r + 1))}H${px(X(c))}z`;
          }
        }
        return put(Object.keys(runs).map((s) => `<path class="c" style="fill:var(--${tone});fill-opacity:${s}" d="${runs[s]}"/>`).join(""));
      },
    };
    put((o.bare ? "" : ticks(o.x, o.xlog, iw / 52, o.whole).map((t) => `<path class="g" d="M${X(t).toFixed(1)} 0V${ih}"/>` + text(X(t), ih + 16, tick(t), "middle")).join("") +
      ticks(o.y, o.ylog, ih / 32, o.ywhole).map((t) => `<path class="g" d="M0 ${Y(t).toFixed(1)}H${iw}"/>` + text(-7, Y(t) + 4, tick(t), "end")).join("") +
      `<path class="x" d="M0 0V${ih}H${iw}"/>`) + text(iw / 2, ih + 36, o.xlabel || "", "middle") +
      text(7 - pad, o.ylabel ? -28 : -12, o.title || "", "start", "t") + text(7 - pad, -10, o.ylabel || ""));
    return p;
  };
  const draw = {
    panel, num,
    say: (html) => { say.innerHTML = html; },
    range: (n) => Array.from({ length: n }, (_, i) => i),
    log: (a, b, n) => Array.from({ length: n }, (_, i) => a * (b / a) ** (i / (n - 1))),
  };
  const paint = () => {
    width = view.clientWidth;
    if (!width) return;
    parts = []; count = 0;
    const v = {}, read = new Set();
    spec.controls.forEach(({ name, values }, i) => {
      const value = values[+inputs[i].value];
      Object.defineProperty(v, name, { enumerable: true, get: () => (read.add(name), value) });
    });
    update(v, draw);
    spec.controls.forEach(({ name, values, unit }, i) => {
      const input = inputs[i], off = !read.has(name);
      input.disabled = off;
      input.parentNode.classList.toggle("lc-off", off);
      if (input.type !== "range") return;
      const shown = off ? "not used" : named(values[+input.value]) + unit;
      input.setAttribute("aria-valuetext", shown);
      input.previousElementSibling.textContent = shown;
    });
    const rows = Math.ceil(count / across());
    view.firstElementChild.setAttribute("viewBox", `0 0 ${width} ${rows * spec.height}`);
    view.firstElementChild.innerHTML = parts.join("");
  };
  let asked = 0, last = 0;
  const ask = () => { cancelAnimationFrame(asked); asked = requestAnimationFrame(paint); };
  view.innerHTML = `<svg role="img" aria-label="${esc(spec.alt)}"></svg>`;
  root.classList.add("lc-on");
  inputs.forEach((input) => input.addEventListener("input", ask));
  new ResizeObserver(() => { if (view.clientWidth !== last) { last = view.clientWidth; ask(); } }).observe(view);
  paint();
})();
