"""The command `lightly-aug train`, whose options are those of `pretrain`."""

import inspect
from dataclasses import Field, fields
from pathlib import Path
from typing import Annotated, Any, Final, Literal, get_args, get_origin

from lightly_aug.choices import METHOD_NAMES
from lightly_aug.cli.arguments import check_folder, complete
from lightly_aug.cli.folders import prepare_out
from lightly_aug.optional import extra
from lightly_aug.pretrain_options import PYTHON_ONLY, PretrainOptions, read_options

with extra("train"):
    import typer

__all__ = ["train"]


def _complete_backbone(incomplete: str) -> list[str]:
    from lightly_aug.weights import backbone_names

    return complete(backbone_names())(incomplete)


_COMPLETED: Final = {"method": complete(METHOD_NAMES), "backbone": _complete_backbone}


def _parameter(option: Field[Any]) -> inspect.Parameter:
    """Return the parameter of the command for an option of `pretrain`."""
    kind = option.type
    if kind is Any:
        kind = str
    elif get_origin(kind) is not Literal and get_args(kind):
        parts = [each for each in get_args(kind) if each is not type(None)]
        kind = parts[-1] if Path in parts else parts[0]
        kind = kind | None if option.default is None else kind
    names = [f"--{option.name.replace('_', '-')}"] if kind is bool else []  # without its opposite
    info = typer.Option(*names, help=option.metadata["help"], autocompletion=_COMPLETED.get(option.name))
    default: Any = option.default
    default = Path(default) if kind is Path else default
    return inspect.Parameter(
        option.name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=Annotated[kind, info]
    )


def train(ctx: typer.Context, data: Path | None, config: Path | None, **options: Any) -> None:
    """Train a backbone on a folder of images, without labels; a run can be stopped and resumed at any time."""
    chosen = {} if config is None else read_options(config)
    given = {name for name in options if str(ctx.get_parameter_source(name)).endswith("COMMANDLINE")}
    chosen |= {name: options[name] for name in given}
    found = chosen.pop("data", None) if data is None else data
    chosen.pop("data", None)
    if found is None:
        raise ValueError("give a folder of images, or a --config that names one")
    out = PretrainOptions(**chosen).out  # which checks the options before anything large is imported
    prepare_out(Path(out), folder=True)
    check_folder(Path(found))
    from lightly_aug.distributed import rank
    from lightly_aug.train import pretrain

    with extra("train"):
        from lightning.fabric.utilities.exceptions import MisconfigurationException

    try:
        result = pretrain(found, **chosen)
    except MisconfigurationException as error:
        raise ValueError(f"Lightning cannot train with these options: {error}") from None
    if rank() > 0:
        return  # the first process tells
    print(f"{result.folder}: " + ", ".join(f"{name} {value:.3f}" for name, value in sorted(result.metrics.items())))
    load = f"lightly_aug.weights.Backbone.from_pretrained({str(result.folder)!r})"
    print(f"{load} loads the network, which then takes images of any size.")


_FIXED: Final = [
    inspect.Parameter("ctx", inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=typer.Context),
    inspect.Parameter(
        "data",
        inspect.Parameter.POSITIONAL_OR_KEYWORD,
        default=None,
        annotation=Annotated[Path | None, typer.Argument(help="Folder of images; subfolders are searched too.")],
    ),
    inspect.Parameter(
        "config",
        inspect.Parameter.KEYWORD_ONLY,
        default=None,
        annotation=Annotated[
            Path | None, typer.Option(help="YAML of options, such as a run's config.yaml; the command line goes first.")
        ],
    ),
]
_SIGNATURE: Final = [
    *_FIXED,
    *(_parameter(option) for option in fields(PretrainOptions) if option.name not in PYTHON_ONLY),
]
train.__signature__ = inspect.Signature(_SIGNATURE)  # type: ignore[attr-defined]
train.__annotations__ = {parameter.name: parameter.annotation for parameter in _SIGNATURE}
