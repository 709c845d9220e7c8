"""Maps of segment ids as the pixels of a PNG, for tests that write them."""

import numpy as np
from numpy.typing import NDArray


def ids_to_rgb(ids: NDArray[np.integer]) -> NDArray[np.uint8]:
    """(H, W) ids to (H, W, 3): id = R + 256 G + 65536 B, as panopticapi reads them."""
    wide = ids.astype(np.uint32)
    return np.stack([wide & 255, wide >> 8 & 255, wide >> 16 & 255], axis=-1).astype(np.uint8)
