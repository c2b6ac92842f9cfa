"""Batches in the hands of trainers, which move, cast and rebuild them, each in its own way."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from lightly_aug import Indexed, MultiViewCollateFunction, RandomGaussianBlur, Shape, View, Views, prefetch
from lightly_aug.batch import RenderedViews

IMAGES = [torch.rand(3, 10 + i, 12, generator=torch.Generator().manual_seed(i)) for i in range(4)]
quiet = [
    "ignore:.*does not have many workers.*",
    "ignore:.*treespec, LeafSpec.*is deprecated",
    "ignore:.*The number of training batches.*",
]
pytestmark = [pytest.mark.filterwarnings(text) for text in quiet]


def collate(render: str = "late") -> MultiViewCollateFunction:
    views = [View(Shape(8), RandomGaussianBlur((0.5, 1.0), p=1.0)), View(Shape(8))]
    return MultiViewCollateFunction(views, seed=0, render=render)  # type: ignore[arg-type]


def loader(render: str = "late", workers: int = 0) -> DataLoader[Any]:
    samples = [(image, label) for label, image in enumerate(IMAGES)]
    return DataLoader(Indexed(samples), 2, collate_fn=collate(render), num_workers=workers)


def module_class() -> Any:
    lightning = pytest.importorskip("lightning")

    class Module(lightning.LightningModule):  # type: ignore[misc, name-defined]
        """A plain module that says nothing of views or precision."""

        def __init__(self) -> None:
            super().__init__()
            self.net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(144, 2))
            self.seen: list[Any] = []

        def training_step(self, batch: Any, _: int) -> Tensor:
            views, _labels = batch
            self.seen.append(views)
            loss: Tensor = (self.net(views[0]) - self.net(views[1])).square().mean()
            return loss

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.SGD(self.parameters(), 0.1)

    return Module


def fit(module: Any, data: Iterable[Any], folder: Path, precision: str) -> None:
    lightning = pytest.importorskip("lightning")
    trainer = lightning.Trainer(
        accelerator="cpu", precision=precision, max_epochs=1, logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, default_root_dir=folder,
    )  # fmt: skip
    trainer.fit(module, data)


@pytest.mark.parametrize("render", ["late", "worker"])
@pytest.mark.parametrize(
    ("precision", "dtype", "rounding"),
    [
        ("32-true", torch.float32, 0.0),
        ("bf16-mixed", torch.float32, 0.0),
        ("bf16-true", torch.bfloat16, 2**-8),
        ("16-true", torch.float16, 2**-11),
        ("64-true", torch.float64, 1e-4),  # computed in float64, so not the float32 values
    ],
)
def test_lightning_trains_in_any_precision(
    precision: str, dtype: torch.dtype, rounding: float, render: str, tmp_path: Path
) -> None:
    module = module_class()()
    fit(module, loader(render), tmp_path, precision)
    expected = [batch for batch, _ in loader(render)]
    assert len(module.seen) == 2
    for views, plain in zip(module.seen, expected, strict=True):
        assert isinstance(views, RenderedViews)
        assert [view.dtype for view in views] == [dtype] * 2
        for view, exact in zip(views, plain.to("cpu", torch.float32), strict=True):
            torch.testing.assert_close(view.double(), exact.double(), rtol=0, atol=rounding)
        assert views.index is not None
        assert views.index.tolist() == plain.index.tolist()
        for name, drawn in plain.draws[0].items():  # draws stay float32: a cast would change them
            assert torch.equal(views.draws[0][name], drawn)
        assert all(torch.equal(a, b) for a, b in zip(views.matrices, plain.matrices, strict=True))


def test_lightning_casts_views_that_come_from_workers(tmp_path: Path) -> None:
    module = module_class()()
    fit(module, loader(workers=1), tmp_path, "bf16-true")
    assert [view.dtype for views in module.seen for view in views] == [torch.bfloat16] * 4
    assert [views.index.tolist() for views in module.seen] == [[0, 1], [2, 3]]


def test_a_cast_by_a_trainer_leaves_the_batch_itself_as_it_was() -> None:
    lightning = pytest.importorskip("lightning")
    batch = next(iter(loader()))
    plugin = lightning.pytorch.plugins.HalfPrecision("bf16-true")
    cast, labels = plugin.convert_input(batch)
    assert isinstance(cast, Views)
    assert cast.images is batch[0].images
    assert cast.table is batch[0].table
    assert labels.dtype == torch.int64
    assert cast[0].dtype == cast.to()[0].dtype == cast.render()[0].dtype == torch.bfloat16
    assert [view.dtype for view in cast] == [torch.bfloat16] * 2
    assert cast.to(dtype=torch.float64)[0].dtype == torch.float64
    assert batch[0][0].dtype == torch.float32


def test_a_dtype_of_the_view_stays_without_a_cast() -> None:
    views = MultiViewCollateFunction([View(Shape(8), dtype=torch.float16)], seed=0, render="late")(IMAGES)
    assert views.to()[0].dtype == torch.float16


def test_fabric_runs_in_bfloat16() -> None:
    fabric_of = pytest.importorskip("lightning").fabric.Fabric
    fabric = fabric_of(accelerator="cpu", precision="bf16-true")
    net = fabric.setup(nn.Conv2d(3, 4, 3))
    for views, _ in fabric.setup_dataloaders(loader()):
        assert views.index is not None
        assert net(views[0]).shape == (2, 4, 6, 6)


# --- views that were rendered before the trainer gets them -----------------------------------------------------


def test_rendered_views_move_and_keep_their_batch() -> None:
    views = next(iter(loader()))[0].to()
    moved = views.to("cpu", torch.bfloat16, memory_format=torch.channels_last)
    assert [view.dtype for view in moved] == [torch.bfloat16] * 2
    assert moved[0].is_contiguous(memory_format=torch.channels_last)
    assert moved.index is views.index
    assert len(moved.matrices) == 2
    assert [view.device.type for view in views.to("meta")] == ["meta"] * 2
    assert views.to(torch.float64)[1].dtype == torch.float64
    assert all(a is b for a, b in zip(views.to(), views, strict=True))
    with pytest.raises(ValueError, match=r"views are floating, got dtype=torch.int64"):
        views.to(torch.int64)


def test_lightning_keeps_the_index_of_prefetched_views(tmp_path: Path) -> None:
    module = module_class()()
    fit(module, prefetch(loader(), "cpu"), tmp_path, "32-true")
    assert [views.index.tolist() for views in module.seen] == [[0, 1], [2, 3]]


def test_accelerate_keeps_the_index_of_prefetched_views() -> None:
    accelerate = pytest.importorskip("accelerate")
    moved = [accelerate.utils.send_to_device(batch, torch.device("cpu")) for batch in prefetch(loader(), "cpu")]
    assert [views.index.tolist() for views, _ in moved] == [[0, 1], [2, 3]]


# --- trainers that move tensors only ---------------------------------------------------------------------------


def move_tensors_only(batch: Any, device: str) -> Any:
    """What Composer does: tensors in mappings and sequences are moved, everything else stays."""
    if isinstance(batch, Tensor):
        return batch.to(device)
    if isinstance(batch, dict):
        return {key: move_tensors_only(member, device) for key, member in batch.items()}
    if isinstance(batch, list | tuple):
        return type(batch)(move_tensors_only(member, device) for member in batch)
    return batch


def test_prefetched_views_are_moved_with_the_tensors() -> None:
    """A `Views` stays where it is, as any object that is no tensor does; the list of `prefetch` does not."""
    (left, _), *_ = [move_tensors_only(batch, "meta") for batch in loader()]
    assert left.device.type == "cpu"
    for views, labels in [move_tensors_only(batch, "meta") for batch in prefetch(loader(), "cpu")]:
        assert [view.device.type for view in (*views, labels)] == ["meta"] * 3
        with pytest.raises(AttributeError, match="lost their batch"):
            _ = views.index


def test_hugging_faces_trainer_gets_rendered_views(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    pytest.importorskip("accelerate")
    seen: list[Any] = []

    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = nn.Conv2d(3, 4, 3)

        def forward(self, image: Any, label: Tensor) -> dict[str, Tensor]:
            seen.append([type(image), *map(type, image)])
            return {"loss": (self.net(image[0]) - self.net(image[1])).square().mean()}

    samples = [{"image": image, "label": label} for label, image in enumerate(IMAGES)]
    arguments = transformers.TrainingArguments(
        str(tmp_path), per_device_train_batch_size=2, max_steps=2, use_cpu=True, report_to=[], save_strategy="no",
        logging_strategy="no", disable_tqdm=True, remove_unused_columns=False, dataloader_pin_memory=False,
    )  # fmt: skip
    transformers.Trainer(Model(), arguments, data_collator=collate(), train_dataset=samples).train()
    assert seen == [[RenderedViews, Tensor, Tensor]] * 2
