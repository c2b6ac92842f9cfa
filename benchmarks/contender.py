"""One library in a process of its own, which makes views when it is told to: `benchmarks.programs` starts it.

It reads one JSON object a line and answers with one. `PYTHONPATH` says which checkout of this library it imports, so it
is run as a file, and uses only what all versions of the library have.
"""

import json
import os
import sys
import time
from collections.abc import Callable
from importlib import import_module
from multiprocessing import active_children
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset, default_collate

__all__ = ["main"]

Run = Callable[[], object]
RECIPES = {"simclr": "SimCLR", "dino": "DINO", "swav": "SwaV"}


def main() -> None:
    """Answer until there are no more lines."""
    answers = os.fdopen(os.dup(1), "w")  # what libraries print must not come between
    os.dup2(2, 1)
    torch.set_num_threads(1)
    prepared: dict[str, tuple[Run, int]] = {}
    for line in sys.stdin:
        asked = json.loads(line)
        try:
            answer = _answer(asked, prepared)
        except Exception as error:
            answer = {"error": f"{type(error).__name__}: {error}".splitlines()[0]}
        print(json.dumps(answer), file=answers, flush=True)


def _answer(asked: dict[str, Any], prepared: dict[str, tuple[Run, int]]) -> dict[str, Any]:
    name = asked["name"]
    if "prepare" in asked:
        prepared[name] = _prepare(**asked["prepare"])
        prepared[name][0]()  # to warm up
        return {}
    if "seconds" in asked:
        return _time(*prepared[name], asked["seconds"])
    del prepared[name]  # ends its workers
    return {}


def _time(run: Run, images: int, seconds: float) -> dict[str, float | None]:
    """Run at least once, for so many seconds; return images a second, and CPU microseconds an image."""
    before, own, start, runs = _worker_seconds(), time.process_time(), time.perf_counter(), 0
    while runs == 0 or time.perf_counter() - start < seconds:
        run()
        runs += 1
    took, own, after = time.perf_counter() - start, time.process_time() - own, _worker_seconds()
    used = None if before is None or after is None else own + after - before
    return {"rate": runs * images / took, "cpu": used and used * 1e6 / (runs * images)}


def _worker_seconds() -> float | None:
    """Return the CPU seconds of the workers; None where the system does not tell."""
    total = 0
    try:
        for child in active_children():
            for thread in Path(f"/proc/{child.pid}/task").iterdir():
                total += int((thread / "schedstat").read_text().split()[0])
    except OSError:
        return None
    return total / 1e9


def _prepare(work: str, **task: Any) -> tuple[Run, int]:
    """Return a function that makes views, and how many images it makes them of."""
    works: dict[str, Callable[..., tuple[Run, int]]] = {"loader": _load, "batch": _make_batch, "decode": _decode}
    return works[work](**task)


def _load(
    library: str, folder: str, *, method: str, batch: int, workers: int, bits: int = 32, **options: Any
) -> tuple[Run, int]:
    """An epoch of a DataLoader over the JPEG files of a folder."""
    files = sorted(Path(folder).glob("*.jpg"))
    data: Any = files
    collate: Callable[[Any], Any] = default_collate
    if library == "lightly_aug":
        collate = _our_collate(method, bits, **options)
    else:
        data = _Opened(files, _transform(library, method))
    loader: DataLoader[Any] = DataLoader(
        data, batch, num_workers=workers, collate_fn=collate, persistent_workers=workers > 0
    )

    def run() -> None:
        for views in loader:
            list(views)  # renders, if that is left to the main process

    return run, len(files)


def _make_batch(library: str, folder: str, *, method: str, batch: int, source: str, **options: Any) -> tuple[Run, int]:
    """One batch without a loader, from files, PIL images or arrays."""
    files = sorted(Path(folder).glob("*.jpg"))[:batch]
    samples: list[Any] = files if source == "files" else [_open(file) for file in files]
    if source == "arrays":
        samples = [np.asarray(image) for image in samples]
    if library == "lightly_aug":
        collate = _our_collate(method, **options)
        return lambda: list(collate(samples)), len(samples)
    transform = _transform(library, method)
    return lambda: default_collate([transform(sample) for sample in samples]), len(samples)


def _decode(library: str, folder: str) -> tuple[Run, int]:
    """The pixels of the JPEG files of a folder, and nothing else."""
    files = sorted(Path(folder).glob("*.jpg"))
    if library == "Pillow":
        return lambda: [np.asarray(_open(file)) for file in files], len(files)
    if library == "torchvision":
        io = import_module("torchvision.io")
        return lambda: [io.decode_jpeg(io.read_file(str(file))) for file in files], len(files)
    if library == "simplejpeg":
        jpeg = import_module("simplejpeg")
        return lambda: [jpeg.decode_jpeg(file.read_bytes()) for file in files], len(files)
    cv2 = import_module("cv2")
    cv2.setNumThreads(0)
    return lambda: [cv2.imread(str(file)) for file in files], len(files)


def _our_collate(method: str, bits: int = 32, **options: Any) -> Any:
    import lightly_aug

    collate = getattr(lightly_aug, f"{RECIPES[method]}CollateFunction")(**{"seed": 0, "render": "worker", **options})
    if bits == 32:
        return collate
    views = [lightly_aug.View(*view.operations, dtype=torch.bfloat16) for view in collate.views]
    return lightly_aug.MultiViewCollateFunction(views, **{"seed": 0, "render": "worker", **options})


def _transform(library: str, method: str) -> Callable[[Any], Any]:
    """Return the transform of another library: of a file, a PIL image or an array."""
    if library == "lightly":
        own = getattr(import_module("lightly.transforms"), f"{RECIPES[method]}Transform")()
        return lambda sample: own(_open(sample))
    from lightly_aug.bench import WORKLOADS, albumentations_view

    views = [albumentations_view(spec) for spec in WORKLOADS[method]]

    def apply(sample: Any) -> list[torch.Tensor]:
        array = np.asarray(_open(sample))
        return [view(array) for view in views]

    return apply


def _open(sample: Any) -> Image.Image:
    if isinstance(sample, Image.Image):
        return sample
    if isinstance(sample, np.ndarray):
        return Image.fromarray(sample)
    with Image.open(sample) as image:
        return image.convert("RGB")


class _Opened(Dataset[Any]):
    def __init__(self, files: list[Path], transform: Callable[[Any], Any]) -> None:
        self.files, self.transform = files, transform

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> Any:
        return self.transform(self.files[index])


if __name__ == "__main__":
    main()
