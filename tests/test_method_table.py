"""The table of methods: it is complete, it agrees with the documentation, and its views and models fit together."""

import inspect
import re
from pathlib import Path

import pytest
import torch
from helpers import methods as small
from torch import nn

from lightly_aug import models, recipes
from lightly_aug.methods import METHODS, Task, prototype_count, queue_size
from lightly_aug.models import DINO, MoCo, SSLModel, resnet
from lightly_aug.photographs import photograph_patches

ROOT = Path(__file__).parents[1]
TASK = Task(size=32, images=8, batch=4, classes=2, maps=("4", "2"))
SIZES = (8, 20, 32, 33, 48, 96, 224)


def build_on_meta(name: str, kind: str, task: Task = TASK) -> SSLModel:
    """Without memory for the weights, since the papers' heads are large."""
    with torch.device("meta"):
        model: SSLModel = getattr(METHODS[name], kind)(small.tiny(), task)
    return model


def test_the_titles_are_the_rows_of_the_documentation_and_of_the_tests() -> None:
    titles = [method.title for method in METHODS.values()]
    assert titles == re.findall(r"^\| ([^|]+) \| \[\d{4}\.", (ROOT / "docs/methods.md").read_text(), re.M)
    assert titles == list(small.METHODS)


def test_the_names_on_the_command_line_stay() -> None:
    assert list(METHODS) == [
        *("simclr", "simclr-v2", "moco-v1", "moco", "moco-v3", "byol", "simsiam", "barlow-twins", "nnclr", "swav"),
        *("dino", "pirl", "paws", "amdim", "cpc", "looc"),
    ]


def test_the_readme_names_every_method_with_its_views_and_its_model() -> None:
    rows = re.findall(
        r"^\| ([\w ]+?)([v\d, ]*) \| `(\w+)[(`].*\| \[`(\w+)`\]\(lightly_aug/models/",
        (ROOT / "README.md").read_text(),
        re.M,
    )
    found = {
        (f"{name} v{version}" if version else name): (views, model)
        for name, versions, views, model in rows
        for version in re.findall(r"\d", versions) or [""]
    }
    made = {
        method.title: (type_of_views(name), type(build_on_meta(name, "small")).__name__)
        for name, method in METHODS.items()
    }
    assert found == made


def type_of_views(name: str) -> str:
    return type(METHODS[name].views(32, seed=0)).__name__


def test_every_paper_in_the_package_is_in_the_table() -> None:
    papers = {name for name in recipes.__all__ if "arXiv" in (inspect.getdoc(getattr(recipes, name)) or "")}
    assert {type_of_views(name) for name in METHODS} == papers
    classes = {name for name in models.__all__ if isinstance(getattr(models, name), type)}
    classes = {name for name in classes if issubclass(getattr(models, name), SSLModel)} - {"SSLModel"}
    for kind in ("small", "paper"):
        assert {type(build_on_meta(name, kind)).__name__ for name in METHODS} == classes


@pytest.mark.parametrize("name", METHODS)
def test_the_model_takes_the_views(name: str) -> None:
    torch.manual_seed(0)
    images = [patch for patch, label in photograph_patches(32, train=1, test=0).train if label < TASK.batch]
    views = list(METHODS[name].views(TASK.size, seed=0, render="worker", engine="reference")(images))
    model = METHODS[name].small(small.tiny(), TASK)
    loss = model(views, targets=torch.tensor([0, 1, -1, -1]), index=torch.arange(TASK.batch))
    assert loss.shape == ()
    assert torch.isfinite(loss)


@pytest.mark.parametrize("kind", ["small", "paper"])
@pytest.mark.parametrize("name", METHODS)
def test_model_and_views_of_any_size_fit_together(name: str, kind: str) -> None:
    """The number and sizes of the views are those that the model expects."""
    for size in SIZES:
        collate = METHODS[name].views(size, seed=0)
        assert max(side_of(view) for view in collate.views) <= size
        model = build_on_meta(name, kind, TASK._replace(size=max(size, 16)))  # `tiny` takes no smaller images
        if isinstance(model, models.CPC) and size >= 16:
            assert model.grid**2 == len(collate.views)
            assert model.patch == side_of(collate.views[0])
        if isinstance(model, models.PIRL):
            assert 1 + model.patches == len(collate.views)
        if isinstance(model, models.LooC):
            assert len(model.heads) + 1 == len(collate.views)


def side_of(view: object) -> int:
    """The last size that a view's operations ask for."""
    sizes = [operation.size for operation in getattr(view, "operations") if hasattr(operation, "size")]  # noqa: B009
    assert sizes[-1][0] == sizes[-1][1]
    return int(sizes[-1][0])


def test_views_up_to_32_pixels_are_those_of_the_benchmark_and_larger_ones_the_papers() -> None:
    def sides(name: str, size: int) -> list[int]:
        return [side_of(view) for view in METHODS[name].views(size, seed=0).views]

    for name in ("swav", "dino"):
        assert sides(name, 32) == [32] * 2 + [16] * 4
    assert sides("paws", 32) == [32] * 2 + [18] * 4
    assert sides("pirl", 32) == [32] + [12] * 9
    assert sides("cpc", 32) == [16] * 16
    assert sides("swav", 224) == sides("paws", 224) == [224] * 2 + [96] * 6
    assert sides("dino", 224) == [224] * 2 + [96] * 8
    assert sides("pirl", 224) == [224] + [64] * 9
    assert sides("cpc", 256) == [64] * 49
    for size, text in ((32, "ColorJitter(brightness=0.4"), (33, "ColorJitter(brightness=0.8")):
        assert text in repr(METHODS["simclr"].views(size, seed=0))


@pytest.mark.parametrize(
    ("images", "batch", "sizes"),
    [
        (3000, 128, {"moco": 1024, "nnclr": 1024, "looc": 1024, "pirl": 1024, "swav": 64}),  # as measured
        (4080, 128, {"moco": 1024, "swav": 64}),
        (4096, 128, {"moco": 2048, "swav": 128}),
        (6, 4, {"moco": 4, "pirl": 4, "swav": 16}),
        (2, 2, {"moco": 2, "swav": 16}),
        (10**6, 256, {"moco": 65536, "nnclr": 98304, "looc": 16384, "pirl": 32000, "swav": 3000}),
    ],
)
def test_queues_and_prototypes_fit_the_number_of_images(images: int, batch: int, sizes: dict[str, int]) -> None:
    task = Task(32, images, batch)
    for name, expected in sizes.items():
        assert queue_of(build_on_meta(name, "small", task)) == expected
    papers = {"moco-v1": 65536, "moco": 65536, "nnclr": 98304, "looc": 16384, "pirl": 32000, "swav": 3000}
    for name, expected in papers.items():
        assert queue_of(build_on_meta(name, "paper", task)) == expected


def queue_of(model: SSLModel) -> int:
    """Of SwAV the number of prototypes, of PIRL that of negatives."""
    match model:
        case MoCo() | models.NNCLR():
            return len(model.queue)
        case models.LooC():
            assert len({len(queue) for queue in model.queues}) == 1
            return len(model.queues[0])
        case models.PIRL():
            return model.negatives
        case models.SwaV():
            return model.prototypes.out_features
    raise AssertionError(type(model))


def test_sizes_by_hand() -> None:
    assert [queue_size(Task(32, images, 4), 100) for images in (1, 15, 16, 127, 128, 10**9)] == [4, 4, 8, 32, 64, 100]
    assert [prototype_count(Task(32, images, 4)) for images in (1, 1023, 1024, 2048, 10**9)] == [16, 16, 32, 64, 3000]


def test_the_papers_heads_are_the_defaults_of_the_classes() -> None:
    model = build_on_meta("dino", "paper")
    assert isinstance(model, DINO)
    assert (model.momentum, model.frozen_until, model.head[1].weight.shape) == (0.996, 0.01, (65536, 256))
    moco = build_on_meta("moco-v1", "paper")
    assert isinstance(moco, MoCo)
    assert isinstance(moco.head[-1], nn.Linear)
    assert (moco.momentum, moco.loss.temperature) == (0.999, 0.07)


@pytest.mark.parametrize("stem", ["cifar", "imagenet"])
def test_the_default_maps_are_those_of_a_resnet(stem: str) -> None:
    size = 32 if stem == "cifar" else 64
    network = resnet("resnet10", stem="cifar" if stem == "cifar" else "imagenet")
    model = METHODS["amdim"].small(network, Task(size, images=8, batch=2))
    assert torch.isfinite(model(torch.rand(2, 2, 3, size, size)))


def test_only_cpc_needs_another_norm_and_only_paws_needs_labels() -> None:
    assert [name for name, method in METHODS.items() if method.norm != "batch"] == ["cpc"]
    assert [name for name, method in METHODS.items() if method.labels] == ["paws"]
