"""Networks, data sets and tasks that methods are compared on.

A `Task` is a network, its data and its score. `load("mnist/lenet-5")` gives one; `TASKS` lists them; `register` adds
one. Needs the extra `tasks` (`pip install 'szdnn[tasks]'`). Modules: `task` (the interface), `training` (one loop for
all), `lenet`, `resnet`, `minilm`, `efficientnet` (networks), `images`, `sentences` (tasks), `data`, `downloads`
(where files come from).

>>> from szdnn import nets
>>> task = nets.load("digits")
>>> model = task.model(task.baseline())  # a torch module with the trained weights
>>> score = task.evaluate(model, "report")  # higher is better
"""

from .tasks import TASKS, load, names, register

__all__ = ["TASKS", "load", "names", "register"]
