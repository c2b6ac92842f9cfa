"""A dataset whose samples know their index."""

from dataclasses import dataclass
from typing import Any

from torch.utils.data import Dataset

__all__ = ["Indexed", "IndexedSample"]


@dataclass(frozen=True)
class IndexedSample:
    """A sample and its index in the dataset; the collate function separates them."""

    index: int
    sample: Any


class Indexed(Dataset[IndexedSample]):
    """A dataset whose samples know their index, so that an image gets the same views wherever it occurs.

    Draws then do not depend on the batch size, the order, the number of workers or the rank. The collate function
    removes the index again, so batches look the same with and without `Indexed`, and `Views.index` holds the indices.
    An image that a sampler repeats within an epoch gets the same views each time.

    Args:
        dataset: Any dataset with integer indices.

    Raises:
        TypeError: The dataset is `Indexed` already.

    Example:
        >>> from PIL import Image
        >>> from lightly_aug import SimCLRCollateFunction
        >>> dataset = Indexed([(Image.new("RGB", (40, 30)), 0), (Image.new("RGB", (30, 40)), 1)])
        >>> collate = SimCLRCollateFunction(size=32, seed=0)
        >>> views, labels = collate([dataset[1], dataset[0]])
        >>> views.index
        tensor([1, 0])
    """

    def __init__(self, dataset: Any) -> None:
        if isinstance(dataset, Indexed):
            raise TypeError("Indexed: dataset is Indexed already, use it as it is")
        self.dataset = dataset

    def __getitem__(self, index: int) -> IndexedSample:
        try:
            return IndexedSample(int(index), self.dataset[index])
        except IndexError:
            raise
        except Exception as error:
            error.add_note(f"raised by sample {index} of the dataset")
            raise

    def __len__(self) -> int:
        return len(self.dataset)

    def __repr__(self) -> str:
        return f"Indexed({self.dataset!r})"
