"""The figures that chapters share, drawn from plain data: nothing here trains, loads or saves."""

from alexnet_course.plots.architecture import connection_diagram, layer_columns, network_drawing, shares
from alexnet_course.plots.classes import confusion_matrix, confusion_side_by_side, per_class
from alexnet_course.plots.comparisons import (
    Measured,
    accuracies,
    accuracy_against_cost,
    accuracy_by_count,
    diary,
    error_by_year,
    measured_effects,
    two_accuracies,
)
from alexnet_course.plots.images import crop_boxes, evidence_map, image_row, image_table
from alexnet_course.plots.machine import byte_count, number_flow, queue_timeline
from alexnet_course.plots.results import (
    Step,
    accuracy_against,
    learning_curves_of,
    pareto_front,
    plot_reproduction,
    seed_spread,
    waterfall,
)
from alexnet_course.plots.shapes import (
    kernel_positions,
    pooling_windows,
    receptive_field_boxes,
    shrinking_images,
    spatial_sizes,
    stacked_kernels,
)
from alexnet_course.plots.style import BLUE, GOLD, GREEN, GREY, LIGHT, ORANGE, PALETTE, PINK, SKY, WIDTH, use_style
from alexnet_course.plots.training import curves, layer_maps, learning_curves, range_test_curve, rate_sweep

__all__ = [
    "BLUE",
    "GOLD",
    "GREEN",
    "GREY",
    "LIGHT",
    "ORANGE",
    "PALETTE",
    "PINK",
    "SKY",
    "WIDTH",
    "Measured",
    "Step",
    "accuracies",
    "accuracy_against",
    "accuracy_against_cost",
    "accuracy_by_count",
    "byte_count",
    "confusion_matrix",
    "confusion_side_by_side",
    "connection_diagram",
    "crop_boxes",
    "curves",
    "diary",
    "error_by_year",
    "evidence_map",
    "image_row",
    "image_table",
    "kernel_positions",
    "layer_columns",
    "layer_maps",
    "learning_curves",
    "learning_curves_of",
    "measured_effects",
    "network_drawing",
    "number_flow",
    "pareto_front",
    "per_class",
    "plot_reproduction",
    "pooling_windows",
    "queue_timeline",
    "range_test_curve",
    "rate_sweep",
    "receptive_field_boxes",
    "seed_spread",
    "shares",
    "shrinking_images",
    "spatial_sizes",
    "stacked_kernels",
    "two_accuracies",
    "use_style",
    "waterfall",
]
