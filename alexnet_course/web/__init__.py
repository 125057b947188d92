"""A trained network that runs in a browser's page: its weights in 8 bits, and the page around it."""

from alexnet_course.web.page import (
    VIEWS,
    config_html,
    measured_accuracy,
    network_in,
    network_script,
    sample_script,
    standalone_page,
    view_html,
)
from alexnet_course.web.quantise import dequantised, describe, restored, stack_of

__all__ = [
    "VIEWS",
    "config_html",
    "dequantised",
    "describe",
    "measured_accuracy",
    "network_in",
    "network_script",
    "restored",
    "sample_script",
    "stack_of",
    "standalone_page",
    "view_html",
]
