"""The report of a benchmark: tables in Markdown, and every number as JSON."""

import json
import os
import platform
import statistics
import sys
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from importlib import metadata
from itertools import groupby
from pathlib import Path
from typing import Any

from lightly_aug.bench._times import LoaderTimes
from lightly_aug.bench.timing import Results

__all__ = ["describe_loading", "write_report", "write_times"]


def describe_loading(took: dict[str, float]) -> str:
    """Return a sentence about the times that `time_loading` measured."""
    if not took:
        return "Numba is not installed, so there is no CPU engine here."
    loaded = f"The CPU engine is loaded in {took['load_s']:.1f} s"
    return loaded + (f", once a machine it is compiled in {took['compile_s']:.1f} s." if "compile_s" in took else ".")


def write_report(
    out: Path, title: str, tables: Sequence[Results], *, texts: Sequence[str] = (), data: object = None
) -> str:
    """Write tables, the fastest contender first, and everything that was measured.

    Args:
        out: File name without suffix; `.md` and `.json` are written, their folder is made.
        title: Heading of the report.
        tables: The results.
        texts: Markdown to put below the tables.
        data: Further numbers for the JSON file.

    Returns:
        The Markdown.
    """
    losses = [loss for table in tables for loss in table.losses]
    versions = _environment()
    parts = [f"# {title}", _describe(versions)]
    for heading, group in groupby(tables, key=lambda table: table.title):
        same = list(group)
        parts += [f"## {heading}", _compact(same) if same[0].axis else "\n\n".join(map(_table, same))]
    slower = "\n".join(f"* {loss}" for loss in losses) or "Nothing that was measured here is faster than ours."
    parts += [*texts, "## Where ours is slower", slower]
    out.parent.mkdir(parents=True, exist_ok=True)
    text = "\n\n".join(parts) + "\n"
    out.with_suffix(".md").write_text(text)
    record = {"environment": versions, "tables": [asdict(table) for table in tables], "losses": losses, "data": data}
    out.with_suffix(".json").write_text(json.dumps(record, indent=1, ensure_ascii=False))
    return text


def write_times(times: LoaderTimes, out: Path, title: str) -> str:
    """Write where the time of a loader goes: a table, all numbers, and a picture.

    Args:
        times: What `lightly_aug.bench.loader` measured.
        out: File name without suffix; `.md`, `.json` and `.png` are written, their folder is made.
        title: Heading of the report.

    Returns:
        The Markdown.

    Raises:
        ModuleNotFoundError: Matplotlib, of the extra "plot", is not installed.
    """
    versions = _environment()
    text = f"# {title}\n\n{times.to_markdown()}\n{_describe(versions)}\n"
    out.parent.mkdir(parents=True, exist_ok=True)
    times.show(title=title).savefig(out.with_suffix(".png"), dpi=110)
    out.with_suffix(".md").write_text(text)
    record = {"environment": versions, "times": asdict(times)}
    out.with_suffix(".json").write_text(json.dumps(record, indent=1, ensure_ascii=False))
    return text


def _describe(versions: dict[str, Any]) -> str:
    machine = f"{versions['cpu']}, {versions['cores']} cores, {versions['date'][:10]}; `{versions['command']}`"
    packages = ", ".join(f"{name} {number}" for name, number in versions["packages"].items())
    return f"{machine}. Python {versions['python']}, {packages}."


def _table(results: Results) -> str:
    names = sorted(results.rates, key=lambda name: -statistics.median(results.rates[name]))
    heads = ["", "images/s [slowest–fastest round]", "ours / theirs", "remarks"]
    if results.cpu:
        heads[3:3] = ["CPU µs an image", "theirs / ours, CPU"]
    lines = [f"| {' | '.join(heads)} |".replace("|  |", "| |"), "|---" * len(heads) + "|"]
    for name in names:
        ours = name == results.ours
        cells = [f"**{name}**" if ours else name, results.cell(name), "" if ours else f"{results.ratio(name):.2f}"]
        if results.cpu:
            measured = name in results.cpu and not ours
            cells += [results.cpu_cell(name), f"{results.cpu_ratio(name):.2f}" if measured else ""]
        lines.append(f"| {' | '.join([*cells, results.remarks.get(name, '')])} |")
    lines += [f"\nNot measured: {name} ({why})." for name, why in results.skipped.items()]
    return "\n".join(lines)


def _compact(tables: Sequence[Results]) -> str:
    """One table of several results, a row for each value of the axis."""
    names = list(dict.fromkeys(name for table in tables for name in table.rates))
    lines = [f"| | {' | '.join(names)} | ours / theirs |", "|---" * (len(names) + 2) + "|"]
    for table in tables:
        cells = [table.cell(name) if name in table.rates else "" for name in names]
        ratios = ", ".join(f"{table.ratio(name):.2f}" for name in table.rates if name != table.ours)
        lines.append(f"| {table.axis} | {' | '.join(cells)} | {ratios} |")
    return "\n".join(lines)


def _command(words: Sequence[str]) -> str:
    """Return a command as it is typed: a script without its interpreter, as of `lightly-aug`, and no folders."""
    names = [Path(word).name for word in words[:2]]
    is_script = len(names) == 2 and not words[1].startswith("-") and not Path(words[1]).suffix
    return " ".join([*(names[1:] if is_script else names), *words[2:]])


def _environment() -> dict[str, Any]:
    names = (
        *("lightly-aug", "torch", "torchvision", "kornia", "numba", "numpy", "pillow", "triton", "lightly"),
        *(
            "albumentations",
            "albumentationsx",
            "opencv-python-headless",
            "opencv-python",
            "torchtransform",
            "triton-augment",
        ),
        *("nvidia-dali-cuda120", "nvidia-dali-cuda130"),
    )
    packages = {}
    for name in names:
        try:
            packages[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    models = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return {
        "cpu": models[0] if models else platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": _command(sys.orig_argv),
        "python": platform.python_version(),
        "packages": packages,
    }
