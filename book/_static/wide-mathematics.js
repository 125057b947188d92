// A formula that is wider than a phone scrolls by itself; this lets the keyboard reach it, as the theme does for code.

function letKeyboardReachWideFormulas() {
  for (const formula of document.querySelectorAll('mjx-container[display="true"]')) {
    if (formula.scrollWidth > formula.clientWidth) formula.tabIndex = 0;
    else formula.removeAttribute("tabindex");
  }
}

window.addEventListener("load", async () => {
  await window.MathJax?.startup?.promise;
  letKeyboardReachWideFormulas();
  window.addEventListener("resize", letKeyboardReachWideFormulas);
});
