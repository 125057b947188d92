"""Typeset the formulas of the book and store them, for ``make formulas``.

MathJax runs in the machine's own Chromium, and typesets each formula once, on
a page with all chapters. ``formulas.json`` stores its output and style sheet,
and ``_ext/course_light.py`` inserts them into the pages. Pages then do without
MathJax, which is larger than all the rest of a page.
"""

import json
import sys
from pathlib import Path

import pdf

STORED = Path(__file__).with_name("formulas.json")
# Scripts are loaded from here; the fonts' addresses are relative to it.
SCRIPTS = (pdf.PAGE.parent / "_static").as_uri() + "/"
# A formula has the size of the surrounding text. MathJax measures that in the
# browser for each formula; this rule holds for all formulas in every browser.
# 0.442 is the height of its letter x.
LARGE = 'mjx-container[jax="CHTML"] { font-size: calc(1ex / 0.442); }'
SET = """async () => {
  await MathJax.startup.promise;
  const formulas = {};
  for (const { math, display, typesetRoot } of MathJax.startup.document.math) {
    typesetRoot.style.removeProperty("font-size");
    const name = display ? `\\\\[${math}\\\\]` : `\\\\(${math}\\\\)`;
    formulas[name] = typesetRoot.outerHTML;
  }
  const { cssRules } = document.getElementById("MJX-CHTML-styles").sheet;
  return { formulas, styles: [...cssRules].map((rule) => rule.cssText) };
}"""


def main() -> None:
    browser = pdf.find_browser()
    if browser is None:
        sys.exit(
            f"Found no {', '.join(pdf.NAMES)} to typeset with: install one "
            "(Debian: apt install chromium) or set "
            f"{pdf.VARIABLE} to its path."
        )
    from playwright.sync_api import sync_playwright

    pdf.build_one_page()
    with sync_playwright() as driver:
        chromium = driver.chromium.launch(executable_path=browser)
        page = chromium.new_page(offline=True)
        page.set_default_timeout(pdf.PATIENCE)
        page.goto(pdf.PAGE.as_uri())
        made = page.evaluate(SET)
        chromium.close()
    styles = [rule.replace(SCRIPTS, "") for rule in made["styles"]]
    stored = {"formulas": made["formulas"], "styles": [*styles, LARGE]}
    text = json.dumps(stored, indent=0, sort_keys=True, ensure_ascii=False)
    STORED.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
