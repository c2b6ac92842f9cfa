"""The command `lightly-aug`."""

import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

try:
    import typer
    from rich.console import Console
    from rich.markup import escape
except ModuleNotFoundError as missing:
    print(f"{missing.name} is not installed: pip install 'lightly-aug[demo]'", file=sys.stderr)
    sys.exit(2)

import torch
from torch.utils.data import DataLoader

from lightly_aug import __version__
from lightly_aug.collate import (
    BaseCollateFunction,
    ColorCollateFunction,
    ImageCollateFunction,
    MultiViewCollateFunction,
    ShapeCollateFunction,
    TextureCollateFunction,
)
from lightly_aug.images import ImageError, image_files
from lightly_aug.indexed import Indexed
from lightly_aug.optional import extra
from lightly_aug.recipes import (
    AMDIMCollateFunction,
    BarlowTwinsCollateFunction,
    BYOLCollateFunction,
    CPCCollateFunction,
    DINOCollateFunction,
    LooCCollateFunction,
    MoCoCollateFunction,
    NNCLRCollateFunction,
    PAWSCollateFunction,
    PIRLCollateFunction,
    SimCLRCollateFunction,
    SimSiamCollateFunction,
    SwaVCollateFunction,
)

if TYPE_CHECKING:
    from lightly_aug.models import SSLModel

__all__ = ["main"]

COLLATES: dict[str, Callable[..., BaseCollateFunction]] = {  # by the size of the largest view
    "amdim": AMDIMCollateFunction,
    "barlow-twins": BarlowTwinsCollateFunction,
    "byol": BYOLCollateFunction,
    "color": ColorCollateFunction,
    "cpc": lambda size, **options: CPCCollateFunction(*(max(1, size // 8) * n for n in (8, 2, 1)), **options),
    "dino": lambda size, **options: DINOCollateFunction(size, _part(size, 96), **options),
    "image": ImageCollateFunction,
    "looc": LooCCollateFunction,
    "moco": MoCoCollateFunction,
    "moco-v1": partial(MoCoCollateFunction, version=1),
    "moco-v3": partial(MoCoCollateFunction, version=3),
    "nnclr": NNCLRCollateFunction,
    "paws": lambda size, **options: PAWSCollateFunction(size, _part(size, 96), **options),
    "pirl": lambda size, **options: PIRLCollateFunction(size, _part(size, 64), _part(size, 255), **options),
    "shape": ShapeCollateFunction,
    "simclr": SimCLRCollateFunction,
    "simsiam": SimSiamCollateFunction,
    "swav": lambda size, **options: SwaVCollateFunction(size, _part(size, 96), **options),
    "texture": TextureCollateFunction,
}
TRAINED = (
    *("barlow-twins", "byol", "dino", "looc", "moco", "moco-v1", "moco-v3", "nnclr", "pirl", "simclr", "simsiam"),
    "swav",
)

app = typer.Typer(
    name="lightly-aug",
    help="Views for self-supervised learning: look at them, train with them.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
)

Folder = Annotated[Path, typer.Argument(help="Folder of images; subfolders are searched, too.")]
Seed = Annotated[int, typer.Option(help="The same seed gives the same views.")]


def _version(asked: bool) -> None:
    if asked:
        print(__version__)
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass


@app.command(epilog="Example: `lightly-aug views photos --method simclr --rows 4 --out views.png`")
def views(
    folder: Folder,
    method: Annotated[str, typer.Option(help=f"Whose views: {', '.join(COLLATES)}.")] = "simclr",
    size: Annotated[int, typer.Option(min=1, help="Side of the views in pixels.")] = 224,
    rows: Annotated[int, typer.Option(min=1, help="Number of images.")] = 6,
    draws: Annotated[int, typer.Option(min=1, help="How often to draw the method's views of each.")] = 2,
    seed: Seed = 0,
    out: Annotated[Path, typer.Option(help="PNG file to write.")] = Path("views.png"),
) -> None:
    """Draw images and their views, captioned with what was drawn."""
    from lightly_aug.plot import view_grid

    if method not in COLLATES:
        raise ValueError(f"--method {method}: there are {', '.join(COLLATES)}")
    files = _files(folder)
    chosen = files[:: max(1, len(files) // rows)][:rows]
    out.parent.mkdir(parents=True, exist_ok=True)
    collate = MultiViewCollateFunction(COLLATES[method](size).views * draws, seed=seed)
    view_grid(collate, chosen).savefig(out, dpi=110)
    Console(soft_wrap=True).print(f"{out}: {len(chosen)} images, views of {method} at {size} pixels, seed {seed}")


@app.command(epilog="Example: `lightly-aug train photos --method moco --backbone resnet18 --size 96 --epochs 50`")
def train(
    folder: Folder,
    method: Annotated[str, typer.Option(help=f"{', '.join(TRAINED)}.")] = "moco",
    backbone: Annotated[str, typer.Option(help="resnet10, or any ResNet of torchvision.")] = "resnet18",
    size: Annotated[int, typer.Option(min=8, help="Side of the views in pixels.")] = 224,
    epochs: Annotated[int, typer.Option(min=1)] = 100,
    batch_size: Annotated[int, typer.Option(min=2)] = 128,
    lr: Annotated[float, typer.Option(help="Learning rate at the beginning.")] = 0.06,
    workers: Annotated[int, typer.Option(min=0, help="Processes that load images.")] = 2,
    device: Annotated[str, typer.Option(help="cpu, cuda, mps …; by default an accelerator if there is one.")] = "",
    seed: Seed = 0,
    out: Annotated[Path, typer.Option(help="Folder to write to.")] = Path("runs/train"),
) -> None:
    """Train a backbone on a folder of images and save its weights as safetensors."""
    with extra("demo"):
        from safetensors.torch import save_model

    from lightly_aug.models import resnet
    from lightly_aug.train import fit, progress

    if method not in TRAINED:
        raise ValueError(f"--method {method}: there are {', '.join(TRAINED)}")
    files = _files(folder)
    torch.manual_seed(seed)
    accelerator = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    target = _device(device or str(accelerator or "cpu"))
    network = resnet(backbone, stem="cifar" if size <= 32 else "imagenet")
    # "auto" would ask whether there is an accelerator, not whether it is used
    collate = COLLATES[method](size, seed=seed, render="worker" if target.type == "cpu" else "late")
    loader = DataLoader(
        Indexed(files), min(batch_size, len(files)), shuffle=True, drop_last=True, num_workers=workers,
        collate_fn=collate, pin_memory=target.type == "cuda", persistent_workers=workers > 0,
    )  # fmt: skip
    model = _model(method, network, len(files), loader.batch_size or 1)
    with progress(f"{method} on {len(files)} images") as on_step:
        fit(model, loader, epochs=epochs, lr=lr, device=target, on_step=on_step)
    out.mkdir(parents=True, exist_ok=True)
    save_model(network, str(out / "backbone.safetensors"))
    Console(soft_wrap=True).print(
        f"{out / 'backbone.safetensors'}: {backbone}, trained for {epochs} epochs on {target}"
    )


@app.command(epilog="Example: `lightly-aug demo --data photos --out runs/photos`")
def demo(
    data: Annotated[
        Path | None, typer.Option(help="Your folder of images; without it, scikit-image's photographs.")
    ] = None,
    size: Annotated[int, typer.Option(min=8, help="Side of the views in pixels.")] = 48,
    epochs: Annotated[int | None, typer.Option(min=1, help="By default what three minutes on two cores allow.")] = None,
    seed: Seed = 0,
    out: Annotated[Path, typer.Option(help="Folder to write to.")] = Path("runs/demo"),
) -> None:
    """Train MoCo for some minutes and show what it learnt: accuracy, a grid of views, the embedding."""
    from lightly_aug.demo import run

    run(data, out, size=size, epochs=epochs, seed=seed)


@app.command(epilog="Example: `lightly-aug bench --method dino`")
def bench(
    method: Annotated[str, typer.Option(help="Whose views: simclr, dino, swav.")] = "simclr",
    batch: Annotated[int, typer.Option(min=1, help="Images in a batch.")] = 32,
    rounds: Annotated[int, typer.Option(min=1, help="How often each is measured, in turn.")] = 5,
    seconds: Annotated[float, typer.Option(min=0.0, help="How long each time.")] = 1.0,
    out: Annotated[Path, typer.Option(help="File to write, without suffix: .md and .json.")] = Path("runs/bench"),
) -> None:
    """Measure on one core of this machine: images a second, beside every other library that is installed."""
    with extra("demo"):
        from rich.markdown import Markdown

        from lightly_aug.bench import WORKLOADS, run

    if method not in WORKLOADS:
        raise ValueError(f"--method {method}: there are {', '.join(WORKLOADS)}")
    console = Console()
    console.print(Markdown(run(out, method=method, batch=batch, rounds=rounds, seconds=seconds)))
    console.print(f"{out.with_suffix('.md')}, {out.with_suffix('.json')}")


def _part(size: int, of_224: int) -> int:
    """A size that the paper gives beside 224, where the large views have another size."""
    return max(1, size * of_224 // 224)


def _model(method: str, network: torch.nn.Module, images: int, batch: int) -> "SSLModel":
    """A method with its paper's arguments, but for what is too large for a small dataset."""
    from lightly_aug import models

    def queue(size: int) -> int:
        return min(size, max(batch, images // 8))

    match method:
        case "moco" | "moco-v1":
            return models.MoCo(network, version=1 if method == "moco-v1" else 2, queue=queue(65536))
        case "looc":
            return models.LooC(network, queue=queue(16384))
        case "nnclr":
            return models.NNCLR(network, queue=queue(98304))
        case "pirl":
            return models.PIRL(network, images=images, negatives=min(32000, images), loss="info_nce")
        case "barlow-twins":
            return models.BarlowTwins(network)
        case "byol":
            return models.BYOL(network)
        case "dino":
            return models.DINO(network)
        case "moco-v3":
            return models.MoCoV3(network)
        case "simsiam":
            return models.SimSiam(network)
        case "swav":
            return models.SwaV(network, prototypes=min(3000, max(16, images // 8)), queue=queue(3840))
    return models.SimCLR(network)


def _files(folder: Path) -> list[Path]:
    files = image_files(folder)
    if not files:
        raise ValueError(f"{folder} holds no images (jpg, png, tif, webp, bmp, gif)")
    return files


def _device(name: str) -> torch.device:
    try:
        torch.empty(0, device=name)
    except (AssertionError, RuntimeError) as error:
        raise ValueError(f"--device {name}: {str(error).splitlines()[0]}") from None
    return torch.device(name)


def main() -> None:
    """Run the command; what the user can mend ends in one line and exit code 2."""
    try:
        app()
    except (ImageError, ModuleNotFoundError, OSError, ValueError) as error:
        lines = (str(error).strip() or type(error).__name__).splitlines()
        # a worker's error comes with the worker's traceback, and ends in what it said
        said = lines[-1].split("ImageError: ")[-1] if "Traceback" in str(error) else lines[0]
        Console(stderr=True, soft_wrap=True).print("[bold red]Error:[/]", escape(said), highlight=False)
        sys.exit(2)


if __name__ == "__main__":
    main()
