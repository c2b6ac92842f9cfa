"""`pretrain` on a CUDA device: precisions, compilation, NCCL, sharding, and resuming."""

import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.methods import _images
from lightning.pytorch import Callback

from lightly_aug.evaluate import features
from lightly_aug.train.run import pretrain
from lightly_aug.weights import Backbone

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
    pytest.mark.filterwarnings("default"),  # Lightning's and Triton's of other versions are no failures here
]
OPTIONS: dict[str, Any] = {
    "backbone": "resnet10", "size": 32, "batch_size": 16, "workers": 2, "accelerator": "gpu", "devices": "1",
    "seed": 1, "evaluate": "none", "epochs": 2,
}  # fmt: skip


def images() -> list[Any]:
    return [image for image, _ in _images()] * 4


@pytest.mark.parametrize(
    "options",
    [
        {"precision": "bf16-mixed", "channels_last": True},
        {"precision": "16-mixed"},
        {"precision": "bf16-true"},
        {"precision": "bf16-mixed", "compile": True},
        {"precision": "bf16-mixed", "checkpointing": True, "backbone": "vit_tiny_patch16_224"},
        {"strategy": "ddp"},
    ],
    ids=lambda options: " ".join(map(str, options.values())),
)
@pytest.mark.parametrize("method", ["moco", "dino"])
def test_a_run_is_finite_and_its_backbone_loads(method: str, options: dict[str, Any], tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        result = pretrain(images(), method=method, out=tmp_path, **OPTIONS | options)
    assert all(torch.isfinite(value).all() for value in result.model.state_dict().values() if value.is_floating_point())
    backbone = Backbone.from_pretrained(tmp_path)
    batch = backbone.collate(images()[:8])
    on_gpu, _ = features(backbone.network.cuda(), [batch], "cuda")
    on_cpu, _ = features(backbone.network.cpu(), [batch], "cpu")
    torch.testing.assert_close(on_gpu, on_cpu, rtol=2e-2, atol=2e-2)


def test_a_sharded_run_trains(tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        result = pretrain(images(), method="simclr", out=tmp_path, **OPTIONS | {"strategy": "fsdp2"})
    assert result.metrics["loss"] > 0
    assert Backbone.from_pretrained(tmp_path).metadata["notes"]["method"] == "simclr"


class StopAfter(Callback):
    """Ends a run after some steps, as a signal would.

    Args:
        steps: The steps.
    """

    def __init__(self, steps: int) -> None:
        self.steps = steps

    def on_train_batch_end(self, trainer: Any, *_: Any) -> None:
        if trainer.global_step == self.steps:
            raise RuntimeError("stopped here")


def test_a_run_that_stopped_goes_on_as_if_it_had_not(tmp_path: Path) -> None:
    whole = pretrain(images(), method="moco", out=tmp_path / "whole", **OPTIONS)
    with pytest.raises(RuntimeError, match="stopped here"):
        pretrain(images(), method="moco", out=tmp_path / "cut", save_steps=3, callbacks=[StopAfter(5)], **OPTIONS)
    again = pretrain(images(), method="moco", out=tmp_path / "cut", save_steps=3, resume=True, **OPTIONS)
    for name, value in whole.model.state_dict().items():
        if torch.is_tensor(value) and value.is_floating_point():  # cuDNN's sums differ in their last bits
            torch.testing.assert_close(again.model.state_dict()[name], value, rtol=1e-2, atol=1e-3, msg=name)
