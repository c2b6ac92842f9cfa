"""PAWS."""

from collections.abc import Sequence

from torch import Tensor, nn

from lightly_aug.checks import check_choice
from lightly_aug.loss import PAWSLoss
from lightly_aug.models.backbones import feature_width
from lightly_aug.models.base import SSLModel, embed_views, several_views
from lightly_aug.models.heads import mlp

__all__ = ["PAWS"]


class PAWS(SSLModel):
    """Semi-supervised learning: views of an unlabelled image agree on a class, predicted from labelled images.

    Semi-Supervised Learning of Visual Features by Non-Parametrically Predicting View Assignments with Support Samples
    (Assran et al. 2021, arXiv 2104.13963). A batch holds both kinds of images: `targets` is -1 for those without a
    label, as in torchvision's STL10 and scikit-learn; those with a label are the support, joined over all ranks. The
    classes of the support, which may be some of all, are those that are predicted, and each should have the same number
    of images. `lightly_aug.SupportBatchSampler` draws such batches, and `SupportDataset` also gives it the
    labelled images without their labels. BatchNorm sees all views of one size, of both kinds, as one batch.

    Args:
        backbone: Maps images of all the views' sizes to features `(n, d)` or `(n, d, 1, 1)`.
        classes: Number C of classes.
        width: Width d of the features; None measures it.
        hidden: Width of the projector's hidden layers (128 on CIFAR-10).
        dim: Width of the projector's output (128 on CIFAR-10).
        predictor: Use a predictor on the anchors (not on CIFAR-10).
        support_views: Number of views of a labelled image to use as support, 1 or 2 (2 on CIFAR-10).
        temperature: Temperature τ of the similarities, above 0.
        sharpening: Temperature T of the targets, above 0.
        smoothing: Label smoothing, 0 to 1.

    Raises:
        ValueError: An argument is out of range, or the width cannot be measured.

    Example:
        >>> f = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.AdaptiveAvgPool2d(1))
        >>> model = PAWS(f, classes=2, hidden=32, dim=16)
        >>> import torch
        >>> views = [torch.rand(6, 3, side, side) for side in (32, 32, 16)]
        >>> model(views, targets=torch.tensor([0, -1, 1, -1, -1, 0])).shape
        torch.Size([])
    """

    def __init__(
        self,
        backbone: nn.Module,
        *,
        classes: int,
        width: int | None = None,
        hidden: int = 2048,
        dim: int = 2048,
        predictor: bool = True,
        support_views: int = 1,
        temperature: float = 0.1,
        sharpening: float = 0.25,
        smoothing: float = 0.1,
    ) -> None:
        super().__init__()
        check_choice(self, (1, 2), support_views=support_views)
        width = feature_width(backbone) if width is None else width
        self.backbone = backbone
        self.projector = mlp(width, hidden, hidden, dim)
        self.predictor = (
            nn.Sequential(nn.BatchNorm1d(dim), *mlp(dim, max(1, dim // 4), dim)) if predictor else nn.Identity()
        )
        self.support_views = support_views
        self.loss = PAWSLoss(classes, temperature, sharpening, smoothing)

    def forward(self, views: Sequence[Tensor], *, targets: Tensor | None = None, index: Tensor | None = None) -> Tensor:
        """Compute the cross entropy against the other view's prediction, minus the mean entropy; needs `targets`.

        Two views of one size come first, any number of others may follow, each `(n, c, h, w)`; `targets` are `(n,)`.
        """
        several_views(self, views, same_shape=2)
        labelled, unlabelled = _split(targets, len(views[0]), self.loss.classes)
        supports = [x[labelled] for x in views[: self.support_views]]
        anchors = [x[unlabelled] for x in views]
        h = self.projector(embed_views(self.embed, [*supports, *anchors]))
        z = self.predictor(h)
        count, m = len(views), self.support_views * len(labelled)
        assert targets is not None
        return self.loss(
            z[m:].chunk(count),
            h[m:].chunk(count)[:2],
            z[:m],
            h[:m],
            targets[labelled.to(targets.device)].to(z.device).repeat(self.support_views),
        )


def _split(targets: Tensor | None, n: int, classes: int) -> tuple[Tensor, Tensor]:
    """Return the rows with a label, and those without."""
    if targets is None or targets.shape != (n,):
        came = None if targets is None else tuple(targets.shape)
        raise ValueError(f"PAWS: targets must be a label for each of {n} images, -1 where there is none, got {came}")
    if targets.device.type == "cpu" and int(targets.max()) >= classes:
        raise ValueError(f"PAWS: targets must be below classes={classes}, got {targets.max()}")
    has = targets >= 0
    labelled, unlabelled = has.nonzero()[:, 0], (~has).nonzero()[:, 0]
    if not len(labelled) or not len(unlabelled):
        raise ValueError(
            f"PAWS: targets must have images with and without label in every batch, got {len(labelled)} with and "
            f"{len(unlabelled)} without: use a batch sampler such as SupportBatchSampler"
        )
    return labelled, unlabelled
