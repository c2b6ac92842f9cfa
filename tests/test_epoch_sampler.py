"""Epochs that the sampler counts: exact in every kind of loader, and exact after a run is resumed."""

import pickle
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.cases import noise
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, IterableDataset, Subset

from lightly_aug import EpochSampler, Indexed, MultiViewCollateFunction, Shape, View

COUNT = 22
Pass = list[tuple[int, bytes]]  # the index and the draws of every image, in order


class Photos(Dataset[Tensor]):
    def __len__(self) -> int:
        return COUNT

    def __getitem__(self, index: int) -> Any:
        return noise(6 + index % 5, 12 - index % 4, seed=index)


class Batched(Photos):
    """A dataset that is read batch by batch, as those of `datasets` are."""

    calls = 0

    def __getitems__(self, indices: list[int]) -> list[Any]:
        self.calls += 1
        assert all(type(index) is int for index in indices)
        return [self[index] for index in indices]


class InThread:
    """A collate function that is called from a thread of the worker."""

    def __init__(self, function: Any) -> None:
        self.function = function

    def __call__(self, samples: Any) -> Any:
        with ThreadPoolExecutor(1) as pool:
            return pool.submit(self.function, samples).result()


def collate() -> MultiViewCollateFunction:
    return MultiViewCollateFunction([View(Shape(4))] * 2, seed=7, render="late")


def make(
    kind: Any = DataLoader, *, shuffle: bool = True, function: Any = None, data: Any = None, **options: Any
) -> Any:
    photos = Indexed(data or Photos())
    sampler = EpochSampler(photos, shuffle=shuffle, seed=3)
    return kind(photos, sampler=sampler, collate_fn=function or collate(), **{"batch_size": 4} | options)


def draws(views: Any) -> Pass:
    return [(index, views.table[:, i].numpy().tobytes()) for i, index in enumerate(views.index.tolist())]


def one_pass(batches: Any) -> Pass:
    return [row for views in batches for row in draws(views)]


@pytest.fixture(scope="module")
def expected() -> list[Pass]:
    loader = make()
    return [one_pass(loader) for _ in range(4)]


pytestmark = [
    pytest.mark.filterwarnings("ignore:This DataLoader will create . worker processes"),
    pytest.mark.filterwarnings("ignore:This process .* is multi-threaded, use of fork"),
    pytest.mark.filterwarnings("ignore:'set_vital' is deprecated"),  # torchdata's call
]


def test_every_epoch_shows_every_image_once_in_a_new_order_with_new_views(expected: list[Pass]) -> None:
    for rows in expected:
        assert sorted(index for index, _ in rows) == list(range(COUNT))
    assert len({tuple(index for index, _ in rows) for rows in expected}) == len(expected)
    drawn = [draw for rows in expected for _, draw in rows]
    assert len(set(drawn)) == len(drawn)


def test_the_views_are_those_of_a_collate_function_that_counts_by_itself(expected: list[Pass]) -> None:
    loader = DataLoader(Indexed(Photos()), 4, collate_fn=collate())
    for rows in expected:
        assert sorted(one_pass(loader)) == sorted(rows)


@pytest.mark.parametrize(
    "options",
    [
        {"num_workers": 1},
        {"num_workers": 3},
        {"num_workers": 3, "persistent_workers": True},
        {"num_workers": 2, "multiprocessing_context": "spawn", "persistent_workers": True},
        {"num_workers": 3, "persistent_workers": True, "batch_size": 16},  # a worker has no batch
        {"num_workers": 2, "data": Batched()},
    ],
    ids=", ".join,
)
def test_workers_of_any_kind_make_the_same_views(expected: list[Pass], options: dict[str, Any]) -> None:
    loader = make(**options)
    assert [one_pass(loader) for _ in range(3)] == expected[:3]


@pytest.mark.parametrize("workers", [0, 2])
def test_a_collate_function_called_in_a_thread_makes_the_same_views(expected: list[Pass], workers: int) -> None:
    loader = make(function=InThread(collate()), num_workers=workers, persistent_workers=workers > 0)
    assert [one_pass(loader) for _ in range(3)] == expected[:3]


@pytest.mark.parametrize("options", [{}, {"num_workers": 3}, {"num_workers": 3, "persistent_workers": True}])
def test_a_pass_that_is_left_early_is_an_epoch(expected: list[Pass], options: dict[str, Any]) -> None:
    loader = make(**options)
    for rows in expected:
        for views in loader:
            assert draws(views) == rows[:4]
            break


def test_loaders_that_share_a_collate_function_count_by_themselves(expected: list[Pass]) -> None:
    function = collate()
    loaders = [make(function=function), make(function=function, num_workers=2)]
    for rows in expected[:2]:
        assert [one_pass(loader) for loader in loaders] == [rows, rows]


def test_iterators_at_the_same_time_are_two_epochs(expected: list[Pass]) -> None:
    loader = make(num_workers=2)
    first, second = iter(loader), iter(loader)
    assert [one_pass(second), one_pass(first)] == [expected[1], expected[0]]
    assert one_pass(loader) == expected[2]


@given(st.integers(0, 30), st.integers(0, COUNT), st.booleans())
def test_set_epoch_continues_anywhere(epoch: int, start: int, shuffle: bool) -> None:
    sampler = EpochSampler(Indexed(Photos()), shuffle=shuffle)
    passes = [[(int(i), i.epoch) for i in sampler] for _ in range(epoch + 2)]  # type: ignore[attr-defined]
    resumed = EpochSampler(Indexed(Photos()), shuffle=shuffle)
    resumed.set_epoch(epoch, start)
    assert [(int(i), i.epoch) for i in resumed] == passes[epoch][start:]  # type: ignore[attr-defined]
    assert [(int(i), i.epoch) for i in resumed] == passes[epoch + 1]  # type: ignore[attr-defined]


def test_an_index_survives_pickling() -> None:
    index = next(iter(EpochSampler(Indexed(Photos()), shuffle=True)))
    again = pickle.loads(pickle.dumps(index))
    assert (again, again.epoch, repr(again)) == (index, 0, str(int(index)))


@given(st.integers(1, 5), st.integers(1, 40), st.booleans())
def test_ranks_share_the_images(ranks: int, count: int, shuffle: bool) -> None:
    photos = Indexed(range(count))
    parts = [
        list(EpochSampler(photos, shuffle=shuffle, num_replicas=ranks, rank=rank).order(5)) for rank in range(ranks)
    ]
    assert len({len(part) for part in parts}) == 1
    shown = [index for part in parts for index in part]
    assert set(shown) == set(range(count))
    assert len(shown) - count < ranks


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("batches", [0, 2, 6])
def test_stateful_data_loaders_resume_at_any_batch(expected: list[Pass], workers: int, batches: int) -> None:
    kind = pytest.importorskip("torchdata.stateful_dataloader").StatefulDataLoader
    loader = make(kind, num_workers=workers)
    one_pass(loader)
    iterator = iter(loader)
    seen = [row for _ in range(batches) for row in draws(next(iterator))]
    state = pickle.loads(pickle.dumps(loader.state_dict()))
    del iterator, loader
    resumed = make(kind, num_workers=workers)
    resumed.load_state_dict(state)
    assert seen + one_pass(resumed) == expected[1]
    assert one_pass(resumed) == expected[2]


@pytest.mark.parametrize("workers", [0, 2])
def test_stateful_data_loaders_resume_after_an_epoch(expected: list[Pass], workers: int) -> None:
    kind = pytest.importorskip("torchdata.stateful_dataloader").StatefulDataLoader
    loader = make(kind, num_workers=workers)
    one_pass(loader)
    state = loader.state_dict()
    resumed = make(kind, num_workers=workers)
    resumed.load_state_dict(state)
    rows = one_pass(resumed) or one_pass(resumed)
    assert [rows, one_pass(resumed)] == expected[1:3]


def trained(path: Path, loader: Any, *, ckpt: Path | None = None, **options: Any) -> list[Pass]:
    """Train with Lightning, and return the images and the places of their views, step by step."""
    lightning = pytest.importorskip("lightning")
    steps: list[Pass] = []

    class Module(lightning.LightningModule):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(2, 1)

        def training_step(self, views: Any, _: int) -> Tensor:
            matrices = views.matrices[0].numpy()
            steps.append([(index, matrices[i].tobytes()) for i, index in enumerate(views.index.tolist())])
            loss: Tensor = self.layer(torch.ones(1, 2)).sum()
            return loss

        def validation_step(self, *_: Any) -> None: ...

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.SGD(self.parameters(), 0.1)

    trainer = lightning.Trainer(
        accelerator="cpu",
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=path,
        **options,
    )
    trainer.fit(Module(), loader, make(), ckpt_path=ckpt)
    return steps


def quiet(test: Any) -> Any:
    """Pass over what Lightning says about a small run."""
    for message in (
        ".*does not have many workers",
        ".*treespec, LeafSpec",
        ".*The number of training batches",
        ".*Checkpoint directory",
        ".*callbacks used to create the checkpoint",
        ".*resuming from a checkpoint that ended",
    ):
        test = pytest.mark.filterwarnings(f"ignore:{message}")(test)
    return test


@quiet
@pytest.mark.parametrize("limit", [1.0, 3])
def test_lightning_resumes_after_an_epoch(tmp_path: Path, limit: float) -> None:
    callbacks = pytest.importorskip("lightning.pytorch.callbacks")
    options: dict[str, Any] = {"limit_train_batches": limit, "enable_checkpointing": False}
    whole = trained(tmp_path, make(), max_epochs=3, **options)
    assert len({row for step in whole for row in step}) == sum(map(len, whole))  # nothing repeats
    saver = callbacks.ModelCheckpoint(tmp_path, save_last=True)
    first = trained(tmp_path, make(), max_epochs=1, limit_train_batches=limit, callbacks=[saver])
    rest = trained(tmp_path, make(), max_epochs=3, ckpt=tmp_path / "last.ckpt", **options)
    assert first + rest == whole


@quiet
def test_lightning_resumes_in_the_middle_of_an_epoch(tmp_path: Path) -> None:
    kind = pytest.importorskip("torchdata.stateful_dataloader").StatefulDataLoader
    callbacks = pytest.importorskip("lightning.pytorch.callbacks")
    whole = trained(tmp_path, make(kind), max_epochs=3, enable_checkpointing=False)
    saver = callbacks.ModelCheckpoint(tmp_path, every_n_train_steps=8, save_last=True)  # 6 steps are an epoch
    first = trained(tmp_path, make(kind), max_steps=8, callbacks=[saver])
    rest = trained(tmp_path, make(kind), max_epochs=3, ckpt=tmp_path / "last.ckpt", enable_checkpointing=False)
    assert first + rest == whole


def test_accelerate_names_the_epoch(expected: list[Pass]) -> None:
    accelerate = pytest.importorskip("accelerate")
    prepared = accelerate.Accelerator(cpu=True).prepare(make())

    def rows() -> list[int]:
        return [index for views in prepared for index in views.index.tolist()]

    orders = [[index for index, _ in of_epoch] for of_epoch in expected]
    assert [rows(), rows()] == orders[:2]
    prepared.set_epoch(3)  # a resumed run
    assert rows() == orders[3]


def test_every_rank_of_a_process_group_gets_its_part_even_if_the_loader_was_made_before(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sampler = EpochSampler(Indexed(Photos()), shuffle=True)
    assert len(sampler) == COUNT
    monkeypatch.setattr("lightly_aug.distributed.world_size", lambda: 2)
    monkeypatch.setattr("lightly_aug.distributed.rank", lambda: 1)
    assert list(sampler) == sampler.order(0)
    assert len(sampler) == COUNT // 2


def test_errors_say_what_to_do() -> None:
    photos = Indexed(Photos())
    with pytest.raises(TypeError, match="must be Indexed, got a Subset"):
        EpochSampler(Subset(photos, [0, 1]))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="go together, got 2 and None"):
        EpochSampler(photos, num_replicas=2)
    with pytest.raises(ValueError, match="rank must be between 0 and 1, got 2"):
        EpochSampler(photos, num_replicas=2, rank=2)
    with pytest.raises(ValueError, match="seed must be an integer >= 0, got -1"):
        EpochSampler(photos, seed=-1)
    with pytest.raises(ValueError, match="epoch must be between 0 and"):
        EpochSampler(photos).set_epoch(-1)
    with pytest.raises(ValueError, match="start must be between 0 and 22, the images of a rank, got 23"):
        EpochSampler(photos).set_epoch(0, 23)

    class Stream(IterableDataset[Any]):
        def __iter__(self) -> Iterator[Any]:
            return iter(())

    with pytest.raises(TypeError, match="a Stream is a stream and has no indices"):
        Indexed(Stream())


def test_set_epoch_of_the_collate_function_says_that_it_does_nothing() -> None:
    function = collate()
    function.set_epoch(3)
    with pytest.warns(UserWarning, match=r"call sampler\.set_epoch\(epoch\)"):
        next(iter(make(function=function)))


def test_datasets_that_read_whole_batches_do() -> None:
    data = Batched()
    one_pass(make(data=data))
    assert data.calls == -(-COUNT // 4)
