"""Where the backbone is in the checkpoints of self-supervised methods, as plain data."""

from typing import Any, Final, NamedTuple, TypeAlias

__all__ = ["LAYOUTS", "Color", "Layout", "Path", "Place"]

Color: TypeAlias = tuple[float, float, float]
Path: TypeAlias = tuple[str, ...]

_MEAN: Final[Color] = (0.485, 0.456, 0.406)
_STD: Final[Color] = (0.229, 0.224, 0.225)


class Place(NamedTuple):
    """A place of a backbone in a file.

    Attributes:
        prefix: Beginning of the names of its weights, without the wrappers around the whole model.
        marks: Beginnings of names that the file must have, too; without any, other layouts are preferred.
        containers: Keys from the top of the file to the weights, of which one is there.
    """

    prefix: str
    marks: tuple[str, ...] = ()
    containers: tuple[Path, ...] = (("state_dict",),)


class Layout(NamedTuple):
    """The checkpoints of one code base.

    Attributes:
        places: Where the backbone can be.
        heads: Beginnings of names behind the prefix that belong to a head.
        others: Beginnings of other names that are known and not needed.
        size: Side of the images in pixels; None if the layout does not tell.
        mean: Mean of the normalisation, 0 without one; None if the layout does not tell.
        std: Standard deviation of the normalisation, 1 without one; None if the layout does not tell.
        note: What a user of the weights should know.
    """

    places: tuple[Place, ...]
    heads: tuple[str, ...] = ("fc.", "head.")
    others: tuple[str, ...] = ()
    size: int | None = None
    mean: Color | None = None
    std: Color | None = None
    note: str = ""


_ANY: Final[tuple[Path, ...]] = ((), ("state_dict",), ("model",), ("model_state_dict",))
_VISSL: Final[Path] = ("classy_state_dict", "base_model", "model", "trunk")
_IMAGENET: Final[dict[str, Any]] = {"size": 224, "mean": _MEAN, "std": _STD}
_LIGHTLY: Final = ((), ("state_dict",))

LAYOUTS: Final[dict[str, Layout]] = {
    "moco_v1": Layout(
        (Place("encoder_q.", ("encoder_q.fc.weight", "encoder_k.", "queue")),),
        others=("encoder_k.", "queue", "val_queue"),
        **_IMAGENET,
    ),
    "moco_v2": Layout(
        (Place("encoder_q.", ("encoder_q.fc.0.", "encoder_k.", "queue")),),
        others=("encoder_k.", "queue", "val_queue"),
        **_IMAGENET,
    ),
    "moco_v3": Layout(
        (Place("base_encoder.", ("momentum_encoder.",)),),
        others=("momentum_encoder.", "predictor."),
        **_IMAGENET,
    ),
    "simsiam": Layout((Place("encoder.", ("encoder.fc.0.", "predictor.")),), others=("predictor.",), **_IMAGENET),
    "barlow_twins": Layout(
        (Place("backbone.", ("projector.", "bn.running_mean"), (("model",),)),),
        others=("projector.", "bn."),
        **_IMAGENET,
    ),
    "swav": Layout(
        (Place("", ("projection_head.", "prototypes."), ((), ("state_dict",))),),
        heads=("projection_head.", "prototypes."),
        size=224,
        mean=_MEAN,
        std=(0.228, 0.224, 0.225),
        note="The official code divides red by 0.228, where ImageNet's value is 0.229.",
    ),
    "dino": Layout((Place("backbone.", ("backbone.",), (("teacher",),)),), others=("head.",), **_IMAGENET),
    "paws": Layout((Place("", ("fc.fc1.",), (("encoder",),)),), heads=("fc.", "pred."), **_IMAGENET),
    "vissl": Layout(
        (Place("_feature_blocks.", ("_feature_blocks.",), (_VISSL,)),),
        note="PIRL, and other methods that were trained with VISSL, whose configurations use ImageNet's mean and std.",
        **_IMAGENET,
    ),
    "amdim": Layout(
        (Place("encoder.module.layer_list.", ("encoder.module.rkhs_block_5.",), (("model",),)),),
        heads=(),
        others=("encoder.module.rkhs_block_", "evaluator.", "g2l_loss."),
    ),
    "simclr": Layout(
        (),  # converted from TensorFlow: plain names, so a user has to ask for it
        size=224,
        mean=(0.0, 0.0, 0.0),
        std=(1.0, 1.0, 1.0),
        note="SimCLR's images are not normalised: values in [0, 1].",
    ),
    "byol": Layout((), **_IMAGENET),  # converted from Haiku: plain names, too
    "byol_port": Layout(
        (
            Place("online_encoder.net.", ("target_encoder.",), _ANY),
            Place("online_encoder.", ("target_encoder.",), _ANY),
        ),
        heads=("fc.", "head.", "projector.", "projection."),
        others=("target_encoder.", "online_encoder.projector.", "online_predictor.", "predictor."),
    ),
    "pl_bolts": Layout(
        (
            Place("online_network.encoder.", ("online_network.encoder.",)),
            Place("encoder.", ("projection.",)),
            Place("model.", ("model.projection_head.", "model.prototypes.")),
        ),
        heads=("fc.", "projection_head.", "prototypes."),
        others=("online_network.", "target_network.", "predictor.", "projection.", "non_linear_evaluator."),
    ),
    "solo_learn": Layout(
        (Place("backbone.", ("classifier.",)), Place("encoder.", ("classifier.",))),
        others=(
            *("classifier.", "projector.", "predictor.", "momentum_", "prototypes.", "head.", "queue", "dino_loss"),
            *("key_projector.", "teacher_", "transformer.", "knn."),
        ),
        note="solo-learn normalises CIFAR, STL-10 and ImageNet by their own mean and std.",
    ),
    "lightly": Layout(
        (
            Place("teacher_backbone.", ("student_backbone.",), _LIGHTLY),
            Place("backbone.", ("projection_head.",), _LIGHTLY),
        ),
        others=(
            *("projection_head", "prediction_head", "backbone_momentum.", "prototypes.", "criterion.", "memory_bank."),
            *("student_", "teacher_head.", "online_classifier."),
        ),
    ),
    "lightly_aug": Layout(
        (
            Place("model.backbone.", ("model.backbone.",)),
            Place("backbone.", ("_extra_state",), _ANY),
        ),
        heads=(),
        others=(
            *(
                "model.",
                "head",
                "projector.",
                "predictor",
                "prototypes.",
                "key_encoder.",
                "teacher.",
                "target.",
                "queue",
            ),
            *("image_head.", "patch_head.", "jigsaw_head.", "context.", "loss.", "_extra_state"),
        ),
        note="`Backbone.from_pretrained` of the folder of the run knows the size and the normalisation, too.",
    ),
    "plain": Layout((Place("", (), _ANY),), heads=("fc.", "head.", "classifier.")),
    "backbone": Layout((Place("backbone.", (), _ANY),)),
    "encoder": Layout((Place("encoder.", (), _ANY),)),
}
"""All layouts by name. Any of them also fits the plain names of an extracted backbone, if a user asks for it."""
