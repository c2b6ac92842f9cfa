"""Tutorials as pages: their text, their code, and their stored outputs. Nothing runs."""

from pathlib import Path

from nbconvert import MarkdownExporter

TEMPLATE = """
{%- extends "markdown/index.md.j2" -%}
{%- block input -%}
{{ cell.source | fence("python") }}
{%- endblock -%}
{%- block stream -%}
{{ output.text | strip_ansi | fence }}
{%- endblock -%}
{%- block data_text -%}
{{ output.data["text/plain"] | strip_ansi | fence }}
{%- endblock -%}
{%- block data_html -%}
<div class="output">{{ output.data["text/html"] }}</div>
{%- endblock -%}
{%- block data_png -%}
![Output of the cell above]({{ output.metadata.filenames["image/png"] }}){ .output }
{%- endblock -%}
"""


def convert(notebook: Path) -> tuple[str, dict[str, bytes]]:
    """Convert a notebook to Markdown.

    Args:
        notebook: The .ipynb file.

    Returns:
        The text, and the pictures that it shows, by the names by which it links to them.
    """
    exporter = MarkdownExporter(raw_template=TEMPLATE, filters={"fence": _fence})
    text, resources = exporter.from_filename(
        str(notebook), resources={"output_files_dir": ".", "unique_key": notebook.stem}
    )
    pictures = {Path(name).name: data for name, data in resources["outputs"].items()}
    return text, pictures


def _fence(text: str, classes: str = "{ .text .output }") -> str:
    """Show text as code, by default as the output of a cell; it may hold shorter fences of its own."""
    return f"\n~~~~~~ {classes}\n{text.rstrip()}\n~~~~~~\n"
