"""szdnn in other libraries' places; each module imports the library it is for, and nothing else imports the module
(`lazy_load` is there for its name).

- `checkpoint`: periodic checkpoints of a training loop, in the background (torch)
- `dcp`: storage and planners for torch.distributed.checkpoint
- `remote`: files in object stores and on servers, through fsspec
- `lazy`: models whose weights stay compressed until they are used (torch); also `lazy_load` here
- `dask`: tensors compressed on a Dask cluster
"""

from typing import Any


def __getattr__(name: str) -> Any:
    """`lazy_load`, whose module imports torch, when it is asked for."""
    if name == "lazy_load":
        from .lazy import lazy_load

        return lazy_load
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
