"""``alexnet-course export``."""

from __future__ import annotations

import argparse

from alexnet_course.cli.common import Commands, add_command, add_networks, add_trained
from alexnet_course.files import shown

FORMATS = ("onnx", "torchscript", "safetensors", "web")  # those of alexnet_course.export, which imports PyTorch


def add(commands: Commands) -> None:
    text = "write a trained network to a file for other programs"
    sub = add_command(commands, "export", export_command, text, "export vgg-style-bn.small --format onnx")
    add_trained(sub)
    sub.add_argument(
        "--format",
        choices=FORMATS,
        required=True,
        help="onnx and torchscript normalise by themselves; web is a page to play with",
    )
    sub.add_argument("-o", "--out", metavar="FILE", help="a new file (default: the name of the run, in this folder)")
    add_networks(sub)


def export_command(options: argparse.Namespace) -> None:
    from alexnet_course.export import export_network

    export = export_network(options.run, options.format, options.out)
    compared = "not compared, because onnxruntime is not installed (pip install 'alexnet-course[onnx]')"
    if export.difference is not None:
        compared = f"its logits differ from the network's by at most {export.difference:.1e}"
    print(f"{shown(export.path)}: {export.path.stat().st_size:,} bytes; {compared}")
