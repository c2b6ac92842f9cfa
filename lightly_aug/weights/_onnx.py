"""Backbones as graphs of ONNX."""

import json
import os
from pathlib import Path

import torch
from torch import Tensor, nn

from lightly_aug.atomic import replace_file
from lightly_aug.optional import extra
from lightly_aug.weights._export import check_equal, copy_network, describe_input, example_images
from lightly_aug.weights._pretrained import Backbone

__all__ = ["export_onnx"]


class _Normalized(nn.Module):
    """A network with the normalisation of its images in front of it, or without one, and its features `(n, d)`."""

    mean: Tensor
    std: Tensor

    def __init__(self, network: nn.Module, normalize: dict[str, list[float]] | None) -> None:
        super().__init__()
        self.network = network
        mean, std = (normalize["mean"], normalize["std"]) if normalize else ([0.0], [1.0])
        self.register_buffer("mean", torch.tensor(mean).view(-1, 1, 1))
        self.register_buffer("std", torch.tensor(std).view(-1, 1, 1))

    def forward(self, images: Tensor) -> Tensor:
        features: Tensor = self.network((images - self.mean) / self.std)
        return features.flatten(1)


def export_onnx(backbone: Backbone, file: str | os.PathLike[str], *, normalized: bool = False) -> str:
    """Write a backbone as a graph of ONNX, with a free number of images, and check it with ONNX Runtime.

    The graph computes `features` `(n, d)` of `images` `(n, c, size, size)`, float32. Resizing and cropping are not part
    of it: the shorter side becomes `size`, and the centre is cut out, as `backbone.collate` does. The settings of the
    backbone are in the metadata of the file, as JSON under `"lightly_aug"`.

    Args:
        backbone: The backbone.
        file: File to write, `.onnx`, which also holds the weights, up to 2 GB. Its folder is made.
        normalized: The graph takes images that are normalised already. By default it takes images in [0, 1], and
            normalises them itself.

    Returns:
        The lines of Python that compute features of `images`.

    Raises:
        ValueError: The network cannot be exported by torch or run by ONNX Runtime, or the features of 1 or 3 images
            differ by more than 1e-4; no file is written then. Or the suffix is another.
        ModuleNotFoundError: The packages of the extra "export" are not installed.
    """
    with extra("export"):
        import onnx  # noqa: F401  # which torch.onnx needs, and would say so only later
        import onnxruntime
        import onnxscript  # noqa: F401
    file = Path(file)
    if file.suffix != ".onnx":
        raise ValueError(f"export_onnx: file must end in .onnx, got {file}")
    metadata = backbone.metadata
    network = _Normalized(copy_network(backbone), None if normalized else metadata["normalize"]).eval()
    kind = type(backbone.network).__name__
    try:
        program = torch.onnx.export(
            network,
            (example_images(backbone, 2),),
            dynamo=True,
            verbose=False,
            input_names=["images"],
            output_names=["features"],
            dynamic_shapes=({0: "n"},),
        )
    except torch.onnx.OnnxExporterError as error:
        reason = str(error).strip().splitlines()[0]
        raise ValueError(f"export_onnx: torch must be able to export the {kind}, got an error: {reason}") from error
    assert program is not None  # so it is for dynamo=True
    program.model.metadata_props["lightly_aug"] = json.dumps(metadata)
    with replace_file(file) as new:
        try:
            program.save(new, external_data=False)
            session = onnxruntime.InferenceSession(new, providers=["CPUExecutionProvider"])
            for count in (1, 3):
                images = example_images(backbone, count)
                (found,) = session.run(["features"], {"images": images.numpy()})
                with torch.no_grad():
                    check_equal("export_onnx: ONNX Runtime", torch.from_numpy(found), network(images))
        except ValueError:
            raise
        except Exception as error:  # ONNX Runtime and protobuf raise errors of their own, without a common class
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise ValueError(f"export_onnx: ONNX Runtime must be able to run the {kind}, got: {reason}") from error
    return "\n".join(
        [
            "import onnxruntime",
            "",
            f"session = onnxruntime.InferenceSession({str(file)!r})",
            f"# images: {describe_input(backbone, normalized=normalized)}",
            'features = session.run(None, {"images": images})[0]',
        ]
    )
