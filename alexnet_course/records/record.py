"""A record on disk, and the names of the files that a finished run leaves behind."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from alexnet_course.files import write_text

RECORD, PREDICTIONS, WEIGHTS = "record.json", "predictions.npy", "weights.safetensors"


def save_record(out: Path, record: dict[str, Any]) -> None:
    """Write ``record.json``, whole or not at all."""
    write_text(out / RECORD, dump_record(record))


def dump_record(record: dict[str, Any]) -> str:
    """JSON with one line an epoch and one a row of the confusion matrix, so that a record reads well and diffs well."""
    lines = []
    for key, value in record.items():
        if key in ("history", "confusion_matrix"):
            text = "[\n  " + ",\n  ".join(map(json.dumps, value)) + "\n ]"
        else:
            text = json.dumps(value)
        lines.append(f" {json.dumps(key)}: {text}")
    return "{\n" + ",\n".join(lines) + "\n}\n"
