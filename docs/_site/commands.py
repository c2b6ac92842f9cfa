"""The page of the command line, from the commands themselves."""

from collections.abc import Iterator

import typer

from lightly_aug.cli.app import app

INTRODUCTION = """# Command line

`pip install '.[train]'` from a clone installs the command `lightly-aug`; `python -m lightly_aug` is the same command.
`lightly-aug --install-completion` completes commands, methods and backbones in your shell, and `--help` after a command
prints what this page says about it.
"""


def describe_commands() -> str:
    """Describe `lightly-aug` and all its commands as a page of Markdown."""
    group = typer.main.get_command(app)
    assert isinstance(group, typer.core.TyperGroup)
    context = typer.Context(group, info_name="lightly-aug")
    commands = [command for command in group.commands.values() if isinstance(command, typer.core.TyperCommand)]
    rows = [f"| [`{command.name}`](#{command.name}) | {(command.help or '').splitlines()[0]} |" for command in commands]
    sections = ["\n".join(_describe(command, context)) for command in commands]
    return "\n".join([INTRODUCTION, "| command | purpose |", "|---|---|", *rows, "", *sections])


def _describe(command: typer.core.TyperCommand, context: typer.Context) -> Iterator[str]:
    """Yield the lines of a command: what it does, its usage, an example, its arguments and options."""
    yield f"## `lightly-aug {command.name}` {{ #{command.name} }}\n\n{command.help}\n"
    if command.epilog:
        yield f"{command.epilog}\n"
    yield "| argument or option | meaning |\n|---|---|"
    for parameter in command.get_params(context):
        names, text = parameter.get_help_record(context) or ("", "")
        if names and names != "--help":
            yield f"| `{names.replace(' range', '')}`{{ .option }} | {text.replace('|', '&#124;')} |"
    yield ""
