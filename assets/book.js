// What scrolls sideways can be reached, and so scrolled, with the keyboard.
(function () {
  const BOXES = "article :is(.output, .pst-scrollable-table-container, mjx-container[display=true], pre)";
  function mark() {
    for (const box of document.querySelectorAll(BOXES)) {
      if (box.scrollWidth > box.clientWidth + 1) box.tabIndex = 0;
      else box.removeAttribute("tabindex");
    }
  }
  addEventListener("load", () => (window.MathJax?.startup?.promise || Promise.resolve()).then(mark));
  addEventListener("resize", mark);
})();
