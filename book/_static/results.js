// The results tables (alexnet_course/results/page.py): sort, filter and search. A table reads without this script, so
// everything that needs it (buttons, fields) is made here.

function element(name, properties = {}, ...children) {
  const made = Object.assign(document.createElement(name), properties);
  made.append(...children);
  return made;
}

// A cell without a figure comes last in both directions; numbers are compared as such, words as words.
function compareCells(first, second, direction) {
  const [a, b] = [first.dataset.value, second.dataset.value];
  if (a === undefined || b === undefined) return (a === undefined) - (b === undefined);
  const difference = a - b;
  return direction * (Number.isNaN(difference) ? a.localeCompare(b, "en", { numeric: true }) : difference);
}

// A button in each head: once for ascending, twice for descending, a third time for the order of the page.
function makeSortable(table) {
  const body = table.tBodies[0];
  const original = [...body.rows];
  const heads = [...table.tHead.rows[0].cells];
  for (const [column, head] of heads.entries()) {
    if (!head.classList.contains("results-sort")) continue;
    const button = element("button", { type: "button" }, ...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const next = { none: "ascending", ascending: "descending", descending: "none" };
      const order = next[head.getAttribute("aria-sort") ?? "none"];
      for (const other of heads) other.removeAttribute("aria-sort");
      if (order !== "none") head.setAttribute("aria-sort", order);
      const direction = order === "descending" ? -1 : 1;
      const rows = order === "none" ? original
        : [...original].sort((a, b) => compareCells(a.cells[column], b.cells[column], direction));
      body.append(...rows);
    });
  }
}

function select(label, choices) {
  const options = Object.entries(choices).map(([value, text]) => element("option", { value }, text));
  const field = element("select", {}, ...options);
  return [field, element("label", {}, label, " ", field)];
}

// The fields above the table. A row is shown if it fits all of them; of the search, all words, in any of its cells.
function makeFilters(results, table) {
  const search = element("input", { type: "search", autocomplete: "off" });
  const there = new Set([...table.tBodies[0].rows].map((row) => row.dataset.budget));
  const budgets = ["long", "evening", "ablation", "cpu"].filter((name) => there.has(name)).map((name) => [name, name]);
  const [budget, budgetLabel] = select("Budget", { "": "all", ...Object.fromEntries(budgets) });
  const measured = element("input", { type: "checkbox" });
  const rows = [...table.tBodies[0].rows];
  const texts = rows.map((row) => [...row.cells].map((cell) => cell.textContent).join(" ").toLowerCase());
  const count = results.querySelector(".results-count");

  function filter() {
    const words = search.value.toLowerCase().split(/\s+/);
    for (const [index, row] of rows.entries()) {
      row.hidden = (budget.value && row.dataset.budget !== budget.value)
        || (measured.checked && row.dataset.budget === "none")
        || !words.every((word) => texts[index].includes(word));
    }
    count.textContent = `${rows.filter((row) => !row.hidden).length} of ${rows.length} rows`;
  }

  const form = element("form", { className: "results-filters" },
    element("label", {}, "Search ", search), budgetLabel, element("label", {}, measured, " only measured"));
  form.addEventListener("input", filter);
  form.addEventListener("submit", (event) => event.preventDefault());
  results.prepend(form);
}

function setUpResults() {
  for (const results of document.querySelectorAll(".results")) {
    const table = results.querySelector("table");
    makeFilters(results, table);
    makeSortable(table);
  }
}

if (document.readyState === "loading") document.addEventListener("DOMContentLoaded", setUpResults);
else setUpResults();
