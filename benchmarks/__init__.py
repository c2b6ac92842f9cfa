"""The benchmarks: `python -m benchmarks.cpu`, `.gpu`, `.colour`, `.memory` and `.methods`."""
