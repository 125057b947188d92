"""Measurements that are one command each: ``python -m benchmarks.NAME``."""
