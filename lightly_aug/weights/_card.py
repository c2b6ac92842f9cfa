"""The model card of a backbone: what it is, how it was trained, what was measured, how to load it."""

import json
from collections.abc import Mapping
from typing import Any, Final

from lightly_aug.optional import extra

__all__ = ["write_card"]

_FIGURES: Final = {
    "knn_accuracy": "share of labelled images that their nearest neighbours classify correctly",
    "linear_accuracy": "share of labelled images that a linear classifier on the features classifies correctly",
    "pair_accuracy": "share of views whose nearest view is of the same image",
    "loss": "loss of the method",
    "spread": "spread of the features; near 0 for a collapse",
    "effective_rank": "number of directions that the features use; near 1 for a collapse",
}


def write_card(metadata: Mapping[str, Any], *, parameters: int, width: int, **fields: Any) -> str:
    """Write the model card of a backbone: Markdown after front matter in YAML, as the hub of Hugging Face reads it.

    Args:
        metadata: Settings of the backbone, as `read_metadata` returns them.
        parameters: Number of its parameters.
        width: Number of its features.
        **fields: More front matter, such as `license` and `datasets`, which no run knows.
    """
    with extra("train"):
        from huggingface_hub import ModelCardData
    notes, built = metadata["notes"], metadata["backbone"]
    named = [built["name"]] if built else []
    method = notes.get("title", notes.get("method"))
    known = {
        "library_name": "lightly-aug",
        "pipeline_tag": "image-feature-extraction",
        "tags": [*(["self-supervised-learning"] if method else []), *filter(None, [notes.get("method"), *named])],
    }
    front: str = ModelCardData(**known | fields).to_yaml()
    own = "" if built else ", network=..."
    lines = [
        f"# {built['name'] if built else 'Backbone'}" + (f" trained with {method}" if method else ""),
        "",
        f"A network of {parameters:,} parameters that computes {width:,} features of an image"
        + (f", trained with {_cite(notes, method)}." if method else "."),
        "",
        "```python",
        "from lightly_aug.weights import Backbone  # lightly_aug, with its extra [train]",
        "",
        f'backbone = Backbone.from_pretrained("user/name"{own}).freeze()  # this repository, or a folder of its files',
        f'features = backbone(["photo.jpg"])  # (1, {width})',
        "```",
        "",
        _describe_input(metadata),
        *_list_training(metadata),
        *_list_views(notes.get("views", ())),
        *_list_figures(notes.get("metrics", {})),
        "",
        "## Not tested",
        "",
        "The features were not tested on images of other kinds, sources or sizes than those of the training, for "
        "differences between groups of people, or for decisions about people."
        + ("" if fields.get("datasets") else " The images of the training, and their licence, are not recorded."),
    ]
    return f"---\n{front.strip()}\n---\n\n" + "\n".join(lines) + "\n"


def _cite(notes: Mapping[str, Any], method: str) -> str:
    papers = [f"[arXiv {paper}](https://arxiv.org/abs/{paper})" for paper in notes.get("papers", ())]
    return f"{method} ({', '.join(papers)})" if papers else method


def _describe_input(metadata: Mapping[str, Any]) -> str:
    size, normalize, mode = metadata["size"], metadata["normalize"], metadata["mode"]
    values = (
        f"normalises them with mean {_join(normalize['mean'])} and standard deviation {_join(normalize['std'])}"
        if normalize
        else "scales their values to [0, 1]"
    )
    converts = f"converts files and PIL images to {mode}, " if mode else ""
    return (
        f"It takes images of any size and kind: `Backbone` {converts}resizes the shorter side to {size} pixels, "
        f"cuts out the central {size} x {size} pixels, and {values}."
    )


def _list_training(metadata: Mapping[str, Any]) -> list[str]:
    notes, built = metadata["notes"], metadata["backbone"]
    arguments = f", `{json.dumps(built['arguments'])}`" if built and built["arguments"] else ""
    trained = "method" in notes
    rows = {
        "network": f"{built['name']}{arguments}" if built else None,
        "images": f"{notes['images']:,}" if notes.get("images") else None,
        "side of the views": f"{metadata['size']} pixels" if trained else None,
        "images in a step": notes.get("batch_size"),
        "recipe": notes.get("recipe"),
        "optimiser": notes.get("optimization"),
        "epochs": notes.get("epochs"),
        "optimiser steps": f"{notes['steps']:,}" if "steps" in notes else None,
        "versions": ", ".join(f"{name} {version}" for name, version in metadata["versions"].items()),
    }
    said = [] if trained else ["How the network was trained is not recorded.", ""]
    table = ["| | |", "|---|---|", *(f"| {k} | {v} |" for k, v in rows.items() if v is not None)]
    return ["", "## Training", "", *said, *table]


def _list_views(views: Any) -> list[str]:
    """List the operations of each kind of view."""
    if not views:
        return []
    total = sum(view["count"] for view in views)
    lines = [
        "",
        "## Views",
        "",
        f"Each step takes {total} views of each image" + (", made by" if len(views) == 1 else ":"),
    ]
    for view in views:
        made = [f"{view['count']} view{'s' * (view['count'] > 1)} made by", ""] if len(views) > 1 else []
        lines += ["", *made, *(f"- `{operation}`" for operation in view["operations"])]
    return lines


def _list_figures(metrics: Mapping[str, float]) -> list[str]:
    rows = [f"| {text} | {metrics[name]:.4g} |" for name, text in _FIGURES.items() if name in metrics]
    if not rows:
        return ["", "## Measured", "", "Nothing was measured."]
    said = "By the training itself, on images that it was given, at the end of its last epoch:"
    return ["", "## Measured", "", said, "", "| | |", "|---|---|", *rows]


def _join(values: Any) -> str:
    return f"({', '.join(f'{value:g}' for value in values)})"
