"""The GPU engine's compiled kernels, executed and counted without a device."""
