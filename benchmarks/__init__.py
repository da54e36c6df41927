"""Measurements of the whole line, one command each: `python -m benchmarks.NAME`."""
