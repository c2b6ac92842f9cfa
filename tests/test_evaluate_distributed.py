"""Features of two gloo processes, compared with those of one."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.ranks import Ranks, start_ranks
from torch import Tensor, nn
from torch.utils.data import DataLoader, DistributedSampler, Subset

from lightly_aug import Indexed, MultiViewCollateFunction, Resize, View
from lightly_aug.distributed import rank, world_size
from lightly_aug.evaluate import extract_features, features, read_features

COUNT = 11
PHOTOS = [
    (torch.rand(3, 9 + i, 8, generator=torch.Generator().manual_seed(i)), torch.tensor(i % 4)) for i in range(COUNT)
]


@pytest.fixture(scope="module")
def ranks(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ranks]:
    with start_ranks(2, tmp_path_factory.mktemp("ranks")) as started:
        yield started


def make_network(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.AdaptiveAvgPool2d(1))


def still(render: Any = "worker") -> MultiViewCollateFunction:
    return MultiViewCollateFunction([View(Resize((6, 6)))], seed=0, render=render)


def load_share(dataset: Any, *, shuffle: bool = True) -> DataLoader[Any]:
    sampler: DistributedSampler[Any] = DistributedSampler(dataset, world_size(), rank(), shuffle=shuffle, seed=3)
    return DataLoader(dataset, 2, sampler=sampler, collate_fn=still("worker" if shuffle else "late"))


def load_all(dataset: Any) -> DataLoader[Any]:
    return DataLoader(dataset, 2, collate_fn=still())


def load_uneven(dataset: Any) -> Any:
    """Give one batch of five images to the first process, and the others, in batches of two, to the second."""
    if rank() == 0:
        return DataLoader(Subset(dataset, [9, 3, 4, 10, 2]), 5, collate_fn=still())
    return iter(DataLoader(Subset(dataset, [5, 6, 0, 1, 7, 8]), 2, collate_fn=still()))


def load_in_one(dataset: Any) -> Any:
    return load_all(dataset) if rank() == 1 else iter([])


LOADERS: dict[str, Callable[[Any], Any]] = {
    "shuffled": load_share,
    "in order": lambda dataset: load_share(dataset, shuffle=False),
    "whole": load_all,
    "uneven": load_uneven,
    "in one process": load_in_one,
}


def embed_on_ranks(load: str, dataset: Any) -> Any:
    return answer(features, make_network(), LOADERS[load](dataset))


def answer(function: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
    """Return the result of a function, or the text of its error: an error of one process would leave the other."""
    try:
        return function(*arguments, **options)
    except Exception as error:
        return f"{type(error).__name__}: {error}"


def embed_in_one() -> tuple[Tensor, Tensor | None]:
    return features(make_network(), load_all(PHOTOS))


@pytest.mark.parametrize("load", LOADERS)
@pytest.mark.parametrize("labelled", [True, False])
def test_the_rows_of_all_processes_in_the_order_of_the_data(ranks: Ranks, load: str, labelled: bool) -> None:
    dataset = Indexed(PHOTOS if labelled else [image for image, _ in PHOTOS])
    x, y = embed_in_one()
    assert y is not None
    here, there = ranks(embed_on_ranks, load, dataset)
    torch.testing.assert_close(here[0], x)
    assert torch.equal(here[0], there[0])
    for _, labels in (here, there):
        assert torch.equal(labels, y) if labelled else labels is None


def test_batches_without_indices(ranks: Ranks) -> None:
    for answer in ranks(embed_on_ranks, "whole", PHOTOS):
        torch.testing.assert_close(answer, embed_in_one())  # each process has all
    for load in ("shuffled", "in order"):
        here, there = ranks(embed_on_ranks, load, PHOTOS)
        assert here == there
        assert here.startswith("ValueError: features: the rows of 2 processes can be put in order only if the dataset")


def keep_on_ranks(dataset: Any) -> tuple[Tensor, Tensor]:
    x, y = features(make_network(), load_share(dataset), gather=False)
    assert y is not None
    return x, torch.cat([batch[1] for batch in load_share(dataset)]) - y


@pytest.mark.parametrize("wrap", [list, Indexed])
def test_each_process_can_keep_its_rows(ranks: Ranks, wrap: Callable[[Any], Any]) -> None:
    for x, difference in ranks(keep_on_ranks, wrap(PHOTOS)):
        assert len(x) == 6
        assert difference.abs().max() == 0


def fail_on_ranks() -> list[str]:
    """Return what a process says of loaders without batches, and of rows of another width in the other process."""
    batch = still()([Indexed(PHOTOS)[i] for i in (0, 1)])
    return [answer(features, make_network(), iter([])), answer(features, nn.AdaptiveAvgPool2d(1 + rank()), [batch])]


def test_errors_are_the_same_in_all_processes(ranks: Ranks) -> None:
    here, there = ranks(fail_on_ranks)
    assert here == there
    assert here[0] == "ValueError: features: loader must yield at least one batch in one of the processes, got none"
    assert "features, labels and indices must be of one kind in all processes" in here[1]


# --- into a file ------------------------------------------------------------------------------------------------


def extract_on_ranks(out: Path, images: Any, part: int = 4096, seeds: tuple[int, int] = (0, 0)) -> tuple[Any, int]:
    done: list[int] = []
    network = make_network(seeds[rank()])
    shape = answer(extract_features, network, images, still(), out, batch_size=2, part=part, step=done.append)
    assert isinstance(shape, str) or read_features(out).features.shape == shape  # the file is there in all processes
    return shape, sum(done)


@pytest.mark.parametrize("part", [2, 4096])
def test_processes_share_the_parts(ranks: Ranks, tmp_path: Path, part: int) -> None:
    out = tmp_path / "features.safetensors"
    answers = ranks(extract_on_ranks, out, PHOTOS, part)
    assert [shape for shape, _ in answers] == [(COUNT, 4)] * 2
    assert sum(count for _, count in answers) == COUNT
    assert min(count for _, count in answers) >= 4
    found, (x, y) = read_features(out), embed_in_one()
    torch.testing.assert_close(found.features, x)
    assert y is not None
    assert found.labels == [str(label) for label in y.tolist()]
    assert list(tmp_path.iterdir()) == [out]


class Broken(list[Any]):
    def __getitem__(self, index: Any) -> Any:
        if index == 5:
            raise OSError("no such image")
        return super().__getitem__(index)


def test_the_failure_of_one_process_ends_all_and_keeps_the_parts(ranks: Ranks, tmp_path: Path) -> None:
    out = tmp_path / "features.npz"
    (here, _), (there, _) = ranks(extract_on_ranks, out, Broken(PHOTOS), 2)
    # parts of two images: 0, 2 and 4 are those of the first process, and image 5 is in part 2
    assert here == "OSError: no such image"
    assert there == f"RuntimeError: extract_features: process 0 failed: {here}"
    assert not out.exists()
    left = sorted(path.name for path in (tmp_path / "features.npz.parts").iterdir())
    assert left == ["000000.npz", "000001.npz", "000003.npz", "000005.npz", "parts.json"]
    assert [count for _, count in ranks(extract_on_ranks, out, PHOTOS)] == [7 + 2, 2]
    torch.testing.assert_close(read_features(out).features, embed_in_one()[0])


def test_other_weights_in_another_process_are_refused(ranks: Ranks, tmp_path: Path) -> None:
    for text, _ in ranks(extract_on_ranks, tmp_path / "x.npz", PHOTOS, 4, (0, 1)):
        assert "must embed with the same module and collate function, got other weights in some" in text
    assert not list(tmp_path.iterdir())
