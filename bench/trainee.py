"""A network and its optimizer, as training benches save, load and step them."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn


class Trainee:
    """What is trained."""

    model: nn.Module
    optimizer: torch.optim.Optimizer

    def state(self) -> dict[str, Any]:
        """The whole state, as a training script saves it."""
        return {"model": self.model.state_dict(), "optimizer": self.optimizer.state_dict()}

    def load(self, state: dict[str, Any]) -> None:
        """Go on from a state."""
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])

    def descend(self, loss: torch.Tensor) -> float:
        """One step down a loss; its value."""
        self.optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()
        return float(loss.detach())
