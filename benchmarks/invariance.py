"""Show on trained networks that the scores of invariance find what was trained: `python -m benchmarks.invariance`.

SimCLR trains the same small ResNet from scratch on 32-pixel patches of photographs, with views that differ in one group
of operations at a time, and several seeds. Then `measure_invariance` measures each network, and the untrained one, on
patches of other parts of the photographs. A folder keeps a file for each run, so that a benchmark that was stopped goes
on where it was; `--report` makes the tables and the picture of `docs/invariance.md` from them.
"""

import argparse
import io
import json
from collections.abc import Sequence
from contextlib import redirect_stderr
from pathlib import Path
from statistics import fmean, stdev
from tempfile import TemporaryDirectory
from typing import Any, Final, NamedTuple

import torch
from scipy.stats import t
from torch import nn
from torch.optim.swa_utils import update_bn
from torch.utils.data import DataLoader

from benchmarks.methods import BACKBONES, build_network
from lightly_aug import CenterCrop, Color, MultiViewCollateFunction, Normalize, Resize, Shape, Texture, View
from lightly_aug.atomic import replace_file
from lightly_aug.evaluate import Invariance, InvarianceComparison, compare_invariance, measure_invariance
from lightly_aug.photographs import photograph_patches
from lightly_aug.plot import invariance_bars
from lightly_aug.train import pretrain

__all__ = ["CLAIMS", "VIEWS", "Claim", "main", "measure", "report"]

SIZE: Final = 32
_COLOR, _TEXTURE = Color(0.8, 0.8, 0.8, 0.2, jitter=0.8, grayscale=0.2), Texture(0.5, (0.1, 2.0), solarize=0.2)
VIEWS: Final = {
    "all groups": (Shape(SIZE, (0.2, 1.0)), _COLOR, _TEXTURE),
    "with quarter turns": (Shape(SIZE, (0.2, 1.0), rot90=1.0), _COLOR, _TEXTURE),
    "without Color": (Shape(SIZE, (0.2, 1.0)), _TEXTURE),
    "Texture alone": (Resize(SIZE), CenterCrop(SIZE), _TEXTURE),
}
"""The items of both views, by the name of the network."""
UNTRAINED: Final = "untrained"


class Claim(NamedTuple):
    """What the scores should find: that one network ignores an operation, or group, more than another."""

    operation: str
    more: str
    less: str


CLAIMS: Final = (
    *(Claim(name, "all groups", "without Color") for name in ("Color", "brightness", "saturation", "hue", "grayscale")),
    *(Claim(name, "with quarter turns", "all groups") for name in ("quarter turns", "rotation", "vertical flip")),
    *(Claim(name, "all groups", "Texture alone") for name in ("Shape", "crop scale", "horizontal shift")),
    Claim("horizontal flip", "all groups", "Texture alone"),
    *(Claim(name, "all groups", UNTRAINED) for name in ("Shape", "Texture", "Color")),
    *(Claim(name, "Texture alone", UNTRAINED) for name in ("blur", "solarize")),
)


def main() -> None:
    """Train and measure what is missing, and report."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.invariance", description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=3, help="number of seeds")
    parser.add_argument("--epochs", type=int, default=20, help="passes over the images")
    parser.add_argument("--train", type=int, default=160, help="training patches of each of 17 photographs")
    parser.add_argument("--test", type=int, default=12, help="patches of each photograph to measure on")
    parser.add_argument("--keep", action=argparse.BooleanOptionalAction, default=True, help="keep runs that are done")
    parser.add_argument("--report", action="store_true", help="only make tables and the picture of the runs")
    parser.add_argument("--runs", type=Path, default=Path("runs/invariance"), help="folder to keep the runs in")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"), help="folder to write to")
    parser.add_argument("--docs", type=Path, default=Path("docs"), help="folder of invariance.md and invariance.png")
    chosen = parser.parse_args()
    if not chosen.report:
        torch.set_num_threads(1)
        for seed in range(chosen.seeds):
            for name in (UNTRAINED, *VIEWS):
                file = chosen.runs / f"{name.replace(' ', '-')}-{seed}.json"
                if file.exists() and chosen.keep:
                    continue
                found = measure(name, seed, epochs=chosen.epochs, train=chosen.train, test=chosen.test)
                with replace_file(file) as new:
                    new.write_text(compare_invariance([found]).to_json(), encoding="utf-8")
                print(f"{file}: done", flush=True)
    print(report(chosen.runs, chosen.out, chosen.docs))


def measure(name: str, seed: int, *, epochs: int, train: int, test: int) -> Invariance:
    """Train a network and measure what it ignores.

    Args:
        name: A key of `VIEWS`, or "untrained".
        seed: Seed of the weights, the views and the measurement.
        epochs: Passes over the images.
        train: Training patches of each photograph.
        test: Patches of each photograph to measure on.
    """
    images = photograph_patches(48, train, test)
    photos = [image for image, _ in images.train]
    torch.manual_seed(seed)
    network: nn.Module = build_network(**BACKBONES["small"], norm=nn.BatchNorm2d)
    if name == UNTRAINED:
        still = MultiViewCollateFunction([View(Resize(SIZE), CenterCrop(SIZE), Normalize())], render="worker")
        loader: DataLoader[Any] = DataLoader(photos, 256, collate_fn=still)  # type: ignore[arg-type]
        update_bn((views[0] for views in loader), network)  # as it would look worse than it is otherwise
    else:
        network = _train(name, network, photos, seed, epochs)
    return measure_invariance(
        network,
        [image for image, _ in images.test],
        size=SIZE,
        normalize=Normalize(),
        name=name,
        labels=[images.classes[label] for _, label in images.test],
        groups={"Shape": Shape(SIZE, (0.2, 1.0)), "Texture": _TEXTURE, "Color": _COLOR},
        layers=["layer1", "layer2", "layer3"],
        seed=seed,
    )


def _train(name: str, network: nn.Module, photos: Sequence[Any], seed: int, epochs: int) -> nn.Module:
    collate = MultiViewCollateFunction([View(*VIEWS[name], Normalize())] * 2, seed=seed, render="worker")
    loader: DataLoader[Any] = DataLoader(
        photos,  # type: ignore[arg-type]  # a sequence is a dataset
        128,
        shuffle=True,
        drop_last=True,
        collate_fn=collate,
        generator=torch.Generator().manual_seed(seed),
    )
    with redirect_stderr(io.StringIO()), TemporaryDirectory() as folder:
        trained = pretrain(
            loader, method="simclr", backbone=network, size=SIZE, epochs=epochs, every=epochs, batch_size=128,
            recipe="small", workers=0, devices="1", accelerator="cpu", evaluate="none", seed=seed, out=folder,
        )  # fmt: skip
    return trained.model.backbone


def report(runs: Path, out: Path, docs: Path) -> str:
    """Write `invariance.json`, the picture, and the tables into the page; return the tables.

    Args:
        runs: Folder of the runs.
        out: Folder of `invariance.json`.
        docs: Folder of `invariance.md`, which has a line `<!-- results -->` before and after the tables.

    Raises:
        ValueError: A network has fewer than two seeds.
    """
    found = {name: _read(runs, name) for name in (UNTRAINED, *VIEWS)}
    for name, networks in found.items():
        if len(networks) < 2:
            raise ValueError(f"benchmarks.invariance: {name} must have at least 2 seeds in {runs}, got {len(networks)}")
    scores = {name: [_scores(network) for network in networks] for name, networks in found.items()}
    claims = [_judge(claim, scores) for claim in CLAIMS]
    summary = {
        "scores": {name: {key: [one[key] for one in own] for key in own[0]} for name, own in scores.items()},
        "claims": claims,
    }
    with replace_file(out / "invariance.json") as new:
        new.write_text(json.dumps(summary, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    text = f"{_score_table(scores)}\n\n{_claim_table(claims)}\n\n{_use_lines(found)}"
    page = docs / "invariance.md"
    if page.exists():
        before, _, after = page.read_text(encoding="utf-8").split("<!-- results -->\n")
        joined = "<!-- results -->\n".join((before, text + "\n", after))
        page.write_text(joined, encoding="utf-8")
    first = compare_invariance([networks[0] for networks in found.values()])
    invariance_bars(first).savefig(docs / "invariance.png", dpi=100, pil_kwargs={"optimize": True})
    return text


def _read(runs: Path, name: str) -> list[Invariance]:
    files = sorted(runs.glob(f"{name.replace(' ', '-')}-*.json"))
    return [InvarianceComparison.from_json(file.read_text(encoding="utf-8")).networks[0] for file in files]


def _scores(network: Invariance) -> dict[str, float]:
    return {curve.name: curve.score.value for curve in (*network.groups, *network.operations)}


def _judge(claim: Claim, scores: dict[str, list[dict[str, float]]]) -> dict[str, Any]:
    """Return the mean difference over seeds and its 95 % interval by Student's t, seed by seed."""
    pairs = zip(scores[claim.more], scores[claim.less], strict=False)
    differences = [more[claim.operation] - less[claim.operation] for more, less in pairs]
    n = len(differences)
    mean, half = fmean(differences), float(t.ppf(0.975, n - 1)) * stdev(differences) / n**0.5
    holds = "yes" if mean - half > 0 else "no" if mean + half < 0 else "undecided"
    return claim._asdict() | {"difference": mean, "half": half, "ranked_rightly": sum(d > 0 for d in differences),
                              "seeds": n, "holds": holds}  # fmt: skip


def _score_table(scores: dict[str, list[dict[str, float]]]) -> str:
    lines = [f"| | {' | '.join(scores)} |", f"|---|{'---|' * len(scores)}"]
    for key in next(iter(scores.values()))[0]:
        cells = []
        for own in scores.values():
            values = [one[key] for one in own]
            cells.append(f"{fmean(values):.2f} ± {stdev(values):.2f}")
        name = f"**{key}**" if key[0].isupper() else key
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _claim_table(claims: list[dict[str, Any]]) -> str:
    lines = ["| operation | network that ignores it more | than | difference | seeds ranked rightly | beyond noise |",
             "|---|---|---|---|---|---|"]  # fmt: skip
    for c in claims:
        lines.append(
            f"| {c['operation']} | {c['more']} | {c['less']} | {c['difference']:+.2f} ± {c['half']:.2f} | "
            f"{c['ranked_rightly']} of {c['seeds']} | {c['holds']} |"
        )
    return "\n".join(lines)


def _use_lines(found: dict[str, list[Invariance]]) -> str:
    return "\n".join(f"- {name}: {use}" for name, networks in found.items() for use in networks[0].use.values())


if __name__ == "__main__":
    main()
