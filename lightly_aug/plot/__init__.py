"""Pictures of views, of nearest neighbours, and of embeddings.

Figures are returned, not shown.
"""

from lightly_aug.plot._embedding import embedding
from lightly_aug.plot._neighbours import neighbours
from lightly_aug.plot._views import view_grid

__all__ = ["embedding", "neighbours", "view_grid"]
