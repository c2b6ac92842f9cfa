"""Where views and labels are in a batch."""

import copy
import pickle
from collections import namedtuple
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import pytest
import torch
from helpers.methods import tiny
from torch import Tensor
from torch.utils.data import DataLoader, default_collate

from lightly_aug import (
    Indexed,
    MultiViewCollateFunction,
    Normalize,
    PIRLCollateFunction,
    RandomGaussianBlur,
    RandomHorizontalFlip,
    RandomResizedCrop,
    Resize,
    Shape,
    View,
    Views,
)
from lightly_aug.batch import RenderedViews, labels_of, views_of
from lightly_aug.models import PIRL

IMAGES, LABELS = torch.rand(4, 3, 8, 8), torch.tensor([5, 7, 5, 7])
IDS = torch.tensor([100, 101, 102, 103])
MASKS = torch.rand(4, 1, 8, 8)
Pair = namedtuple("Pair", ["image", "target"])


@dataclass
class Record:
    name: str
    labels: Tensor
    image: Any


@pytest.fixture(params=["a Views", "a list of views", "images"])
def views(request: pytest.FixtureRequest) -> Any:
    packed = MultiViewCollateFunction([View(Shape(4))] * 2, seed=0, render="late")(list(IMAGES))
    return {"a Views": packed, "a list of views": list(packed), "images": IMAGES}[request.param]


@pytest.mark.parametrize("names", ["label", "labels", "target", "targets"])
def test_mappings_name_them(views: Any, names: str) -> None:
    batch = {"id": IDS, "mask": MASKS, "image": views, names: LABELS}
    assert views_of(batch) is views
    assert labels_of(batch) is LABELS


def test_named_tuples_and_dataclasses_name_them(views: Any) -> None:
    for batch in (Pair(views, LABELS), Record("a", LABELS, views)):
        assert views_of(batch) is views
        assert labels_of(batch) is LABELS


def test_labels_come_after_the_views(views: Any) -> None:
    for batch in ((views, LABELS), [views, LABELS, ["name"] * 4], (IDS, views, LABELS), (IDS, views, LABELS, IDS)):
        assert views_of(batch) is views
        assert labels_of(batch) is LABELS


def test_no_labels(views: Any) -> None:
    for batch in (views, (views, ["name"] * 4), (IDS, views), {"image": views, "number": LABELS}):
        assert views_of(batch) is views
        assert labels_of(batch) is None
    assert labels_of((views,)) is None


def test_a_views_is_found_under_any_name_and_before_other_images() -> None:
    packed: Views = MultiViewCollateFunction([View(Shape(4))], seed=0, render="late")(list(IMAGES))
    assert views_of({"mask": MASKS, "image": IMAGES, "photo": packed}) is packed
    assert views_of((MASKS, packed)) is packed


def test_two_images_in_a_tuple_are_views_of_each_other() -> None:
    assert views_of((IMAGES, MASKS)) == (IMAGES, MASKS)


def test_features_that_are_no_images_are_taken_alone_only() -> None:
    rows = torch.rand(4, 7)
    assert views_of(rows) is rows
    with pytest.raises(TypeError, match=r"no views in a batch of {0: 'Tensor', 1: 'Tensor'}: give the loader one of"):
        views_of((rows, LABELS))


def test_batches_of_a_loader() -> None:
    """`image=1`: the id in front is no image, and the member behind it is the label."""
    samples = [(int(i), image, int(label)) for i, image, label in zip(IDS, IMAGES, LABELS, strict=True)]
    collate = MultiViewCollateFunction([View(Shape(4))], seed=0, render="late", image=1)
    (batch,) = DataLoader(Indexed(samples), 4, collate_fn=collate)
    assert isinstance(views_of(batch), Views)
    assert views_of(batch).index.tolist() == [0, 1, 2, 3]
    labels = labels_of(batch)
    assert labels is not None
    assert torch.equal(labels, LABELS)


def collated(seed: int = 0, render: Literal["late", "worker"] = "late") -> Views:
    function = MultiViewCollateFunction([View(Shape(4)), View(Shape(6))], seed=seed, render=render)
    dataset = Indexed(list(IMAGES))
    batch: Views = function([dataset[i] for i in (2, 0, 3)])
    return batch


@pytest.mark.parametrize("render", ["late", "worker"])
def test_rendered_views_are_a_list_that_knows_its_draws(render: Literal["late", "worker"]) -> None:
    views = collated(render=render)
    rendered = views.to("cpu", torch.float64)
    x0, x1 = rendered
    assert [x0.shape, x1.shape] == [(3, 3, 4, 4), (3, 3, 6, 6)]
    assert isinstance(rendered, list)
    assert len(rendered) == 2
    assert rendered[0] is x0
    assert torch.equal(torch.cat([x.flatten() for x in rendered]), torch.cat([x0.flatten(), x1.flatten()]))
    assert rendered.index is views.index
    for one, other in zip(rendered.draws, views.draws, strict=True):
        assert one.keys() == other.keys()
        assert all(torch.equal(one[name], other[name]) for name in one)
    assert all(torch.equal(one, other) for one, other in zip(rendered.matrices, views.matrices, strict=True))


def test_captions_say_what_was_drawn() -> None:
    flip = View(RandomResizedCrop(4), RandomHorizontalFlip(0.5), RandomGaussianBlur((1, 2), p=0.5), Normalize())
    views = MultiViewCollateFunction([View(Resize((4, 4))), flip], seed=0, render="late")([torch.rand(3, 30, 20)] * 9)
    draws = views.draws[1]
    expected = []
    for i in range(9):
        width, height = draws["RandomResizedCrop.width"][i].item(), draws["RandomResizedCrop.height"][i].item()
        words = f"crop {width:.0f} × {height:.0f}"
        words += ", flip" if draws["RandomHorizontalFlip.applied"][i] else ""
        sigma = draws["RandomGaussianBlur.sigma"][i].item()
        expected.append(words + (f", blur {sigma:.1f}" if sigma else ""))
    assert len({text.count(",") for text in expected}) == 3
    assert views.captions == [[""] * 9, expected]
    assert views.to("cpu").captions == views.render().captions == views.captions


def test_rendered_views_travel_and_keep_no_image() -> None:
    rendered = pickle.loads(pickle.dumps(collated().to("cpu")))
    assert rendered.index.tolist() == [2, 0, 3]
    assert rendered._batch.images.pixels.numel() == 0
    assert len(rendered.matrices) == 2


def test_a_list_that_was_rebuilt_says_what_it_lost() -> None:
    rebuilt = RenderedViews(view + 1 for view in collated().to("cpu"))
    assert len(rebuilt) == 2
    for name in ("index", "draws", "captions", "matrices"):
        with pytest.raises(AttributeError, match=r"lost their batch .* take index, draws, captions and matrices from"):
            getattr(rebuilt, name)


def test_views_of_rendered_views() -> None:
    rendered = collated().to("cpu")
    assert views_of((rendered, LABELS)) is rendered
    assert labels_of((rendered, LABELS)) is LABELS


@pytest.mark.parametrize(
    ("arguments", "device", "non_blocking"),
    [
        ((), "cuda", True),
        ((None, False), "cuda", False),
        ((1,), "cuda:1", True),
        (("cuda:1", False), "cuda:1", False),
        ((torch.device("cuda", 2),), "cuda:2", True),
    ],
)
def test_cuda_is_to_cuda(
    monkeypatch: pytest.MonkeyPatch, arguments: tuple[Any, ...], device: str, non_blocking: bool
) -> None:
    calls = []
    monkeypatch.setattr(Views, "to", lambda self, device, **options: calls.append((torch.device(device), options)))
    collated().cuda(*arguments)
    assert calls == [(torch.device(device), {"non_blocking": non_blocking})]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_cuda_renders_on_the_gpu() -> None:
    on_gpu, on_cpu = collated().to("cuda"), collated(render="worker")
    for views, same in (
        (collated().cuda(), on_gpu), (collated().cuda(0), on_gpu), (on_cpu.cuda(non_blocking=False), on_cpu),
    ):  # fmt: skip
        assert [view.device.type for view in views] == ["cuda"] * 2
        assert all(torch.equal(one.cpu(), other.cpu()) for one, other in zip(views, same, strict=True))


@pytest.mark.parametrize("render", ["late", "worker"])
@pytest.mark.parametrize(
    ("name", "call"),
    [
        ("cat", torch.cat),
        ("cat", lambda views: torch.cat([views, views], dim=1)),
        ("stack", torch.stack),
        ("relu", torch.nn.functional.relu),
        ("conv2d", partial(torch.nn.functional.conv2d, weight=torch.zeros(4, 3, 1, 1))),
    ],
)
def test_functions_of_torch_want_rendered_views(
    name: str, call: Callable[[Any], Any], render: Literal["late", "worker"]
) -> None:
    views = collated(render=render)
    with pytest.raises(TypeError, match=rf"^{name} wants tensors, got a Views: render it first, with views.to\(device"):
        call(views)
    assert torch.equal(torch.cat([x.flatten() for x in views.to("cpu")]), torch.cat([x.flatten() for x in views]))


def test_views_travel_from_workers_to_a_device() -> None:
    """What trainers and loaders do with a batch must not count as a function of torch on it."""
    lightning = pytest.importorskip("lightning")
    accelerate = pytest.importorskip("accelerate")
    function = MultiViewCollateFunction([View(Shape(4)), View(Shape(6))], seed=0, render="late")
    samples = [(image, int(label)) for image, label in zip(IMAGES, LABELS, strict=True)]
    alone, worked = (
        next(iter(DataLoader(Indexed(samples), 4, collate_fn=copy.deepcopy(function), num_workers=workers)))
        for workers in (0, 1)
    )
    expected = alone[0].to("cpu")
    moved = [
        worked[0].to("cpu"),
        pickle.loads(pickle.dumps(alone[0])).to("cpu"),
        copy.deepcopy(alone[0]).to("cpu"),
        lightning.fabric.utilities.move_data_to_device(worked, torch.device("cpu"))[0],
        accelerate.utils.send_to_device(worked, torch.device("cpu"))[0],
    ]
    for views in moved:
        assert all(torch.equal(one, other) for one, other in zip(views, expected, strict=True))
    nested = default_collate([{"views": [view.sum() for view in expected]}] * 2)
    assert nested["views"][0].shape == (2,)
    with pytest.raises(TypeError, match="default_collate"):
        default_collate([alone[0]])


@pytest.mark.filterwarnings("ignore:.*does not have many workers.*")
@pytest.mark.filterwarnings("ignore:.*treespec, LeafSpec.*is deprecated")
@pytest.mark.filterwarnings("ignore:.*The number of training batches.*")
def test_lightning_trains_a_method_that_needs_the_index(tmp_path: Path) -> None:
    lightning = pytest.importorskip("lightning")

    class Module(lightning.LightningModule):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.model = PIRL(tiny(), images=4, patches=4, dim=8, negatives=4)

        def training_step(self, batch: Any, _: int) -> Tensor:
            views, _labels = batch
            loss: Tensor = self.model(views, index=views.index)
            return loss

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.SGD(self.parameters(), 0.1)

    module = Module()
    memory = module.model.memory.clone()
    photos = [(torch.rand(3, 32, 32), 0) for _ in range(4)]
    collate = PIRLCollateFunction(16, patch=12, jigsaw=32, grid=2, seed=0)
    trainer = lightning.Trainer(
        accelerator="cpu", max_steps=2, logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, default_root_dir=tmp_path,
    )  # fmt: skip
    trainer.fit(module, DataLoader(Indexed(photos), 4, collate_fn=collate))
    assert not torch.equal(memory, module.model.memory)
