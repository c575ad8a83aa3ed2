"""How fast tallystick is, in ratios to work that is done in the same run: `python -m benchmarks`."""
