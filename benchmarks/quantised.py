"""What rounding the weights to 8 bits costs each network of the package: the record of the page "See inside".

python -m benchmarks.quantised --data folder:data/cifar10
"""

import argparse
import json
import sys

import torch

from alexnet_course.data import load_dataset
from alexnet_course.files import write_text
from alexnet_course.pretrained import list_pretrained, load_pretrained
from alexnet_course.training.evaluation import evaluate
from alexnet_course.web import dequantised
from alexnet_course.web.page import ACCURACY
from benchmarks.command import run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", required=True, metavar="SPEC", help="CIFAR-10, as alexnet-course train takes it")
    images = load_dataset(parser.parse_args().data, "test")
    found = {}
    for name in list_pretrained():
        model, record = load_pretrained(name)
        given = {"mean": record.dataset.mean, "std": record.dataset.std, "precision": "fp32"}
        fp32, rounded = (evaluate(network, images, **given) for network in (model, dequantised(model)))
        same = (fp32.predictions == rounded.predictions).double().mean().item()
        found[name] = {"fp32": fp32.accuracy, "quantised": rounded.accuracy, "same_class": same}
        print(name, found[name], flush=True)
    about = {"test_fingerprint": images.fingerprint, "test_images": len(images), "torch": torch.__version__}
    write_text(ACCURACY, json.dumps({**about, "accuracy": found}, indent=1) + "\n")


if __name__ == "__main__":
    sys.exit(run(main, "quantised"))
