"""The command `lightly-aug bench`."""

from pathlib import Path
from typing import Annotated, Any, Final, Literal

from lightly_aug.checks import check_choice
from lightly_aug.choices import METHOD_NAMES, OnError
from lightly_aug.cli.arguments import complete, find_decode, find_device, find_images
from lightly_aug.cli.folders import prepare_out
from lightly_aug.cli.printing import print_markdown
from lightly_aug.optional import extra
from lightly_aug.status import count_of

with extra("train"):
    import typer

__all__ = ["bench"]

_WORKLOADS: Final = ("simclr", "dino", "swav")
"""The keys of `lightly_aug.bench.WORKLOADS`."""


def bench(
    method: Annotated[
        str,
        typer.Option(
            help=f"Views to measure: {', '.join(_WORKLOADS)}; with --data those of any method.",
            autocompletion=complete(METHOD_NAMES),
        ),
    ] = "simclr",
    data: Annotated[
        Path | None, typer.Option(help="Folder of images, to see where the time of a loader goes that reads them.")
    ] = None,
    batch_size: Annotated[int, typer.Option("--batch-size", "--batch", min=1, help="Images in a batch.")] = 32,
    size: Annotated[
        int | None, typer.Option(min=8, help="With --data: side of the views in pixels, by default 224.")
    ] = None,
    workers: Annotated[int | None, typer.Option(min=0, help="With --data: processes that load, by default 2.")] = None,
    decode: Annotated[
        int | None,
        typer.Option(min=0, help="With --data: as in lightly-aug train, by default twice the side; 0: all pixels."),
    ] = None,
    max_pixels: Annotated[
        int | None, typer.Option(min=0, help="With --data: refuse images with more pixels; 0 sets no bound.")
    ] = None,
    on_error: Annotated[
        OnError | None,
        typer.Option(help="With --data: for images that cannot be read, raise, skip or replace; by default raise."),
    ] = None,
    render: Annotated[
        Literal["auto", "late", "worker"] | None,
        typer.Option(help="With --data: where views are rendered, auto, late or worker; by default auto."),
    ] = None,
    device: Annotated[
        str | None, typer.Option(help="With --data: device of the batches; by default an accelerator if there is one.")
    ] = None,
    batches: Annotated[
        int | None, typer.Option(min=1, help="With --data: batches to measure end to end, by default 16.")
    ] = None,
    rounds: Annotated[
        int | None, typer.Option(min=1, help="Without --data: how often each library is measured, by default 5.")
    ] = None,
    seconds: Annotated[
        float | None, typer.Option(min=0.0, help="Without --data: how long each time, by default 1.")
    ] = None,
    out: Annotated[
        Path, typer.Option(help="File to write, without suffix: .md and .json, and with --data .png.")
    ] = Path("runs/bench"),
) -> None:
    """Measure images a second on one core beside other libraries; with --data, where the time of your loader goes."""
    alone = {"--rounds": rounds, "--seconds": seconds}
    with_data = {
        "--size": size, "--workers": workers, "--decode": decode, "--max-pixels": max_pixels, "--on-error": on_error,
        "--render": render, "--device": device, "--batches": batches,
    }  # fmt: skip
    unused = [name for name, value in (with_data if data is None else alone).items() if value is not None]
    if unused:
        raise ValueError(f"{unused[0]} has no effect {'without' if data is None else 'with'} --data")
    prepare_out(out.with_suffix(".md"))
    if data is None:
        check_choice("lightly-aug", _WORKLOADS, **{"--method": method})
        from lightly_aug.bench import run as run_bench

        rounds, seconds = rounds or 5, 1.0 if seconds is None else seconds
        print_markdown(run_bench(out, method=method, batch=batch_size, rounds=rounds, seconds=seconds))
        print(f"{out.with_suffix('.md')}, {out.with_suffix('.json')}")
        return
    check_choice("lightly-aug", METHOD_NAMES, **{"--method": method})
    from torch.utils.data import DataLoader

    from lightly_aug.bench import loader as measure_loader
    from lightly_aug.bench import write_times
    from lightly_aug.methods import METHODS

    side = size or 224
    options: dict[str, Any] = {"seed": 0, "decode": find_decode(decode, side), "render": render or "auto"}
    options["on_error"] = on_error or "raise"
    if max_pixels is not None:
        options["max_pixels"] = max_pixels or None
    target, files = find_device(device or ""), find_images(data)
    pin = target.type == "cuda"
    loader: DataLoader[Any] = DataLoader(
        files, batch_size, shuffle=True, collate_fn=METHODS[method].views(side, **options), pin_memory=pin,  # type: ignore[arg-type]
        num_workers=2 if workers is None else workers, persistent_workers=workers != 0,
        drop_last=len(files) >= batch_size,
    )  # fmt: skip
    times = measure_loader(loader, target, batches=batches or 16)
    text = write_times(times, out, f"{METHODS[method].title}, {count_of(len(files), 'image')} of {data.name}")
    print_markdown(text)
    print(", ".join(str(out.with_suffix(suffix)) for suffix in (".md", ".json", ".png")))
