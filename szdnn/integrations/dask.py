"""Tensors compressed on a Dask cluster: an executor for szdnn.save and `szdnn compress --cluster tcp://...`.

The tensors travel to the workers and the frames back; files are read and written here. A task whose worker dies is run
again on another, and the archive's bytes do not depend on who did what. The workers need the same version of szdnn.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from ..errors import ArchiveError


@dataclass(frozen=True)
class _Parcel:
    """A call, which Dask pickles as one object: by itself it would make plain bytes of bfloat16 arrays."""

    function: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]


def _run(parcel: _Parcel) -> Any:
    return parcel.function(*parcel.args, **parcel.kwargs)


class ClusterExecutor(Executor):
    """The executor of a Dask client, with the number of tasks that keep its workers busy.

    client: a distributed.Client. It stays open.
    """

    def __init__(self, client: Any) -> None:
        self._client = client
        self._executor = client.get_executor(pure=False)  # else each tensor would be hashed for a name

    @property
    def _max_workers(self) -> int:
        """The threads of all workers, as those of concurrent.futures tell it. At least 1."""
        return max(1, sum(int(threads) for threads in self._client.nthreads().values()))

    def submit(self, function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Run function(*args, **kwargs) on a worker."""
        future: Future[Any] = self._executor.submit(_run, _Parcel(function, args, kwargs))
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Take no more tasks; the workers go on living."""
        self._executor.shutdown(wait=wait)


@contextmanager
def cluster(address: str, timeout: float = 10.0) -> Iterator[ClusterExecutor]:
    """An executor on the Dask scheduler at `address`, such as tcp://host:8786.

    Raises ArchiveError when distributed is not installed, OSError when the scheduler does not answer in `timeout` s.
    """
    try:
        import dask
        from distributed import Client
    except ImportError:
        raise ArchiveError("--cluster needs Dask; install it with: pip install 'szdnn[dask]'") from None
    try:
        client: Any = Client(address, timeout=timeout, set_as_default=False)  # type: ignore[no-untyped-call]
    except ValueError as error:
        raise ArchiveError(f"{address} is not the address of a Dask scheduler: {error}") from None
    try:
        # A tensor travels within its task, so that the scheduler can send it again; no reason to warn of its size.
        with dask.config.set({"distributed.admin.large-graph-warning-threshold": "1 TiB"}):
            executor = ClusterExecutor(client)
            yield executor
            executor.shutdown()
    finally:
        client.close()
