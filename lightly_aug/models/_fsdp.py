"""Models that `torch.distributed.fsdp.fully_shard` has sharded."""

import torch.distributed as dist
from torch import Tensor, nn

__all__ = ["call_as_forward", "is_sharded"]


def is_sharded(model: nn.Module) -> bool:
    """Whether FSDP has sharded the model as a whole, and its parameters are not gathered at present.

    FSDP gathers them for `forward` only. Parts of the model that were sharded by themselves gather their own.
    """
    if not dist.is_available():
        return False
    from torch.distributed.fsdp import FSDPModule

    return isinstance(model, FSDPModule) and _holds_shards(model)


def call_as_forward(model: nn.Module, method: str, x: Tensor) -> Tensor:
    """Call a method of a sharded model between the hooks with which FSDP surrounds `forward`.

    The method is not registered for good: where `forward` calls it, too, FSDP would release the parameters half-way.
    """
    from torch.distributed.fsdp import FSDPModule, register_fsdp_forward_method

    assert isinstance(model, FSDPModule)
    register_fsdp_forward_method(model, method)
    try:
        output: Tensor = getattr(model, method)(x)
    finally:
        delattr(model, method)
    if not output.requires_grad:  # otherwise FSDP does it after the backward pass
        model.reshard()
    return output


def _holds_shards(module: nn.Module) -> bool:
    from torch.distributed.fsdp import FSDPModule
    from torch.distributed.tensor import DTensor

    own = any(isinstance(parameter, DTensor) for parameter in module.parameters(recurse=False))
    return own or any(_holds_shards(child) for child in module.children() if not isinstance(child, FSDPModule))
