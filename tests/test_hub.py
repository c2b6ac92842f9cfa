"""A backbone as a module for images of any kind; its folders, its model card, and the hub."""

import base64
import copy
import hashlib
import json
import pickle
import re
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any, ClassVar

import huggingface_hub
import numpy as np
import pytest
import torch
import yaml
from helpers.backbones import write_backbone
from helpers.photos import write_photos
from lightning.pytorch import Callback
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader
from torchvision.transforms import InterpolationMode, v2
from torchvision.transforms.v2.functional import to_image

from lightly_aug import Normalize
from lightly_aug.evaluate import features
from lightly_aug.images import ImageError
from lightly_aug.photographs import photographs
from lightly_aug.train import pretrain
from lightly_aug.weights import BACKBONE, Backbone, read_metadata, save_backbone

CIFAR: dict[str, Any] = {"arguments": {"stem": "cifar"}, "size": 32}


@pytest.fixture
def backbone(tmp_path: Path) -> Backbone:
    return write_backbone(tmp_path / "saved", "resnet10", **CIFAR).freeze()


def expected_features(backbone: Backbone, photo: Image.Image) -> Tensor:
    """Features of an image that torchvision prepared."""
    prepare = v2.Compose(
        [
            v2.ToDtype(torch.float32, scale=True),
            v2.Resize(32, InterpolationMode.BILINEAR, antialias=True),
            v2.CenterCrop(32),
            v2.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]),
        ]
    )
    with torch.no_grad():
        return backbone.network(prepare(to_image(photo))[None].as_subclass(Tensor))  # type: ignore[no-any-return]


# --- images -----------------------------------------------------------------------------------------------------


def test_images_of_every_kind_have_the_features_of_torchvisions_preprocessing(
    backbone: Backbone, tmp_path: Path
) -> None:
    photo = photographs(1, 120)[0].crop((0, 0, 120, 90))
    photo.save(tmp_path / "photo.png")
    pixels = torch.from_numpy(np.asarray(photo).copy()).permute(2, 0, 1)
    kinds: dict[str, Any] = {
        "PIL image": photo,
        "path": tmp_path / "photo.png",
        "path as str": str(tmp_path / "photo.png"),
        "bytes": (tmp_path / "photo.png").read_bytes(),
        "array": np.asarray(photo),
        "uint8 tensor": pixels,
        "float tensor": pixels / 255,
        "half tensor": (pixels / 255).half(),
    }
    expected = expected_features(backbone, photo)
    for name, image in kinds.items():
        found = backbone(image)
        assert found.shape == (1, 512), name
        torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-2 if "half" in name else 1e-4, msg=name)
    torch.testing.assert_close(backbone([*kinds.values()][:-1]), expected.expand(7, 512), rtol=1e-3, atol=1e-4)
    for batch in (pixels[None], pixels[None] / 255, np.asarray(photo)[None], (photo,), iter([photo])):
        torch.testing.assert_close(backbone(batch), expected, rtol=1e-3, atol=1e-4)


def test_images_of_several_sizes_are_one_batch_in_their_order(backbone: Backbone) -> None:
    photos = [photo.crop((0, 0, 40 + 10 * i, 60 - 5 * i)) for i, photo in enumerate(photographs(3, 80))]
    expected = torch.cat([expected_features(backbone, photo) for photo in photos])
    torch.testing.assert_close(backbone(photos), expected, rtol=1e-3, atol=1e-4)


def test_a_batch_that_is_normalised_already_is_refused(backbone: Backbone) -> None:
    images = torch.rand(2, 3, 32, 32)
    views = backbone.collate(list(images))[0]
    message = r"floats must be in \[0, 1\], got image 0 from -?[\d.na]+ to [\d.na]+: .* to backbone\.network"
    for batch in (views, list(views), views.permute(0, 2, 3, 1).numpy(), torch.full((2, 3, 8, 8), torch.nan)):
        with pytest.raises(ValueError, match=message):
            backbone(batch)
    torch.testing.assert_close(backbone(images), backbone.network(views))


def test_what_is_no_image_is_refused(backbone: Backbone, tmp_path: Path) -> None:
    image = torch.rand(3, 8, 8)
    with pytest.raises(TypeError, match="images must be images only, got samples with 2 members"):
        backbone([(image, 3), (image, 4)])
    with pytest.raises(ValueError, match="at least one sample, got none"):
        backbone([])
    with pytest.raises(ImageError, match=r"nowhere\.jpg: cannot read it"):
        backbone([tmp_path / "nowhere.jpg"])


def test_features_are_on_the_device_and_in_the_dtype_of_the_network(backbone: Backbone) -> None:
    image = torch.rand(3, 32, 32)
    expected = backbone(image)
    found = copy.deepcopy(backbone).to(torch.bfloat16)(image)
    assert found.dtype == torch.bfloat16
    torch.testing.assert_close(found.float(), expected, rtol=0.1, atol=0.1)
    torch.testing.assert_close(copy.deepcopy(backbone).double()(image).float(), expected, rtol=1e-4, atol=1e-4)


def test_freeze_turns_gradients_and_training_off(tmp_path: Path) -> None:
    backbone = write_backbone(tmp_path, "resnet10", **CIFAR)
    assert not any(module.training for module in backbone.modules())
    assert backbone(torch.rand(3, 32, 32)).requires_grad
    assert backbone.train().freeze() is backbone
    assert not any(module.training for module in backbone.modules())
    assert not backbone(torch.rand(3, 32, 32)).requires_grad


def test_it_is_a_module_like_others(backbone: Backbone) -> None:
    image = torch.rand(3, 40, 40)
    for other in (copy.deepcopy(backbone), pickle.loads(pickle.dumps(backbone))):
        assert torch.equal(other(image), backbone(image))
        assert other.metadata == backbone.metadata
    assert set(backbone.state_dict()) == {f"network.{name}" for name in backbone.network.state_dict()}
    head = nn.Sequential(backbone, nn.Linear(512, 2))
    assert head([image, image[:, :20]]).shape == (2, 2)
    assert "size=32, normalize={'mean': [0.485" in repr(backbone)


def test_a_loader_with_its_collate_function_gives_the_same_features(backbone: Backbone, tmp_path: Path) -> None:
    write_photos(tmp_path / "photos", classes=1, count=3)
    files = sorted((tmp_path / "photos").rglob("*.jpg"))
    loader: DataLoader[Any] = DataLoader(files, 2, collate_fn=backbone.collate)  # type: ignore[arg-type]
    found, _ = features(backbone.network, loader)
    torch.testing.assert_close(found, backbone(files))


# --- folders and the hub ----------------------------------------------------------------------------------------


def card_of(folder: Path) -> tuple[dict[str, Any], str]:
    """Front matter and text of a card."""
    found = re.fullmatch(r"---\n(.*?)\n---\n\n(.*)", (folder / "README.md").read_text(), re.DOTALL)
    assert found is not None
    return yaml.safe_load(found[1]), found[2]


def run_python(text: str, **names: object) -> dict[str, Any]:
    """Run the Python of a card."""
    (block,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    exec(block, names)
    return names


def test_a_folder_of_save_pretrained_comes_back(backbone: Backbone, tmp_path: Path) -> None:
    folder = tmp_path / "hub"
    backbone.save_pretrained(folder, model_card_kwargs={"license": "mit", "datasets": ["cifar10"]})
    assert {file.name for file in folder.iterdir()} == {BACKBONE, "README.md", "config.json"}
    other = Backbone.from_pretrained(folder)
    image = torch.rand(3, 50, 40)
    assert torch.equal(other(image), backbone(image))
    assert other.metadata == backbone.metadata == json.loads((folder / "config.json").read_text())
    assert read_metadata(folder) == backbone.metadata
    front, text = card_of(folder)
    assert front == {
        "library_name": "lightly-aug",
        "pipeline_tag": "image-feature-extraction",
        "tags": ["resnet10"],
        "license": "mit",
        "datasets": ["cifar10"],
    }
    assert "How the network was trained is not recorded." in text
    assert "Nothing was measured." in text
    assert "licence, are not recorded" not in text  # the data set is named
    assert huggingface_hub.ModelCard.load(folder / "README.md").data.license == "mit"
    edited = (folder / "README.md").read_text() + "By me.\n"
    (folder / "README.md").write_text(edited)
    with pytest.warns(UserWarning, match=r"README\.md was there before and is kept"):
        backbone.save_pretrained(folder)
    assert (folder / "README.md").read_text() == edited


def test_a_network_of_ones_own_in_a_folder_needs_it_again(tmp_path: Path) -> None:
    def own() -> nn.Module:
        return nn.Sequential(nn.Conv2d(1, 4, 3), nn.AdaptiveAvgPool2d(1))

    file, network = tmp_path / "own.safetensors", own()
    save_backbone(network, file, arch=None, size=16, normalize=Normalize(0.5, 0.25), mode="L", background=(1, 2, 3))
    Backbone.from_pretrained(file, network=own()).save_pretrained(tmp_path / "hub")
    _, text = card_of(tmp_path / "hub")
    assert 'from_pretrained("user/name", network=...)' in text
    other = Backbone.from_pretrained(tmp_path / "hub", network=own())
    assert (other.collate.mode, other.collate.background) == ("L", (1, 2, 3))
    image = torch.rand(1, 20, 20)
    assert torch.equal(other(image), network(other.collate([image])[0]).flatten(1))


@pytest.mark.filterwarnings("ignore:.*(knn accuracy|wants batches of|set_vital)")
def test_a_run_is_a_backbone_whose_card_tells_how_it_was_trained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_photos(tmp_path / "photos", classes=2, count=6)
    out = tmp_path / "run"
    options: dict[str, Any] = {"batch_size": 4, "workers": 0, "accelerator": "cpu", "out": out}
    result = pretrain(tmp_path / "photos", method="dino", backbone="resnet10", size=48, epochs=2, every=2, **options)
    backbone = Backbone.from_pretrained(out).freeze()
    photo = next((tmp_path / "photos").rglob("*.jpg"))
    torch.testing.assert_close(backbone(photo), result.model.eval().embed(backbone.collate([photo])[0]))
    backbone.save_pretrained(tmp_path / "hub")
    front, text = card_of(tmp_path / "hub")
    assert front["tags"] == ["self-supervised-learning", "dino", "resnet10"]
    for words in (
        "# resnet10 trained with DINO",
        "trained with DINO ([arXiv 2104.14294](https://arxiv.org/abs/2104.14294))",
        "| images | 12 |",
        "| images in a step | 4 |",
        "| epochs | 2 |",
        "| optimiser steps | 6 |",
        "| optimiser | AdamW, learning rate 0.001",
        "Each step takes 10 views of each image:\n\n1 view made by\n\n- `RandomResizedCrop(size=(",
        "\n8 views made by\n\n- `RandomResizedCrop(size=(",
        "- `RandomSolarize(threshold=0.5, p=0.2)`",
        f"nearest neighbours classify correctly | {result.metrics['knn_accuracy']:.4g} |",
        "`Backbone` converts files and PIL images to RGB, resizes the shorter side to 48 pixels, cuts out the central "
        "48 x 48 pixels, and normalises them with mean (0.485, 0.456, 0.406) and standard deviation (0.229, ",
    ):
        assert words in text
    assert str(tmp_path) not in (tmp_path / "hub" / "README.md").read_text()
    (tmp_path / "photo.jpg").write_bytes(photo.read_bytes())
    (tmp_path / "user").mkdir()
    (tmp_path / "hub").rename(tmp_path / "user" / "name")
    monkeypatch.chdir(tmp_path)
    torch.testing.assert_close(run_python(text)["features"], backbone(photo))


@pytest.mark.filterwarnings("ignore:.*(knn accuracy|wants batches of|set_vital)")
def test_figures_of_an_earlier_epoch_are_not_said_to_be_of_these_weights(tmp_path: Path) -> None:
    write_photos(tmp_path / "photos", classes=2, count=6)
    seen: list[dict[str, Any]] = []

    class Look(Callback):
        def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
            seen.append(read_metadata(tmp_path / "run")["notes"])

    options: dict[str, Any] = {"batch_size": 4, "workers": 0, "accelerator": "cpu", "out": tmp_path / "run"}
    pretrain(tmp_path / "photos", backbone="resnet10", size=16, epochs=3, every=2, callbacks=[Look()], **options)
    assert [note["epochs"] for note in seen] == [1, 2, 3]
    assert ["metrics" in note for note in seen] == [False, True, True]


class Hub(BaseHTTPRequestHandler):
    """A hub of Hugging Face, as far as a model is uploaded to it and downloaded from it."""

    files: ClassVar[dict[str, bytes]] = {}
    commit: ClassVar[str] = "0123456789" * 4

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        path = self.path.split("?")[0].partition("/user/name/resolve/main/")[2]
        if path not in self.files:
            self.answer(404, b"", {"X-Error-Code": "RepoNotFound" if not path else "EntryNotFound"})
            return
        body = self.files[path]
        self.answer(200, body, {"ETag": f'"{hashlib.sha256(body).hexdigest()}"', "X-Repo-Commit": self.commit})

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        url = f"http://{self.headers['Host']}/user/name"
        answers: dict[str, Any] = {
            "create": {"url": url, "id": "user/name"},
            "validate-yaml": {"errors": [], "warnings": []},
        }
        if "preupload" in self.path:
            asked = json.loads(body)["files"]
            answer: Any = {
                "files": [{"path": f["path"], "uploadMode": "regular", "shouldIgnore": False} for f in asked]
            }
        elif "/commit/" in self.path:
            for line in map(json.loads, body.splitlines()):
                if line["key"] == "file":
                    self.files[line["value"]["path"]] = base64.b64decode(line["value"]["content"])
            answer = {"commitUrl": f"{url}/commit/{self.commit}", "commitOid": self.commit}
        else:
            answer = answers[self.path.rsplit("/", 1)[1]]
        self.answer(200, json.dumps(answer).encode(), {"Content-Type": "application/json"})

    def answer(self, code: int, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(code)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Hub]]:
    """A hub at this machine, in place of the real one."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setattr(
        "huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE",
        f"http://127.0.0.1:{server.server_port}/{{repo_id}}/resolve/{{revision}}/{{filename}}",
    )
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_XET", True)
    Hub.files.clear()
    yield Hub
    server.shutdown()
    server.server_close()


def test_a_backbone_goes_to_the_hub_and_comes_back(
    backbone: Backbone, hub: type[Hub], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    backbone.push_to_hub("user/name", token="hf_test", model_card_kwargs={"license": "mit"})
    assert set(hub.files) == {BACKBONE, "README.md", "config.json"}
    assert b"license: mit" in hub.files["README.md"]
    other = Backbone.from_pretrained("user/name", cache_dir=tmp_path / "cache", token=False, decode=64)
    image = torch.rand(3, 40, 40)
    assert torch.equal(other(image), backbone(image))
    assert other.collate.decode == 64
    hub.files.clear()
    again = Backbone.from_pretrained("user/name", cache_dir=tmp_path / "cache", local_files_only=True)
    assert torch.equal(again(image), backbone(image))
    message = r"user/name is no file or folder here, and the hub gives no backbone\.safetensors of a repository"
    with pytest.raises(FileNotFoundError, match=message):
        Backbone.from_pretrained("user/name", cache_dir=tmp_path / "other", token=False)
    with pytest.raises(FileNotFoundError, match=message):
        Backbone.from_pretrained("user/name", cache_dir=tmp_path / "other", local_files_only=True)


@pytest.mark.parametrize("name", ["nowhere", "runs/nowhere.safetensors", "/nowhere/x", "./runs/x", "a/b/c", "~/x"])
def test_a_path_that_is_no_name_of_a_repository_asks_no_hub(
    name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("lightly_aug.weights._pretrained.hf_hub_download", None)
    with pytest.raises(FileNotFoundError, match="must be a file of save_backbone or the folder of a run, no "):
        Backbone.from_pretrained(name)


def test_a_wrong_name_in_a_folder_that_is_here_asks_no_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def download(*_: object, **__: object) -> str:
        raise AssertionError("the hub was asked")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("lightly_aug.weights._pretrained.hf_hub_download", download)
    (tmp_path / "runs").mkdir()
    with pytest.raises(FileNotFoundError, match="runs/none"):
        Backbone.from_pretrained("runs/none")
