"""``alexnet-course export``."""

from __future__ import annotations

import argparse

from alexnet_course.cli.common import Commands, add_command, add_networks, add_trained
from alexnet_course.files import shown

FORMATS = ("onnx", "torchscript", "safetensors", "web")  # repeated here: alexnet_course.export imports PyTorch


def add(commands: Commands) -> None:
    text = "write a trained network to a file for other programs"
    sub = add_command(commands, "export", export_command, text, "export vgg-style-bn.small --format onnx")
    add_trained(sub)
    described = "onnx and torchscript include the normalisation; web is a page in which the network runs"
    sub.add_argument("--format", choices=FORMATS, required=True, help=described)
    sub.add_argument("-o", "--out", metavar="FILE", help="a new file (default: the run's name, in this folder)")
    add_networks(sub)


def export_command(options: argparse.Namespace) -> None:
    from alexnet_course.export import export_network

    export = export_network(options.run, options.format, options.out)
    compared = "not compared, because onnxruntime is not installed (pip install 'alexnet-course[onnx]')"
    if export.difference is not None:
        compared = f"its logits differ from the network's by at most {export.difference:.1e}"
    print(f"{shown(export.path)}: {export.path.stat().st_size:,} bytes; {compared}")
