// The script of an explorer made of frames. __ID__ and __SPEC__ are filled in by lcbook.explore.frames.
(() => {
  "use strict";
  const script = document.currentScript;
  const root = (script && script.closest(".lc-explorer")) || document.getElementById("__ID__");
  const spec = __SPEC__;
  const input = root.querySelector("input"), image = root.querySelector("img");
  const shown = root.querySelector(".lc-value");
  const ready = spec.frames.map((source, i) => { const copy = new Image(); copy.src = i ? source : image.src; return copy; });
  const show = () => {
    const i = +input.value;
    image.src = ready[i].src;
    image.alt = `${spec.alt} (${spec.name}: ${spec.labels[i]})`;
    shown.textContent = spec.labels[i];
    input.setAttribute("aria-valuetext", spec.labels[i]);
  };
  root.classList.add("lc-on");
  input.addEventListener("input", show);
  show();
})();
