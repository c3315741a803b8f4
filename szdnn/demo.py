"""`szdnn demo`: a small LeNet trained on scikit-learn's digits, and what compressing its checkpoint does to it."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from . import files, report
from .bounds import Bound, Lossless, Rel
from .checkpoint import open_source
from .errors import ArchiveError

try:
    import torch
    from sklearn.datasets import load_digits
    from torch import nn

    from .nets.lenet import lenet_8x8
    from .nets.training import one_thread
except ImportError as error:
    raise ArchiveError(f"the demo needs {error.name}; install it with: pip install 'szdnn[all]'") from None

BOUNDS: tuple[Bound, ...] = (Rel(1e-1), Rel(3e-2), Rel(1e-2), Rel(1e-3), Lossless())
_TRAINING_IMAGES = 1297
_EPOCHS = 15


def run(keep: Path | None = None) -> Iterator[str]:
    """Train, compress, restore and score; the lines to print, as they come. Files stay only in the folder `keep`."""
    with ExitStack() as stack:
        folder = keep or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="szdnn-demo-")))
        folder.mkdir(parents=True, exist_ok=True)
        images, labels = _digits()
        yield f"training a LeNet on {_TRAINING_IMAGES} of scikit-learn's digits, {_EPOCHS} epochs ..."
        model = train(images[:_TRAINING_IMAGES], labels[:_TRAINING_IMAGES])
        checkpoint = folder / "lenet.pt"
        torch.save(model.state_dict(), checkpoint)
        test = (images[_TRAINING_IMAGES:], labels[_TRAINING_IMAGES:])
        size = checkpoint.stat().st_size
        rows = [["original .pt", str(size), "1.00", "32.000", "-", f"{_accuracy(model, *test):.2%}"]]
        rows += [_row(checkpoint, bound, test) for bound in BOUNDS]
        header = ["bound", "bytes", "ratio", "bits/weight", "largest error/bound", f"accuracy on {len(test[1])}"]
        yield report.table(header, rows)
        yield "ratio: bytes of all tensors / bytes of the archive; bits/weight: of the tensors that the bound is for"
        if keep:
            yield f"files kept in {keep}"


def _digits() -> tuple[torch.Tensor, torch.Tensor]:
    digits = load_digits()
    order = torch.randperm(len(digits.target), generator=torch.Generator().manual_seed(0))
    images = torch.from_numpy(digits.images).float().div(16).unsqueeze(1)
    return images[order], torch.from_numpy(digits.target).long()[order]


def train(images: torch.Tensor, labels: torch.Tensor) -> nn.Sequential:
    """A LeNet trained with Adam from a fixed seed; the caller's random state is left alone."""
    with torch.random.fork_rng(devices=[]), one_thread():
        torch.manual_seed(0)
        model = lenet_8x8()
        optimizer: Any = torch.optim.Adam(model.parameters(), lr=2e-3)
        for _ in range(_EPOCHS):
            order = torch.randperm(len(images))
            for start in range(0, len(images), 32):
                batch = order[start : start + 32]
                optimizer.zero_grad()
                loss: Any = nn.functional.cross_entropy(model(images[batch]), labels[batch])
                loss.backward()
                optimizer.step()
    return model


@torch.no_grad()
def _accuracy(model: nn.Module, images: torch.Tensor, labels: torch.Tensor) -> float:
    return float((model(images).argmax(1) == labels).float().mean())


def _row(checkpoint: Path, bound: Bound, test: tuple[torch.Tensor, torch.Tensor]) -> list[str]:
    """Compress the checkpoint, restore it from the archive, score it."""
    stem = report.format_bound(bound).lower().replace("(", "-").replace(")", "")
    archive, restored = (checkpoint.with_name(f"lenet-{stem}{suffix}") for suffix in (".pt.szd.safetensors", ".pt"))
    with open_source(checkpoint) as source:
        saved = files.compress_source(source, archive, bound)
    with files.open_frames(archive) as frames:
        files.decompress_frames(frames, restored)
    model = lenet_8x8()
    model.load_state_dict(torch.load(restored, weights_only=True))
    return [
        report.format_bound(bound),
        str(saved.archive_bytes),
        report.format_number(saved.ratio),
        report.format_number(saved.bits_per_weight, 3),
        report.format_number(saved.largest_fraction, 4),
        f"{_accuracy(model, *test):.2%}",
    ]
