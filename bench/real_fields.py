"""Real volumes and images that packages on PyPI carry, as float32; none where the package is absent."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
TEMPLATE = "mni_icbm152_{}_tal_nlin_sym_09a_converted.nii.gz"


def _mni(which: str) -> Array:
    """A volume of the ICBM 152 brain template (Fonov et al. 2011), 197 x 233 x 189 voxels, as nilearn ships it."""
    import nibabel
    import nilearn

    path = Path(str(nilearn.__file__)).parent / "datasets" / "data" / TEMPLATE.format(which)
    return np.ascontiguousarray(nibabel.load(path).get_fdata(dtype=np.float32))


def _picture(name: str) -> Array:
    """One of scikit-image's pictures; of coloured ones the luminance."""
    from skimage import color, data

    pixels = getattr(data, name)()
    return np.ascontiguousarray(color.rgb2gray(pixels) * 255 if pixels.ndim == 3 else pixels, dtype=np.float32)


_REAL: dict[str, tuple[str, Callable[[], Array]]] = {
    "mni-t1": ("nilearn", lambda: _mni("t1")),
    "mni-grey": ("nilearn", lambda: _mni("gm")),
    "hubble": ("skimage", lambda: _picture("hubble_deep_field")),
    "astronaut": ("skimage", lambda: _picture("astronaut")),
    "grass": ("skimage", lambda: _picture("grass")),
}
REAL_FIELDS: dict[str, Callable[[], Array]] = {
    name: make for name, (package, make) in _REAL.items() if importlib.util.find_spec(package)
}
