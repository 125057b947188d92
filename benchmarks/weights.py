"""Put the weights of finished runs of small networks into the package, and write the model cards of all of them.

python -m benchmarks.campaign --only 'vgg-style-bn.small*' --keep-weights --data cifar10=folder:data/cifar10
python -m benchmarks.weights runs/campaign/vgg-style-bn.small-evening-seed0

Of a network that does not come with the package, ``--first-layer`` keeps the kernels of the first layer alone:

python -m benchmarks.weights --first-layer runs/campaign/ablation.cnn4.two-towers-seed0
"""

import argparse
import sys

from alexnet_course.files import write_text
from alexnet_course.first_layer import keep_first_layer
from alexnet_course.pretrained import FOLDER, keep_weights, list_pretrained, load_pretrained, model_card
from benchmarks.command import run


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="*", metavar="FOLDER")
    parser.add_argument("--first-layer", nargs="+", default=[], metavar="FOLDER")
    options = parser.parse_args(arguments)
    for folder in options.first_layer:
        path = keep_first_layer(folder)
        print(f"{path.name}: {path.stat().st_size:,} bytes")
    for folder in options.runs:
        keep_weights(folder)
    for name in list_pretrained():
        path = FOLDER / f"{name}.safetensors"
        _, record = load_pretrained(name)
        write_text(FOLDER / f"{name}.md", model_card(record, path.stat().st_size))
        print(f"{path.name}: {path.stat().st_size:,} bytes, its card is written")


if __name__ == "__main__":
    sys.exit(run(main, "weights"))
