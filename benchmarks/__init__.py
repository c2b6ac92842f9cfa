"""The benchmarks: `python -m benchmarks.cpu`, `python -m benchmarks.gpu`, `python -m benchmarks.colour`."""
