"""A driver for Triton that runs compiled kernels in NumPy, on tensors of the CPU: the engine runs unchanged."""

import ctypes
import os
import threading
from collections import Counter
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
from torch import Tensor

from benchmarks.ptx.interpreter import Kernel, parse, run
from benchmarks.ptx.memory import Memory, Region

__all__ = ["LAUNCHES", "Launch", "install"]


class Launch(NamedTuple):
    """A launch.

    Attributes:
        kernel: The kernel.
        grid: The number of blocks along each axis.
        device: The number of the device that it was launched on.
        stream: The stream that it was launched on.
        executed: How often each basic block was executed, summed over all threads.
    """

    kernel: Kernel
    grid: tuple[int, int, int]
    device: int
    stream: int
    executed: Counter[int]


LAUNCHES: Final = list[Launch]()
"""All launches since the last `clear`."""


def install(capability: int) -> None:
    """Make Triton compile for a compute capability, 90 for 9.0, and run what it compiles here; again for another."""
    from triton.backends.compiler import GPUTarget
    from triton.compiler import CompiledKernel
    from triton.runtime import driver

    loaded: tuple[int, ...] = (1, 2, 32, 0, 1024)  # handles, registers, spills, and threads since Triton 3.4
    loaded = loaded if "n_max_threads" in CompiledKernel._init_handles.__code__.co_names else loaded[:4]

    class Utils:
        load_binary = staticmethod(lambda *_: loaded)
        unload_module = staticmethod(lambda *_: None)
        get_device_properties = staticmethod(lambda *_: {"max_shared_mem": 99 * 1024})

    class Driver:
        launcher_cls = _Launcher
        utils = Utils
        get_current_device = staticmethod(lambda: getattr(CURRENT, "device", capability))
        get_current_stream = staticmethod(lambda device: getattr(CURRENT, "stream", 0))
        get_current_target = staticmethod(lambda: GPUTarget("cuda", capability, 32))

    driver.set_active(Driver())
    from lightly_aug.engines import gpu  # its kernels are to be compiled, not interpreted

    gpu._compiled.clear()
    os.environ["TRITON_INTERPRET"] = "1"  # from now on, the engine accepts tensors of the CPU


CURRENT: Final = threading.local()
"""The `device` and the `stream` of this thread, if they are set."""


class _Launcher:
    def __init__(self, source: Any, metadata: Any) -> None:
        from triton.runtime.cache import get_cache_manager

        files = get_cache_manager(metadata.hash).get_group(f"{metadata.name}.json")
        assert files is not None
        self._kernel = parse(Path(files[f"{metadata.name}.ptx"]).read_text())
        self._shared = metadata.shared
        self._kinds = dict(source.signature)

    def __call__(self, x: int, y: int, z: int, stream: int, *arguments: Any) -> None:
        own = arguments[5:]
        named = [
            (name, value) for (name, kind), value in zip(self._kinds.items(), own, strict=True) if kind != "constexpr"
        ]
        values = [value.data_ptr() if isinstance(value, Tensor) else value for _, value in named]
        values += [0] * (len(self._kernel.parameters) - len(values))  # memory that Triton may ask for
        parameters = {name: value % 2**64 for name, value in zip(self._kernel.parameters, values, strict=True)}
        regions = [_region(name, value) for name, value in named if isinstance(value, Tensor)]
        whole = {region.address: region for region in sorted(regions, key=lambda region: len(region.data))}
        memory = Memory(list(whole.values()), self._shared, self._kernel.name)
        executed = run(self._kernel, (x, y, z), parameters, memory)
        LAUNCHES.append(Launch(self._kernel, (x, y, z), getattr(CURRENT, "device", 0), stream, executed))


def _region(name: str, tensor: Tensor) -> Region:
    assert tensor.is_contiguous()
    size = tensor.numel() * tensor.element_size()
    data: Any = (ctypes.c_uint8 * size).from_address(tensor.data_ptr()) if size else b""
    return Region(f"{name!r}", tensor.data_ptr(), np.frombuffer(data, dtype=np.uint8))
