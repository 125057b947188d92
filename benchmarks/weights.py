"""Put the weights of finished runs of small networks into the package, and write the model cards of all of them.

python -m benchmarks.campaign --only 'vgg-style-bn.small*' --keep-weights --data cifar10=folder:data/cifar10
python -m benchmarks.weights runs/campaign/vgg-style-bn.small-evening-seed0
"""

import sys

from alexnet_course.files import write_text
from alexnet_course.pretrained import FOLDER, keep_weights, list_pretrained, load_pretrained, model_card


def main(runs: list[str]) -> None:
    for run in runs:
        keep_weights(run)
    for name in list_pretrained():
        path = FOLDER / f"{name}.safetensors"
        _, record = load_pretrained(name)
        write_text(FOLDER / f"{name}.md", model_card(record, path.stat().st_size))
        print(f"{path.name}: {path.stat().st_size:,} bytes, its card is written")


if __name__ == "__main__":
    main(sys.argv[1:])
