// The quizzes at the end of the chapters (book/_ext/quiz.py) check themselves. They read without this script, so the
// buttons and the places for the verdicts are made here; the explanations are those of the folded solutions.

(() => {
  "use strict";

  function make(name, properties = {}, ...children) {
    const made = Object.assign(document.createElement(name), properties);
    made.append(...children);
    return made;
  }

  // "9,216" and "9 216" are 9216; "0,91", as many write it, is 0.91; "4,985" may be either, so it is both. None for what
  // is no number.
  function toNumbers(text) {
    const bare = text.trim().replace(/[\s\u00a0_']/g, "").replace("−", "-");
    const grouped = /^-?[1-9]\d{0,2}(,\d{3})+(\.\d+)?$/.test(bare) ? [bare.replaceAll(",", "")] : [];
    const numbers = [...grouped, bare.replace(",", ".")].filter((each) => each !== "").map(Number);
    return numbers.filter((number) => !Number.isNaN(number));
  }

  // The explanation (a list item of the solution) for what the reader chose or wrote; a text where there is none.
  function explanation(fieldset, solution) {
    const items = [...solution.querySelectorAll("li")];
    if (fieldset.dataset.tolerance === undefined) {
      const chosen = fieldset.querySelector("input:checked");
      return chosen ? items.find((item) => item.dataset.answer === chosen.value) : "Choose an answer first.";
    }
    const numbers = toNumbers(fieldset.querySelector("input").value);
    if (!numbers.length) return "Write a number first, such as 12 or 0.5.";
    const reach = Number(fieldset.dataset.tolerance) + 1e-9;
    const near = (number) => items.find((item) => Math.abs(Number(item.dataset.answer ?? NaN) - number) <= reach);
    return numbers.map(near).find((item) => item) ?? items.at(-1); // the last one is for any other number
  }

  function setUpQuestion(fieldset, onChange) {
    const solution = fieldset.nextElementSibling;
    const legend = fieldset.querySelector("legend strong").textContent.trim();
    const button = make("button", { type: "button" }, "Check");
    const verdict = make("p", { className: "quiz-verdict" });
    const question = { right: false, checked: false, check, clear };
    button.setAttribute("aria-label", `Check ${legend.replace("Question", "question").replace(/\.$/, "")}`);
    verdict.setAttribute("role", "status");
    fieldset.append(button, verdict);

    function check() {
      const found = explanation(fieldset, solution);
      if (typeof found === "string") {
        clear();
        verdict.textContent = found;
        return;
      }
      question.checked = true;
      question.right = found.dataset.right !== undefined;
      const sign = make("span", { ariaHidden: "true" }, question.right ? "✓ " : "✗ ");
      const word = make("strong", {}, question.right ? "Right. " : "Not right. ");
      const why = found.querySelector(".quiz-why").cloneNode(true);
      for (const formula of why.querySelectorAll("[tabindex]")) formula.removeAttribute("tabindex"); // no menu in a copy
      verdict.replaceChildren(sign, word, ...why.childNodes);
      verdict.className = `quiz-verdict ${question.right ? "quiz-right" : "quiz-wrong"}`;
      onChange();
    }

    function clear() {
      question.right = question.checked = false;
      verdict.className = "quiz-verdict";
      verdict.replaceChildren();
      onChange();
    }

    button.addEventListener("click", check);
    fieldset.addEventListener("input", clear); // a verdict never stands beside another answer
    fieldset.addEventListener("keydown", (event) => {
      if (event.key === "Enter" && event.target.matches("input")) check();
    });
    return question;
  }

  function setUpQuiz(quiz) {
    const count = make("p", { className: "quiz-count" });
    const again = make("button", { type: "button", hidden: true }, "Try again");
    const fieldsets = [...quiz.querySelectorAll("fieldset")];
    const questions = [];
    count.setAttribute("role", "status");

    function showCount() {
      const right = questions.filter((question) => question.right).length;
      const open = questions.filter((question) => !question.checked).length;
      const tried = open < questions.length;
      const rest = open ? `, ${open} to go` : "";
      const text = tried ? `${right} of ${questions.length} right${rest}` : "";
      if (count.textContent !== text) count.textContent = text; // what has not changed is not read out again
      if (tried) again.hidden = false;
    }

    again.addEventListener("click", () => {
      for (const [index, fieldset] of fieldsets.entries()) {
        for (const input of fieldset.querySelectorAll("input")) {
          if (input.type === "radio") input.checked = false;
          else input.value = "";
        }
        questions[index].clear();
        fieldset.nextElementSibling.open = false;
      }
      fieldsets[0].querySelector("input").focus();
      again.hidden = true;
    });

    questions.push(...fieldsets.map((fieldset) => setUpQuestion(fieldset, showCount)));
    quiz.append(make("div", { className: "quiz-bar" }, count, again));
  }

  function setUp() {
    for (const quiz of document.querySelectorAll(".quiz")) setUpQuiz(quiz);
  }

  if (document.readyState === "loading") document.addEventListener("DOMContentLoaded", setUp);
  else setUp();
})();
