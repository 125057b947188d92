"""Words and phrases that native readers would stumble over: none is left in the book, its README or the package.

Each entry of ``WORDS`` has a pattern, the advice, a sentence that it catches and one that it leaves alone. The style
guide is the section "How we write" of CONTRIBUTING.md, which quotes bad examples and is therefore not searched.
"""

from __future__ import annotations

import ast
import io
import json
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).resolve().parents[1]


class Word(NamedTuple):
    """A pattern, ignoring case and line breaks, with what to write instead."""

    pattern: str
    advice: str
    caught: str
    left: str


LAYER = "ReLUs?|layers?|pools?|pooling|convolutions?|batch norm|norms?|average"
THING = "file|folder|text|image|number|record|recipe|checkout|network|list|directory|choice"

WORDS = [
    # The terms of the field.
    Word(r"\bpictures?\b", "image", "A picture of a cat.", "A pictured cat in an image."),
    Word(r"\bput(?:s|ting)? out\b", "output", "What the layer puts out.", "It puts the outputs in a list."),
    Word(r"\bgives? out\b", "output", "The layer gives out 10 values.", "The layer gives 10 values."),
    Word(r"\bwhat arrives\b", "the input", "It cannot take what arrives.", "What arrived in 2012 was AlexNet."),
    Word(
        r"\bwhat comes out of (?:(?:the|a|each)\b|conv|fc)",
        "the output",
        "What comes out of conv1 is normalised.",
        "See what comes out of them.",
    ),
    Word(r"\bwhole numbers?\b", "integer", "Give a whole number.", "The whole image, and a number."),
    Word(r"\b(?:the|an?|each) processors?\b", "the CPU", "Copy it to the processor.", "A streaming multiprocessor."),
    Word(r"\bfirst weights\b", "initial weights", "PyTorch's first weights.", "The first layer's weights."),
    Word(r"\bthe ways? (?:back|forward)\b", "backward pass", "On the way back, they shrink.", "There is no way back."),
    Word(r"\bpass(?:es)? (?:back|forward)\b", "backward pass", "One pass back.", "One backward pass; pass it on."),
    Word(r"\b(?:list|dense) layers?\b", "fully connected layer", "The first dense layer.", "A list of layers."),
    Word(r"\blearn(?:ed|t|s|ing)? (?:\w+ ){0,3}by heart\b", "memorise", "It learns them by heart.", "It has a heart."),
    Word(
        r"\bloss of guessing\b", "the loss of random guessing", "The loss of guessing.", "The loss of random guessing."
    ),
    Word(r"\bto the bit\b", "bit for bit, bit-identical", "It repeats to the bit.", "It adds a sign to the bits."),
    Word(r"\bcheck sums?\b", "checksum", "A wrong check sum.", "A wrong checksum."),
    Word(
        r"\b(?:left|leaves?|leaving) the finite\b|\bfinite numbers first\b",
        "became infinite or NaN",
        "The loss left the finite numbers.",
        "The loss is a finite number.",
    ),
    Word(
        r"\b(?:looks|looked|looking|we look|you look|to look) at the (?:test|held-out|validation) (?:set|images)\b",
        "evaluate on the test set",
        "We look at the test set once.",
        "A second look at the test set.",
    ),
    Word(r"\bimages (?:are|were) looked at\b", "are evaluated", "Test images are looked at.", "Images are looked up."),
    Word(
        r"\bdivid(?:e|es|ed|ing) (?:the|its|all) (?:images|data set|photographs)\b",
        "split",
        "Divide the images.",
        "Divide the pixels by 255.",
    ),
    Word(
        rf"\b(?:{LAYER}) behind (?:it|them|the|an?|each|every)\b|\bbehind (?:an?|the|each|every) (?:{LAYER})\b",
        "after",
        "The ReLU behind it is in place.",
        "The story behind AlexNet.",
    ),
    Word(
        rf"\bin front of (?:an?|the|each|every|its|these) (?:{LAYER})\b",
        "before",
        "Batch norm in front of every ReLU.",
        "A cat in front of a tree.",
    ),
    Word(r"\bset (?:the|all|its|each) formulas?\b", "typeset", "MathJax set the formulas.", "The formula of a set."),
    Word(r"\bcut lengthwise\b", "split into two towers", "A network cut lengthwise.", "A network cut in two."),
    Word(
        r"\b(?:dies|died|die) (?:out )?(?:on|in) (?:its|the) way\b",
        "vanishes",
        "The signal dies on its way.",
        "The signal vanishes.",
    ),
    Word(r"\bst(?:ands?|ood) still\b", "stops improving; idles", "The loss stands still.", "The claim still stands."),
    Word(r"\bh(?:olds?|olding|eld) (?:\w+ )?still\b", "freeze", "Freezing holds them still.", "It still holds."),
    Word(r"\bgive and take\b", "confidence interval", "80 %, give and take a point.", "Give or take a point."),
    # Personification.
    Word(
        r"\b(?:the|a|this|that|its|trained) networks? (?:says?|wants?|thinks?|believes?|knows?)\b",
        "predicts, outputs, takes",
        "What the network says.",
        "The record of one network says 80 %.",
    ),
    Word(
        r"\bsa(?:y|ys|id) of (?:an?|the|its|it|each|this|images|one)\b",
        "says about",
        "What it says of an image.",
        "It says that one of the ten is right.",
    ),
    Word(
        r"\bwhat (?:an?|the|its|their) (?:network|layers?) makes? of\b",
        "the output for",
        "What the network makes of an image.",
        "What the network makes is a list.",
    ),
    # Words that mean something else, or nothing, in English.
    Word(r"\btake along\b|\bbr(?:ings?|ought) along\b", "takeaways; include", "What to take along", "Take a long run."),
    Word(r"\bas it seems\b", "apparently, or leave it out", "The best, as it seems.", "It is not as it seemed."),
    Word(
        r"\b(?:ma[dk]es?|making|drawn?|draws|recorded|writes?|written|names?|named|built) (?:\S+ ){0,2}anew\b",
        "again, rebuild, regenerate",
        "The page is made anew.",
        "To start anew, give a new folder.",
    ),
    Word(r"\bmend(?:s|ed|ing)?\b", "correct, fix", "Mend it there.", "We recommend to amend it."),
    Word(r"\bwhoever\b", "anyone who, if you", "Whoever uses them has to normalise.", "Anyone who uses them."),
    Word(r"\bfor who\b", "for those who", "It is for who trains to name.", "For whom it is."),
    Word(r"\b(?:can|cannot|could|to) (?:not )?be had\b", "is available", "It cannot be had.", "It had to be handled."),
    Word(r"\bsuch as (?:do|does|did|have|has|can|cannot)\b", "those that", "Such as do not fit.", "Such as pooling."),
    Word(r"\bhalf[ -](?:made|written)\b", "incomplete", "It was left half made.", "Half of it was made."),
    Word(
        rf"(?<!here )\b(?:is|was|are|were) no (?:{THING})\b(?! in| of this| at| with| for| on| to| that)",
        "is not a",
        "The path is no folder.",
        "There is no folder of that name.",
    ),
    Word(r"\b(?:is|are|was|were|be) other ones\b", "different", "Its classes are other ones.", "The other ones are."),
    Word(r"\bothers than\b", "different from", "The numbers are others than before.", "The others, rather than this."),
    Word(
        r"\bstands? (?:in|on) (?:(?:the|an?|each|its) (?:file|page|cell|table|record|text|metadata)|the row)\b",
        "is in",
        "What stands in the file.",
        "Three cats stand in a row.",
    ),
    Word(
        r"\bsome (?:hundreds?|thousands?|millions?|seconds|minutes|microseconds|hours)\b(?! of)",
        "a few, several",
        "It takes some seconds.",
        "A few seconds; some of the seconds.",
    ),
    Word(
        r"\b(?:one|two|three) (?:row|column|entry|result|byte|figure|value|file|notebook|mark|line|list|point)s? an? "
        r"(?:step|layer|epoch|image|class|turn|cell|chapter|row|contender|pixel|run|network)\b",
        "per",
        "One row a step.",
        "One row per step, one of a kind.",
    ),
    Word(
        r"\b(?:bytes|bits|seconds|pixels|operations|images|hours) an? "
        r"(?:step|layer|epoch|image|class|turn|cell|chapter|row|weight|value|pixel|run|side)\b",
        "per",
        "It takes 16 bytes a weight.",
        "It takes 1,000 images a second.",
    ),
    Word(
        r"\bfrom (?:PyTorch |Python )?\d+\.\d+ on\b",
        "since, and later",
        "From 2.9 on it has new switches.",
        "PyTorch 2.9 and later, from 2.9 only.",
    ),
    Word(r"\bspar(?:es|ed|ing) (?:the|an?|it|us) \w+", "saves", "It spares the CPU the work.", "A spare CPU."),
    Word(r"\bclear(?:s|ed|ing)? away\b", "remove", "There is nothing to clear away.", "Clear the cache."),
    Word(r"\bin the place of\b", "in place of, instead of", "In the place of its ReLU.", "In place of ReLU."),
    Word(r"\bworth (?:its|the) name\b", "say what it does", "A network worth its name.", "It is worth naming."),
    Word(r"\bhow many of them there are\b", "the number of them", "How many of them there are.", "How many there are."),
    Word(r"\bthat it is so many\b", "this number", "That it is so many has a reason.", "So many images."),
    Word(r"\bthe write-up or we\b", "or ours", "Who is right, the write-up or we?", "The write-up's or ours?"),
    Word(r"\bthat is no comfort\b", "would not help", "If it rose, that is no comfort.", "It is comfortable."),
    Word(r"\ba section of its own\b", "a later section explains", "A section of its own.", "A section for it."),
    Word(r"\blook(?:s|ing)? on while\b", "observe", "Hooks look on while it trains.", "Look once while it trains."),
    Word(
        r"\bkept? back\b|\bkeeps back\b", "leave out, withhold", "Its answer is kept back.", "It is kept; back to it."
    ),
    Word(r"\bin so far as\b", "as far as", "In so far as it is right.", "As far as it is right."),
    Word(r"\bup to now\b", "so far", "Up to now, we drew.", "Up to noise."),
    Word(
        r"\bof which (?:there|we|you|it|they|nobody)\b",
        "two sentences",
        "Images, of which there are 10,000.",
        "60,000 images, of which 10,000 are for testing.",
    ),
    Word(
        r"(?<!not )(?<!only )\bbut for (?:the|its|rounding|dropout|those|what)\b",
        "except for",
        "The same but for rounding.",
        "Not for training, but for tests.",
    ),
    Word(
        r"(?<!the )\bone (?:has to|would have to)\b",
        "you have to",
        "To rebuild it one has to compute.",
        "The one has to.",
    ),
    Word(r"\bwhat one (?:may|can|must)\b", "what you can", "It decides what one may conclude.", "What one pixel sees."),
    Word(
        r"\b(?:run|download|training|epoch|campaign|it)s? (?:will )?(?:goes|went|go) on (?:with|from|where)\b",
        "resumes, continues",
        "The run goes on where it stopped.",
        "What goes on in a network.",
    ),
]


# --- The texts -------------------------------------------------------------------------------------------------------


def python_texts(source: str) -> Iterator[tuple[int, str]]:
    """Each string of a program, and each block of comments, with its line; a value in an f-string becomes ``…``."""
    tree = ast.parse(source)
    parts = {id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in node.values}
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            yield node.lineno, "".join(p.value if isinstance(p, ast.Constant) else "…" for p in node.values)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in parts:
            yield node.lineno, node.value
    block: list[tokenize.TokenInfo] = []
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            if block and token.start[0] != block[-1].start[0] + 1:
                yield block[0].start[0], comment(block)
                block = []
            block.append(token)
    if block:
        yield block[0].start[0], comment(block)


def comment(block: list[tokenize.TokenInfo]) -> str:
    return " ".join(token.string.lstrip("# ") for token in block)


def notebook_texts(content: str) -> Iterator[tuple[int, str]]:
    """Each Markdown cell, and the strings and comments of each code cell, with the cell's number (from 0)."""
    for number, cell in enumerate(json.loads(content)["cells"]):
        source = "".join(cell["source"])
        if cell["cell_type"] == "code":
            plain = re.sub(r"^([ \t]*)(?:\w+ = )?[%!].*$", r"\1pass", source, flags=re.MULTILINE)  # IPython's commands
            yield from ((number, text) for _, text in python_texts(plain))
        else:
            yield number, source


def texts(path: Path) -> Iterator[tuple[int, str]]:
    content = path.read_text(encoding="utf-8")
    if path.suffix == ".py":
        yield from python_texts(content)
    elif path.suffix == ".ipynb":
        yield from notebook_texts(content)
    else:
        if path.name == "CONTRIBUTING.md":
            content, found = re.subn(r"(?s)## How we write\n.*?(?=\n## )", "", content)
            assert found == 1
        yield 1, content


def readable(text: str) -> str:
    """``text`` on one line, with a mark between paragraphs, without code and addresses, which are not English."""
    text = re.sub(r"```\{code.*?```|``[^`]*``|`[^`\n]*`|https?://\S+|\]\([^)\s]*\)", "…", text, flags=re.DOTALL)
    return re.sub(r"\s+(?:# )?", " ", re.sub(r"\n\s*\n", " ¶ ", text))


def findings(path: Path) -> list[str]:
    return [
        f"{path.relative_to(ROOT)}, {place}: “…{line[max(0, hit.start() - 30) : hit.end() + 30]}…” → {word.advice}"
        for place, text in texts(path)
        for line in [readable(text)]
        for word in WORDS
        for hit in re.finditer(word.pattern, line, re.IGNORECASE)
    ]


FILES = sorted(
    path
    for pattern in (
        "*.md",
        "Makefile",
        "book/*.md",
        "book/*.ipynb",
        "book/*.py",
        "book/_ext/*.py",
        "book/_static/explorer.js",
        "book/quizzes/*.toml",
        "alexnet_course/**/*.py",
        "alexnet_course/recipes/*.toml",
        "alexnet_course/results/*.toml",
        "benchmarks/**/*.py",
    )
    for path in ROOT.glob(pattern)
)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_page_has_such_words(path):
    assert not findings(path)


@pytest.mark.parametrize("word", WORDS, ids=lambda word: word.pattern)
def test_a_pattern_catches_its_example_and_nothing_else(word):
    assert re.search(word.pattern, readable(word.caught), re.IGNORECASE)
    assert not re.search(word.pattern, readable(word.left), re.IGNORECASE)


def test_texts_of_a_program_are_found():
    program = 'x = f"a {1} whole " "number"  # drawn\n# anew\n\ndef f():\n    """To the\n    bit."""\n'
    assert [readable(text) for _, text in python_texts(program)] == ["a … whole number", "To the bit.", "drawn anew"]


def test_texts_of_a_notebook_are_found():
    cells = [
        {"cell_type": "markdown", "source": ["A whole\n", "number"]},
        {"cell_type": "code", "source": ["%pip install x\n", "y = 'a picture'  # here"]},
    ]
    assert list(notebook_texts(json.dumps({"cells": cells}))) == [(0, "A whole\nnumber"), (1, "a picture"), (1, "here")]
