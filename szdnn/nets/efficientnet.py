"""EfficientNet-lite0 (4.65 million weights), by the package efficientnet-lite-pytorch."""

from __future__ import annotations

from torch import nn

from ..errors import ArchiveError


def efficientnet_lite0() -> nn.Module:
    """Images [n, 3, 224, 224], (x - 127) / 128, to logits [n, 1000]. Raises ArchiveError without the package."""
    try:
        from efficientnet_lite_pytorch import EfficientNet
    except ImportError:
        raise ArchiveError(
            "EfficientNet-lite0 needs efficientnet-lite-pytorch; install it with: pip install 'szdnn[tasks]'"
        ) from None
    model: nn.Module = EfficientNet.from_name("efficientnet-lite0")
    return model
