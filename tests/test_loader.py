"""Real DataLoaders: any number of workers, any way of starting them, epoch after epoch; Lightning and Accelerate."""

import os
import pickle
import re
import traceback
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from multiprocessing.context import ForkContext, ForkProcess
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from helpers.cases import generators, noise
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, IterableDataset

from lightly_aug import (
    Color,
    ImageError,
    Indexed,
    MultiViewCollateFunction,
    Shape,
    Texture,
    View,
    Views,
    transport,
)
from lightly_aug.batch import RenderedViews

COUNT = 22


class Photos(Dataset[tuple[Any, int]]):
    """Images of different sizes, each with its number; can be pickled for a worker that is started by `spawn`."""

    def __len__(self) -> int:
        return COUNT

    def __getitem__(self, index: int) -> tuple[Any, int]:
        return noise(6 + index % 5, 12 - index % 4, seed=index), index


class Stream(IterableDataset[tuple[Any, int]]):
    def __iter__(self) -> Iterator[tuple[Any, int]]:
        return (Photos()[i] for i in range(COUNT))


VIEW = View(Shape(4), Color(), Texture())


def collate(**options: Any) -> MultiViewCollateFunction:
    defaults: dict[str, Any] = {"seed": 7, "render": "late"}
    return MultiViewCollateFunction([VIEW, VIEW], **defaults | options)


pytestmark = [
    pytest.mark.filterwarnings("ignore:This DataLoader will create . worker processes"),  # more than there are cores
    pytest.mark.filterwarnings("ignore:This process .* is multi-threaded, use of fork"),  # Python 3.12 on
]


def loader(dataset: Any = None, function: Any = None, *, batch_size: int = 4, **options: Any) -> DataLoader[Any]:
    return DataLoader(dataset or Photos(), batch_size, collate_fn=function or collate(), **options)


Rows = dict[int, bytes]


def epoch(of: Iterable[Any]) -> Rows:
    """The draws of every image by its number, in the order in which they arrive."""
    rows = {}
    for views, numbers in of:
        for i, number in enumerate(numbers.tolist()):
            rows[number] = views.table[:, i].numpy().tobytes()
    return rows


@pytest.fixture(scope="module")
def expected() -> list[Rows]:
    """Three epochs without workers."""
    of = loader()
    return [epoch(of) for _ in range(3)]


def assert_all_differ(*epochs: Rows) -> None:
    """No two images, and no image in two epochs, have the same draws."""
    rows = [row for rows in epochs for row in rows.values()]
    assert len(set(rows)) == len(rows)


def test_epochs_never_repeat(expected: list[Rows]) -> None:
    assert [len(rows) for rows in expected] == [COUNT] * 3
    assert_all_differ(*expected)


@pytest.mark.parametrize("persistent", [False, True])
@pytest.mark.parametrize("workers", [1, 2, 3])
def test_any_number_of_forked_workers_makes_the_same_views(
    expected: list[Rows], workers: int, persistent: bool
) -> None:
    of = loader(num_workers=workers, persistent_workers=persistent, multiprocessing_context="fork")
    assert [epoch(of) for _ in range(3)] == expected


@pytest.mark.parametrize("persistent", [False, True])
def test_spawned_workers_make_the_same_views(expected: list[Rows], persistent: bool) -> None:
    of = loader(num_workers=2, persistent_workers=persistent, multiprocessing_context="spawn")
    assert [epoch(of) for _ in range(2)] == expected[:2]


def test_a_later_loader_continues_the_epochs_with_any_number_of_workers(expected: list[Rows]) -> None:
    function = collate()
    epochs = [epoch(loader(function=function, num_workers=workers)) for workers in (2, 0, 3)]
    assert epochs == expected


def test_more_workers_than_batches_make_the_same_views() -> None:
    without, with_workers = loader(batch_size=16), loader(batch_size=16, num_workers=3, persistent_workers=True)
    assert [epoch(with_workers) for _ in range(3)] == [epoch(without) for _ in range(3)]


def test_seeding_torch_before_every_epoch_repeats_nothing() -> None:
    of, epochs = loader(num_workers=2), []
    with torch.random.fork_rng():
        for _ in range(3):
            torch.manual_seed(0)
            epochs.append(epoch(of))
    assert_all_differ(*epochs)


def test_the_views_do_not_depend_on_torchs_seed_nor_advance_a_generator(expected: list[Rows]) -> None:
    for workers in (0, 2):
        with torch.random.fork_rng():
            torch.manual_seed(workers + 5)
            of = loader(num_workers=workers)
            batches = iter(of)  # the loader itself draws a seed for its workers here
            before = generators()
            rows = [views.table for views, _ in batches]
            assert generators() == before
        assert b"".join(expected[0].values()) == torch.cat(rows, dim=1).transpose(0, 1).contiguous().numpy().tobytes()


def test_an_epoch_that_is_left_early_counts(expected: list[Rows]) -> None:
    for options in ({}, {"num_workers": 2}, {"num_workers": 2, "persistent_workers": True}):
        of = loader(**options)
        next(iter(of))
        assert epoch(of) == expected[1]
        for _ in of:
            break
        assert_all_differ(*expected[:2], epoch(of))


@pytest.mark.parametrize("options", [{}, {"num_workers": 2}, {"num_workers": 2, "persistent_workers": True}])
def test_set_epoch_sets_the_epoch(expected: list[Rows], options: dict[str, Any]) -> None:
    function = collate()
    of = loader(function=function, **options)
    assert epoch(of) == expected[0]
    seen = []
    for number in (2, 1, 9, 2):
        function.set_epoch(number)
        seen.append(epoch(of))
    assert seen[0] == seen[3] == expected[2]
    assert seen[1] == expected[1]
    assert_all_differ(*seen[:3])


@pytest.mark.parametrize("options", [{}, {"num_workers": 2}, {"num_workers": 2, "persistent_workers": True}])
def test_the_next_epoch_follows_one_that_was_set(expected: list[Rows], options: dict[str, Any]) -> None:
    function = collate()
    of = loader(function=function, **options)
    function.set_epoch(1)
    assert [epoch(of), epoch(of)] == [expected[1], expected[2]]


@pytest.mark.parametrize("workers", [0, 2])
def test_loaders_that_share_a_collate_function_can_take_turns(expected: list[Rows], workers: int) -> None:
    function = collate()
    both = [iter(loader(function=function, num_workers=workers)) for _ in range(2)]
    first, second = [next(both[0])], [next(both[1])]
    first += both[0]
    second += both[1]
    in_turn = [epoch(first), epoch(second)]
    assert_all_differ(*in_turn)
    if workers == 0:
        assert in_turn == expected[:2]


def test_a_stream_is_drawn_like_a_dataset(expected: list[Rows]) -> None:
    of = loader(Stream())
    assert [epoch(of) for _ in range(2)] == expected[:2]
    of = loader(Stream(), num_workers=1)
    assert [epoch(of) for _ in range(2)] == expected[:2]


# --- indexed ----------------------------------------------------------------------------------------------------


def test_indexed_images_have_the_same_views_in_any_batch_order_and_worker() -> None:
    reference = loader(Indexed(Photos()))
    expected = [epoch(reference) for _ in range(2)]
    assert_all_differ(*expected)
    for options in (
        {"batch_size": 7},
        {"batch_size": 1, "shuffle": True},
        {"batch_size": 5, "shuffle": True, "num_workers": 2},
        {"batch_size": 22, "num_workers": 3, "persistent_workers": True},
        {"batch_size": 3, "sampler": list(reversed(range(COUNT))), "num_workers": 1},
    ):
        of = loader(Indexed(Photos()), **options)
        assert [epoch(of) for _ in range(2)] == expected


def test_indexed_images_have_the_same_pixels_in_any_batch() -> None:
    one, other = loader(Indexed(Photos()), batch_size=COUNT), loader(Indexed(Photos()), batch_size=3)
    whole = next(iter(one))[0].to()
    parts = [views.to() for views, _ in other]
    for i in (0, 1):
        torch.testing.assert_close(torch.cat([views[i] for views in parts]), whole[i], rtol=0, atol=1e-6)


def test_views_hold_the_index_of_their_images() -> None:
    for workers in (0, 2):
        for views, numbers in loader(Indexed(Photos()), shuffle=True, num_workers=workers):
            assert torch.equal(views.index, numbers)
    assert all(views.index is None for views, _ in loader())


def test_a_seed_of_its_own_draws_other_views_for_the_same_index() -> None:
    assert_all_differ(*(epoch(loader(Indexed(Photos()), collate(seed=seed))) for seed in (1, 2)))


# --- from the workers to the main process -----------------------------------------------------------------------


class TellsSharing(MultiViewCollateFunction):
    """Tells from the worker, before anything is sent, whether pixels and views are in shared memory."""

    def __call__(self, samples: Any) -> Any:
        views, _ = super().__call__(samples)
        tensors = views.rendered or [views.images.pixels]
        return views, [
            any(block.address == x.untyped_storage().data_ptr() for block in transport._blocks) for x in tensors
        ]


@pytest.mark.skipif(not hasattr(os, "memfd_create"), reason="only Linux has anonymous files")
@pytest.mark.parametrize("render", ["late", "worker"])
def test_workers_write_straight_into_shared_memory(render: Any) -> None:
    for _, shared in loader(function=TellsSharing([VIEW] * 2, seed=0, render=render), num_workers=2):
        assert all(shared)


@pytest.mark.parametrize("render", ["late", "worker"])
def test_views_arrive_as_they_were_made(render: str) -> None:
    ours = loader(function=collate(render=render), num_workers=2)
    for (views, numbers), (plain, same_numbers) in zip(ours, loader(), strict=True):
        assert isinstance(views, Views)
        assert torch.equal(numbers, same_numbers)
        assert (views.rendered is None) == (render == "late")
        for one, other in zip(views, plain, strict=True):
            torch.testing.assert_close(one, other, rtol=0, atol=1e-6)
        assert all(torch.equal(a, b) for a, b in zip(views.matrices, plain.matrices, strict=True))


@dataclass
class Record:
    image: Any
    name: str


class Records(Photos):
    def __getitem__(self, index: int) -> Any:
        return Record(super().__getitem__(index)[0], f"{index}")


def test_dataclasses_travel_through_workers() -> None:
    for batch in loader(Records(), num_workers=1):
        assert isinstance(batch, Record)
        assert isinstance(batch.image, Views)
        assert isinstance(batch.name, list)


class Files(Dataset[str]):
    def __init__(self, files: list[Path]) -> None:
        self.files = files

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> str:
        return str(self.files[index])


def failure(of: DataLoader[Any]) -> str:
    """The error of the first batch as text."""
    try:
        next(iter(of))
    except (ImageError, RuntimeError) as error:
        traceback.clear_frames(error.__traceback__)  # else a cycle holds the iterator, and workers end badly
        return f"{type(error).__name__}: {error}"
    return "nothing"


def test_an_error_in_a_worker_names_the_sample_and_its_file(tmp_path: Path) -> None:
    (tmp_path / "broken.jpg").write_bytes(b"no jpeg")
    files = Files([tmp_path / "broken.jpg"] * 3)
    for workers in (0, 1):
        plain, indexed = (failure(loader(of, num_workers=workers)) for of in (files, Indexed(files)))
        assert re.match(r"(?s)ImageError: .*sample 0, .*broken\.jpg: not an image in a format that Pillow", plain)
        assert re.match(r"(?s)ImageError: .*sample 0 \(index 0\), .*broken\.jpg: not an image", indexed)


class Failing(Photos):
    def __getitem__(self, index: int) -> Any:
        raise RuntimeError("disk on fire")


def test_an_error_of_the_dataset_in_a_worker_names_the_sample() -> None:
    text = failure(loader(Indexed(Failing()), num_workers=1))
    assert re.match(r"(?s)RuntimeError: .*disk on fire.*raised by sample 0 of the dataset", text)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="pinning memory needs a CUDA device")
@pytest.mark.parametrize("render", ["late", "worker"])
def test_the_loader_pins_views(render: str) -> None:
    for views, _ in loader(function=collate(render=render), num_workers=1, pin_memory=True):
        assert isinstance(views, Views)
        pinned = [views.images.pixels] if views.rendered is None else views.rendered
        assert all(tensor.is_pinned() for tensor in pinned)
        for here, there in zip(views.to("cpu"), views.to("cuda"), strict=True):
            torch.testing.assert_close(here, there.cpu(), rtol=0, atol=1e-3)


# --- Lightning and Accelerate -----------------------------------------------------------------------------------


def is_rendered(views: object) -> bool:
    return (
        isinstance(views, RenderedViews)
        and next(column.shape for drawn in views.draws for column in drawn.values()) == (4,)
        and [matrices.shape for matrices in views.matrices] == [(4, 3, 3)] * 2
        and [tuple(view.shape) for view in views] == [(4, 3, 4, 4)] * 2
        and all(isinstance(view, Tensor) and view.dtype == torch.float32 for view in views)
    )


@pytest.mark.filterwarnings("ignore:.*does not have many workers.*")
@pytest.mark.filterwarnings("ignore:.*treespec, LeafSpec.*is deprecated")
@pytest.mark.filterwarnings("ignore:.*The number of training batches.*")
@pytest.mark.parametrize("render", ["late", "worker"])
def test_lightning_hands_rendered_views_to_the_training_step(render: str, tmp_path: Path) -> None:
    lightning = pytest.importorskip("lightning")

    class Module(lightning.LightningModule):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(48, 2)
            self.seen: list[bool] = []

        def training_step(self, batch: Any, _: int) -> Tensor:
            views, numbers = batch
            self.seen.append(is_rendered(views) and isinstance(numbers, Tensor))
            loss: Tensor = self.layer(views[0].flatten(1)).square().mean()
            return loss

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.SGD(self.parameters(), 0.1)

    module = Module()
    trainer = lightning.Trainer(
        accelerator="cpu",
        max_steps=2,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=tmp_path,
    )
    trainer.fit(module, loader(function=collate(render=render)))
    assert module.seen == [True, True]


@pytest.mark.parametrize("render", ["late", "worker"])
def test_accelerate_yields_rendered_views(render: str) -> None:
    accelerate = pytest.importorskip("accelerate")
    prepared = accelerate.Accelerator(cpu=True).prepare(loader(function=collate(render=render), drop_last=True))
    batches = list(prepared)
    assert len(batches) == COUNT // 4
    assert all(is_rendered(views) and isinstance(numbers, Tensor) for views, numbers in batches)


def test_a_worker_that_is_started_by_spawn_knows_the_rank_of_its_parent(monkeypatch: pytest.MonkeyPatch) -> None:
    function = collate()
    with monkeypatch.context() as patched:
        patched.setattr(torch.distributed, "is_initialized", lambda: True)
        patched.setattr(torch.distributed, "get_rank", lambda: 3)
        sent = pickle.dumps(function)
    there = pickle.loads(sent)
    images = [noise(8, 8)]
    assert not torch.equal(there(images).table, function(images).table)


class Numbered(MultiViewCollateFunction):
    """Yields the number of the epoch and of the batch."""

    def __call__(self, samples: Any) -> tuple[int, int]:
        return self._epochs.count_batch()


class Threaded(Numbered):
    """Does so from a thread of the process that calls it."""

    def __call__(self, samples: Any) -> tuple[int, int]:
        with ThreadPoolExecutor(1) as pool:
            return pool.submit(super().__call__, samples).result()


def numbered(kind: Any = Numbered, **options: Any) -> Any:
    numbers: Any = range(24)
    return DataLoader(numbers, 4, collate_fn=kind([VIEW], seed=7, render="late"), **options)


def run(of: Any, count: int, queue: Any, first: int | None = None) -> None:
    if first is not None:
        of.collate_fn.set_epoch(first)
    queue.put([sorted({number for number, _ in of}) for _ in range(count)])


@pytest.mark.parametrize(("method", "workers"), [("fork", 0), ("fork", 2), ("spawn", 0)])
def test_processes_that_got_the_same_loader_count_each_for_itself(method: str, workers: int) -> None:
    of = numbered(num_workers=workers)
    context: Any = torch.multiprocessing.get_context(method)
    answers = [context.SimpleQueue() for _ in range(3)]
    trials = [
        context.Process(target=run, args=args)
        for args in ((of, 4, answers[0]), (of, 2, answers[1]), (of, 2, answers[2], 5))
    ]
    for trial in trials:
        trial.start()
    assert [answer.get() for answer in answers] == [[[0], [1], [2], [3]], [[0], [1]], [[5], [6]]]
    for trial in trials:
        trial.join()


class Busy(ForkContext):
    """Starts another process before each process that is asked for."""

    def Process(self, *args: Any, **options: Any) -> Any:  # type: ignore[override]
        other = ForkProcess(target=int)
        other.start()
        other.join()
        return ForkProcess(*args, **options)


def test_workers_agree_while_something_else_starts_processes() -> None:
    of = numbered(num_workers=4, multiprocessing_context=Busy())
    assert [{number for number, _ in of} for _ in range(3)] == [{0}, {1}, {2}]


def test_batches_differ_in_a_thread_of_a_worker() -> None:
    for options in ({}, {"persistent_workers": True}):
        of = numbered(Threaded, num_workers=2, **options)
        pairs = [pair for _ in range(3) for pair in of]
        assert len(set(pairs)) == len(pairs)


def test_the_last_epoch_can_be_set() -> None:
    of = numbered()
    of.collate_fn.set_epoch((1 << 24) - 1)
    assert [{number for number, _ in of} for _ in range(2)] == [{(1 << 24) - 1}, {1 << 24}]
    with pytest.raises(ValueError, match="epoch must be between 0 and 16777215, got 16777216"):
        of.collate_fn.set_epoch(1 << 24)


def test_without_shared_memory_only_workers_are_warned(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: Tensor) -> None:
        raise RuntimeError("unable to open shared memory object")

    with monkeypatch.context() as patch:
        patch.setattr(Tensor, "share_memory_", refuse)
        of = numbered()
    assert [number for number, _ in of] == [0] * 6
    counter = of.collate_fn._epochs
    monkeypatch.setattr("lightly_aug.epochs.get_worker_info", lambda: SimpleNamespace(seed=3, id=0, num_workers=2))
    with pytest.warns(UserWarning, match="let an EpochSampler count the epochs"):
        counter.count_batch()
