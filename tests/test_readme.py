"""Every block of Python in the README runs, in order, as a reader would run it."""

import re
from pathlib import Path

import pytest
import torch
from helpers.photos import write_photos

README = (Path(__file__).parents[1] / "README.md").read_text()
BLOCKS = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)


@pytest.mark.filterwarnings("ignore:.*pin_memory.*:UserWarning")
def test_every_block_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_photos(tmp_path / "photos", classes=2, count=6)
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    assert len(BLOCKS) >= 5
    for number, block in enumerate(BLOCKS):
        exec(compile(block, f"README.md, block {number}", "exec"), names)
    loss = names["loss"]
    assert isinstance(loss, torch.Tensor)
    assert torch.isfinite(loss)


def test_the_first_program_and_the_custom_invariance_are_as_short_as_promised() -> None:
    lines = [sum(bool(line.strip()) for line in block.splitlines()) for block in BLOCKS]
    assert lines[0] <= 12
    assert lines[1] <= 10


@pytest.mark.parametrize("link", re.findall(r"\]\(((?!http)[^)#]+)\)", README))
def test_links_lead_somewhere(link: str) -> None:
    assert (Path(__file__).parents[1] / link).exists()
