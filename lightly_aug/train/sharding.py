"""FSDP2: the method divided among processes, and its backbone put together again."""

from copy import deepcopy
from typing import Any

import torch
import torch.distributed as dist
from torch import nn

from lightly_aug.models.base import SSLModel
from lightly_aug.models.momentum import MomentumEncoder

__all__ = ["find_blocks", "gather_backbone", "shard"]


def shard(model: SSLModel, mesh: Any) -> nn.Module:
    """Divide a method among processes: the blocks of the backbone and of its copies, and then the rest.

    Parameters and buffers become those of rank 0 first. Buffers, as queues and centres, stay whole on every rank.

    Args:
        model: The method, changed in place.
        mesh: Device mesh of one dimension.

    Returns:
        A copy of the backbone without memory, for `gather_backbone`.
    """
    from torch.distributed.fsdp import fully_shard  # takes long to import

    empty = deepcopy(model.backbone).to("meta")
    with torch.no_grad():
        for tensor in (*model.parameters(), *model.buffers()):
            dist.broadcast(tensor.data, src=0)
    copies = [module.network for module in model.modules() if isinstance(module, MomentumEncoder)]
    for network in (model.backbone, *copies):
        for block in find_blocks(network):
            fully_shard(block, mesh=mesh)
    fully_shard(model, mesh=mesh)
    return empty


def find_blocks(network: nn.Module) -> list[nn.Module]:
    """Return the outermost blocks of a network: members of `Sequential` and `ModuleList` that have parts of their own.

    These are the blocks of ViTs and ResNets, of timm, torchvision and Hugging Face.
    """
    blocks: list[nn.Module] = []
    for child in network.children():
        if isinstance(network, nn.Sequential | nn.ModuleList) and any(True for _ in child.children()):
            blocks += find_blocks(child) if isinstance(child, nn.Sequential | nn.ModuleList) else [child]
        else:
            blocks += find_blocks(child)
    return [block for block in blocks if any(True for _ in block.parameters())]


def gather_backbone(model: SSLModel, empty: nn.Module) -> nn.Module:
    """Return the whole backbone on the CPU; every process must call it, and only the first gets the weights.

    Args:
        model: The method that `shard` divided.
        empty: What `shard` returned.
    """
    from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict

    options = StateDictOptions(full_state_dict=True, cpu_offload=True)
    state = get_model_state_dict(model.backbone, options=options)
    whole = deepcopy(empty)
    if state:
        whole.load_state_dict(state, assign=True)
    return whole
