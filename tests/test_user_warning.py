"""Where warnings point: at the line of the user, also through Lightning, torch, the hub and this library."""

import linecache
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.methods import _images, tiny
from lightning.pytorch import Callback, LightningModule, Trainer
from PIL import Image
from torch.utils.data import DataLoader

from lightly_aug import SimCLRCollateFunction
from lightly_aug.images import image_files
from lightly_aug.models import MoCo
from lightly_aug.photographs import folder_images
from lightly_aug.train import pretrain
from lightly_aug.user_warning import warn_user
from lightly_aug.weights import Backbone, save_backbone

pytestmark = pytest.mark.usefixtures("one_thread")


def check_lines(caught: pytest.WarningsRecorder, **lines: str) -> None:
    """Check that each warning with a word of `lines` points at the line of this file that has such a text."""
    found = {str(warning.message): (warning.filename, warning.lineno) for warning in caught}
    for word, line in lines.items():
        ((file, number),) = (place for text, place in found.items() if word in text)
        assert file == __file__
        assert line in linecache.getline(file, number)


def test_a_warning_points_at_its_caller() -> None:
    with pytest.warns(UserWarning, match="plain") as caught:
        warn_user("plain")
    check_lines(caught, plain='warn_user("plain")')


@pytest.mark.filterwarnings("ignore:.*set_vital")
def test_warnings_of_pretrain_point_at_its_call(tmp_path: Path) -> None:
    """Before the training, and from callbacks, which Lightning calls."""

    class Forgets(Callback):
        def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
            for parameter in pl_module.parameters():
                parameter.data.zero_()

    images = [image for image, _ in _images()]
    with pytest.warns(UserWarning, match="wants batches|collapse|pair accuracy") as caught:
        pretrain(
            images, method="simclr", backbone=tiny(), size=16, batch_size=8, epochs=1, out=tmp_path, workers=0,
            accelerator="cpu", callbacks=[Forgets()],
        )  # fmt: skip
    check_lines(caught, wants="pretrain(", same="pretrain(", pair="pretrain(")


def test_other_warnings_point_at_the_call(tmp_path: Path) -> None:
    for i, (image, _) in enumerate(_images()[:8]):
        assert isinstance(image, Image.Image)
        image.save(tmp_path / f"{i}.png")
    (tmp_path / "notes.txt").touch()
    with pytest.warns(UserWarning, match="passed over") as caught:
        folder_images(tmp_path)
    check_lines(caught, passed="folder_images(tmp_path)")
    with pytest.warns(UserWarning, match="passed over") as caught:
        image_files(tmp_path)
    check_lines(caught, passed="image_files(tmp_path)")


def test_warnings_of_a_saved_backbone_point_at_the_call(tmp_path: Path) -> None:
    """The hub calls our code in between."""
    save_backbone(tiny(), tmp_path / "backbone.safetensors", arch=None, size=16, normalize=None)
    backbone = Backbone.from_pretrained(tmp_path, network=tiny())
    (tmp_path / "README.md").write_text("# Mine\n")
    with pytest.warns(UserWarning, match="README") as caught:
        backbone.save_pretrained(tmp_path)
    check_lines(caught, README="backbone.save_pretrained(tmp_path)")


def test_warnings_of_a_loop_point_at_the_loop() -> None:
    """The optimiser tells the model of its steps by a hook of torch; the loader calls the collate function."""
    model = MoCo(tiny(), momentum=0.9999).to(torch.bfloat16)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with pytest.warns(UserWarning, match="rounding") as caught:
        optimizer.step()  # follows
    check_lines(caught, rounding="optimizer.step()  # follows")

    collate = SimCLRCollateFunction(16, seed=0, on_error="skip")
    loader: Any = DataLoader([torch.zeros(3, 8, 8), "missing.png"], 2, collate_fn=collate)  # type: ignore[arg-type]
    with pytest.warns(UserWarning, match="leaves out") as caught:
        list(loader)
    check_lines(caught, leaves="list(loader)")
