"""The commands `views`, `train`, `demo` and `bench` of `lightly-aug`."""

import json
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryFile
from typing import Annotated, Final, Literal

import torch
from torch.utils.data import DataLoader

from lightly_aug import (
    BaseCollateFunction,
    ColorCollateFunction,
    ImageCollateFunction,
    Indexed,
    Normalize,
    ShapeCollateFunction,
    TextureCollateFunction,
    __version__,
)
from lightly_aug.bench import WORKLOADS
from lightly_aug.bench import run as run_bench
from lightly_aug.checks import check_choice
from lightly_aug.demo import run as run_demo
from lightly_aug.images import image_files
from lightly_aug.methods import METHODS, Task
from lightly_aug.models import resnet
from lightly_aug.optional import extra
from lightly_aug.plot import view_grid
from lightly_aug.train import fit, progress

with extra("demo"):
    import typer
    from rich.console import Console
    from rich.markdown import Markdown
    from safetensors.torch import save_model

__all__ = ["bench", "demo", "train", "views"]

_VIEWS: Final[dict[str, Callable[..., BaseCollateFunction]]] = {
    **{name: method.views for name, method in METHODS.items()},
    "image": ImageCollateFunction,
    "shape": ShapeCollateFunction,
    "texture": TextureCollateFunction,
    "color": ColorCollateFunction,
}
_TRAINED: Final = [name for name, method in METHODS.items() if not method.labels]

app = typer.Typer(
    name="lightly-aug",
    help="Draw views for self-supervised learning, and train with them.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
)

Folder = Annotated[Path, typer.Argument(help="Folder of images; subfolders are searched too.")]
Size = Annotated[int, typer.Option(min=8, help="Side of the views in pixels.")]
Seed = Annotated[int, typer.Option(help="Seed of everything random; the same seed gives the same views.")]
OutFolder = Annotated[Path, typer.Option("--out", help="Folder to write to.")]


def _print_version(asked: bool) -> None:
    if asked:
        print(__version__)
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass


@app.command(epilog="Example: `lightly-aug views photos --method simclr --rows 4 --out views.png`")
def views(
    folder: Folder,
    method: Annotated[str, typer.Option(help=f"Views to draw: {', '.join(_VIEWS)}.")] = "simclr",
    size: Annotated[int, typer.Option(min=1, help="Side of the views in pixels.")] = 224,
    rows: Annotated[int, typer.Option(min=1, help="Number of images.")] = 6,
    draws: Annotated[int, typer.Option(min=1, help="How often to draw the views of each image.")] = 2,
    seed: Seed = 0,
    out: Annotated[Path, typer.Option(help="PNG file to write.")] = Path("views.png"),
) -> None:
    """Draw images and their views, with the drawn numbers as captions."""
    check_choice("lightly-aug views", list(_VIEWS), **{"--method": method})
    files = _find_images(folder)
    chosen = files[:: max(1, len(files) // rows)][:rows]
    out.parent.mkdir(parents=True, exist_ok=True)
    name = METHODS[method].title if method in METHODS else method
    title = f"{name}, views of {size} pixels, seed {seed}"
    view_grid(_VIEWS[method](size, seed=seed), chosen, draws=draws, title=title).savefig(out, dpi=110)
    print(f"{out}: {len(chosen)} images, views of {method} at {size} pixels, seed {seed}")


@app.command(epilog="Example: `lightly-aug train photos --method moco --backbone resnet18 --size 96 --epochs 50`")
def train(
    folder: Folder,
    method: Annotated[str, typer.Option(help=f"Method to train with: {', '.join(_TRAINED)}.")] = "moco",
    backbone: Annotated[str, typer.Option(help="resnet10, or any ResNet of torchvision.")] = "resnet18",
    size: Size = 224,
    epochs: Annotated[int, typer.Option(min=1, help="Passes over the images.")] = 100,
    batch_size: Annotated[int, typer.Option(min=2, help="Images in a batch.")] = 128,
    lr: Annotated[float, typer.Option(help="Learning rate of AdamW; it falls to 0 along a cosine.")] = 1e-3,
    paper: Annotated[
        bool, typer.Option("--paper", help="Use the paper's heads and queues instead of ones for small data.")
    ] = False,
    workers: Annotated[int, typer.Option(min=0, help="Processes that load images.")] = 2,
    device: Annotated[str, typer.Option(help="cpu, cuda, mps …; by default an accelerator if there is one.")] = "",
    seed: Seed = 0,
    out: OutFolder = Path("runs/train"),
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace the backbone of an earlier run in the folder --out.")
    ] = False,
) -> None:
    """Train a backbone on a folder of images, without labels, and save its weights as safetensors."""
    check_choice("lightly-aug train", list(METHODS), **{"--method": method})
    chosen = METHODS[method]
    if chosen.labels:
        raise ValueError(
            f"lightly-aug train: --method {method} needs labels of some images, which this command does not read; "
            f"docs/methods.md shows how to train {chosen.title} in Python"
        )
    files = _find_images(folder)
    accelerator = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    target = _find_device(device or str(accelerator or "cpu"))
    file = _prepare_file(out, overwrite=overwrite)
    torch.manual_seed(seed)
    stem: Literal["cifar", "imagenet"] = "cifar" if size <= 32 else "imagenet"
    network = resnet(backbone, stem=stem, norm=chosen.norm)
    # render="auto" would render late on any machine with an accelerator, even if --device is cpu
    collate = chosen.views(size, seed=seed, render="worker" if target.type == "cpu" else "late")
    batch = min(batch_size, len(files))
    loader = DataLoader(
        Indexed(files), batch, shuffle=True, drop_last=True, num_workers=workers, collate_fn=collate,
        pin_memory=target.type == "cuda", persistent_workers=workers > 0,
    )  # fmt: skip
    model = (chosen.paper if paper else chosen.small)(network, Task(size, len(files), batch))
    with progress(f"{chosen.title} on {len(files)} images") as on_step:
        fit(model, loader, epochs=epochs, lr=lr, device=target, on_step=on_step)
    normalize = _find_normalize(collate)
    metadata = {
        "method": method,
        "arch": backbone,
        "stem": stem,
        "norm": chosen.norm,
        "size": str(size),
        "normalize": json.dumps({"mean": normalize.mean, "std": normalize.std}) if normalize else "none",
        "epochs": str(epochs),
        "lightly_aug": __version__,
        "torch": str(torch.__version__),
    }
    save_model(network, str(file), metadata=metadata)
    print(f"{file}: {backbone}, trained with {chosen.title} for {epochs} epoch{'s' * (epochs > 1)} on {target}")
    print(f"It loads into resnet({backbone!r}, stem={stem!r}, norm={chosen.norm!r}).")
    scale = f"normalised by mean {normalize.mean} and std {normalize.std}" if normalize else "not normalised"
    print(f"It expects inputs in [0, 1], {scale}.")


@app.command(epilog="Example: `lightly-aug demo --data photos --out runs/photos`")
def demo(
    data: Annotated[Path | None, typer.Option(help="Folder of images; by default scikit-image's photographs.")] = None,
    size: Size = 48,
    epochs: Annotated[
        int | None, typer.Option(min=1, help="Passes over the images; by default about three minutes on two cores.")
    ] = None,
    seed: Seed = 0,
    out: OutFolder = Path("runs/demo"),
) -> None:
    """Train MoCo for some minutes and show the result: accuracy, a grid of views, the embedding."""
    run_demo(data, out, size=size, epochs=epochs, seed=seed)


@app.command(epilog="Example: `lightly-aug bench --method dino`")
def bench(
    method: Annotated[str, typer.Option(help=f"Views to measure: {', '.join(WORKLOADS)}.")] = "simclr",
    batch: Annotated[int, typer.Option(min=1, help="Images in a batch.")] = 32,
    rounds: Annotated[int, typer.Option(min=1, help="How often each library is measured, in turn.")] = 5,
    seconds: Annotated[float, typer.Option(min=0.0, help="How long each time.")] = 1.0,
    out: Annotated[Path, typer.Option(help="File to write, without suffix: .md and .json.")] = Path("runs/bench"),
) -> None:
    """Measure images a second on one core of this machine, with every library that is installed."""
    check_choice("lightly-aug bench", list(WORKLOADS), **{"--method": method})
    Console().print(Markdown(run_bench(out, method=method, batch=batch, rounds=rounds, seconds=seconds)))
    print(f"{out.with_suffix('.md')}, {out.with_suffix('.json')}")


def _find_images(folder: Path) -> list[Path]:
    files = image_files(folder)
    if not files:
        raise ValueError(f"lightly-aug: {folder} must hold images (jpg, png, tif, webp, bmp, gif), got none")
    return files


def _find_device(name: str) -> torch.device:
    try:
        torch.empty(0, device=name)
    except (AssertionError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f"lightly-aug: --device must be a device of this machine, got {name!r}: {reason}") from None
    return torch.device(name)


def _prepare_file(out: Path, *, overwrite: bool) -> Path:
    """Make the folder of the backbone, and write to it before training, so that no training is lost."""
    file = out / "backbone.safetensors"
    if file.exists() and not overwrite:
        raise ValueError(
            f"lightly-aug train: --out must be a folder without {file.name}, got {out}: "
            "choose another --out, or replace the file with --overwrite"
        )
    try:
        out.mkdir(parents=True, exist_ok=True)
        TemporaryFile(dir=out).close()
        if file.exists():
            file.open("r+b").close()
    except OSError as error:
        reason = error.strerror or str(error)
        raise ValueError(
            f"lightly-aug train: --out must be a folder where {file.name} can be written, got {out}: {reason}"
        ) from None
    return file


def _find_normalize(collate: BaseCollateFunction) -> Normalize | None:
    """Return the normalisation of the views, which is the same in all views of a method; None if there is none."""
    return next((operation for operation in collate.views[0].operations if isinstance(operation, Normalize)), None)
