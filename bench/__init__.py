"""Measurements, side by side in one run. ``python -m bench --help``; figures in bench/RESULTS.md."""
