"""The command line: `szdnn compress | decompress | info | test | diff | demo`.

Exit codes: 0 done (diff: identical), 1 damaged data, a bound not met, or trouble reading and writing (diff: different),
2 wrong usage, 130 interrupted.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import click

from . import __version__, bounds, files, report
from .archive import FrameReader
from .bounds import Bound
from .checkpoint import open_source, restored_suffix
from .errors import BoundError, Error

ARCHIVE_SUFFIX = ".szd.safetensors"
_BOUNDS: dict[str, tuple[Callable[[float], Bound], str, str]] = {
    "abs": (bounds.Abs, "E", "Every error at most E."),
    "rel": (bounds.Rel, "R", "Every error at most R times the tensor's range of values."),
    "std": (bounds.Std, "C", "Every error at most C times the tensor's standard deviation."),
    "pw_rel": (bounds.PointwiseRel, "R", "Every error at most R times the value's size; the sign is kept."),
    "psnr": (bounds.PSNR, "DB", "A peak signal-to-noise ratio of at least DB decibels."),
    "rmse": (bounds.RMSE, "V", "A root mean square error of at most V."),
    "bits": (bounds.Bits, "B", "At most B bits a value."),
}
_F = TypeVar("_F", bound=Callable[..., Any])


class _Group(click.Group):
    """A command group that turns the errors users meet into messages and exit codes."""

    def invoke(self, ctx: click.Context) -> Any:
        """Runs the command; exits with 1 on szdnn's and the system's errors, 130 on Ctrl-C."""
        try:
            with _terminable():
                return super().invoke(ctx)
        except KeyboardInterrupt:
            click.echo("szdnn: interrupted", err=True)
            ctx.exit(130)
        except BrokenPipeError:
            raise  # click ends quietly
        except Error as error:
            raise click.ClickException(str(error)) from None
        except OSError as error:
            where = f"{error.filename}: " if error.filename else ""
            raise click.ClickException(f"{where}{error.strerror or error}") from None
        except MemoryError:
            raise click.ClickException("out of memory") from None


@contextmanager
def _terminable() -> Iterator[None]:
    """Let SIGTERM end the program as Ctrl-C does, cleaning up, with exit code 143."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    previous = signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="szdnn")
def main() -> None:
    """Compress neural-network weights and other arrays within error bounds that hold for every value."""


def _bound_options(command: _F) -> _F:
    command = click.option("--lossless", is_flag=True, help="Every bit comes back.")(command)
    for name, (_, metavar, text) in reversed(_BOUNDS.items()):
        flag = "--" + name.replace("_", "-")
        command = click.option(flag, name, type=float, metavar=metavar, help=text)(command)
    return command


def _one_bound(lossless: bool, values: dict[str, float | None]) -> Bound:
    """The only bound among the options. Raises UsageError for none, several, and values that no bound has."""
    given = {name: value for name, value in values.items() if value is not None}
    if len(given) + lossless != 1:
        flags = " ".join("--" + name.replace("_", "-") for name in _BOUNDS)
        raise click.UsageError(f"give exactly one bound of {flags} --lossless")
    if lossless:
        return bounds.Lossless()
    name, value = given.popitem()
    try:
        return _BOUNDS[name][0](value)
    except BoundError as error:
        raise click.UsageError(str(error)) from None


_in = click.argument("path", metavar="IN", type=click.Path(path_type=Path, allow_dash=True))
_out = click.option("-o", "--output", metavar="OUT", type=click.Path(path_type=Path), help='The file to write, or "-".')
_threads = click.option("-T", "--threads", metavar="N", type=click.IntRange(1), help="Threads to use.")
_force = click.option("-f", "--force", is_flag=True, help="Overwrite the output; write to a terminal.")
_quiet = click.option("-q", "--quiet", is_flag=True, help="No progress bar, no total.")


@main.command()
@_in
@_out
@_bound_options
@click.option("--effort", metavar="N", type=click.IntRange(1, 9), default=3, help="1 fast, 3 default, 9 smallest.")
@_threads
@_force
@click.option("-c", "--stdout", is_flag=True, help="Write to standard output.")
@_quiet
@click.option("-v", "--verbose", is_flag=True, help="A line for each tensor.")
@click.option("--rm", is_flag=True, help="Remove the input when all is done.")
@click.option("--no-verify", is_flag=True, help="Do not decode and compare what was written.")
def compress(
    path: Path, output: Path | None, lossless: bool, effort: int, threads: int | None, force: bool, stdout: bool,
    quiet: bool, verbose: bool, rm: bool, no_verify: bool, **values: float | None,
) -> None:  # fmt: skip
    """Compress IN (.safetensors .pt .pth .bin .npy .npz, or - for standard input) within one bound.

    model.safetensors becomes model.szd.safetensors, any other x.suffix becomes x.suffix.szd.safetensors: valid
    .safetensors files whose tensors are the frames. In checkpoints, tensors under 1024 values, 1-D tensors under
    65,536 values, batch-norm statistics and all but floating-point numbers are kept exactly, and optimizer second
    moments within --pw-rel 0.01; the arrays of .npy and .npz all get the bound given.
    """
    bound = _one_bound(lossless, values)
    to_stdout = stdout or _is_dash(output) or (output is None and _is_dash(path))
    if rm and (to_stdout or _is_dash(path)):
        raise click.UsageError("--rm needs an input and an output that are files")
    with _spooled(path) as spooled, open_source(spooled) as source, _target(path, to_stdout, force) as target:
        target = target or output or _archive_path(path)
        _check_target(target, path, force or to_stdout)
        with _progress(source.nbytes, f"compress {path.name}", quiet or verbose) as progress:
            saved = files.compress_source(
                source, target, bound, effort=effort, threads=threads, verify=not no_verify, progress=progress
            )
        if to_stdout:
            _copy_to_stdout(target)
    _report_saved(saved, Path("-") if to_stdout else target, quiet, verbose, to_stdout)
    if rm:
        path.unlink()


def _report_saved(saved: files.SaveReport, target: Path, quiet: bool, verbose: bool, err: bool) -> None:
    for tensor in saved.tensors:
        for warning in tensor.info.warnings:
            click.echo(f"szdnn: warning: {tensor.name}: {warning}", err=True)
    if verbose:
        click.echo(report.tensor_table(saved.tensors, _width(err)), err=err)
    if not quiet:
        click.echo(f"{target.name}: {report.total(saved)}", err=err)


@main.command()
@_in
@_out
@_threads
@_force
@_quiet
@click.option("--max-bytes", metavar="N", type=click.IntRange(0), help="Refuse tensors of more bytes than that.")
def decompress(
    path: Path, output: Path | None, threads: int | None, force: bool, quiet: bool, max_bytes: int | None
) -> None:
    """Restore the file that the archive IN was made of.

    model.szd.safetensors becomes model.safetensors, x.npy.szd.safetensors becomes x.npy. A bare frame becomes a .npy.
    """
    to_stdout = _is_dash(output) or (output is None and _is_dash(path))
    with (
        _spooled(path) as spooled,
        files.open_frames(spooled, max_bytes=max_bytes, threads=threads) as frames,
        _target(path, to_stdout, force) as target,
    ):
        target = target or output or _restored_path(path, frames)
        _check_target(target, path, force or to_stdout)
        with _progress(files.raw_bytes(frames), f"decompress {path.name}", quiet) as progress:
            loaded = files.decompress_frames(frames, target, max_bytes=max_bytes, progress=progress)
        if to_stdout:
            _copy_to_stdout(target)
    if not quiet:
        rate = loaded.raw_bytes / 1e6 / max(loaded.seconds, 1e-9)
        tensors = f"{loaded.tensors} tensor{'s' * (loaded.tensors != 1)}, {report.format_bytes(loaded.raw_bytes)}"
        click.echo(f"{'-' if to_stdout else target.name}: {tensors}, {rate:.0f} MB/s", err=to_stdout)


@main.command()
@_in
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
def info(path: Path, as_json: bool) -> None:
    """Print what the archive or frame IN holds, from its headers."""
    with files.open_frames(path) as frames:
        tensors = tuple(files.TensorReport(name, frames.info(name), None) for name in frames)
        saved = files.SaveReport(tensors, path.stat().st_size, 0.0)
        if as_json:
            click.echo(json.dumps(report.as_json(frames, saved), indent=2, allow_nan=False))
            return
        click.echo(report.info_table(tensors, _width(False)))
        count = f"{len(tensors)} tensor{'s' * (len(tensors) != 1)}"
        click.echo(f"{count} of a {frames.skeleton.get('suffix')} file: {report.sizes(saved)}")
        for tensor in tensors:
            for warning in tensor.info.warnings:
                click.echo(f"szdnn: warning: {tensor.name}: {warning}", err=True)


@main.command()
@_in
@_threads
@_quiet
def test(path: Path, threads: int | None, quiet: bool) -> None:
    """Check every checksum of the archive or frame IN by decoding all of it."""
    with files.open_frames(path, threads=threads) as frames:
        with _progress(None, f"test {path.name}", quiet) as progress:
            errors = files.check_frames(frames, progress)
        for error in errors.values():
            click.echo(f"szdnn: {path.name}: {error}", err=True)
        if errors:
            raise click.ClickException(f"{len(errors)} of {len(frames)} tensors are damaged")
        if not quiet:
            click.echo(f"{path.name}: {len(frames)} tensor{'s' * (len(frames) != 1)}, no damage")


@main.command()
@click.argument("a", type=click.Path(path_type=Path))
@click.argument("b", type=click.Path(path_type=Path))
@_quiet
def diff(a: Path, b: Path, quiet: bool) -> None:
    """Compare the tensors of two files, compressed or not, in any mix of types.

    Prints for each tensor the largest absolute error, the RMSE, the PSNR in dB over the range of A, and the largest
    error over that range. Exits with 0 when all tensors are equal bit for bit and, between two files of one type, the
    rest (numbers, strings, nesting, metadata) too; with 1 when anything differs.
    """
    with files.open_tensors(a) as first, files.open_tensors(b) as second:
        diffs = list(files.diff_tensors(first, second))
        same_rest = files.rest_equal(first, second)
    if not quiet:
        header = ["name", "state", "max abs error", "rmse", "psnr", "max rel range"]
        rows = [
            [d.name, d.state, *map(report.format_error, (d.max_abs_error, d.rmse, d.psnr, d.relative))] for d in diffs
        ]
        click.echo(report.table(header, rows, _width(False)))
        equal = sum(d.state == "equal" for d in diffs)
        rest = "" if same_rest else "; what the files hold beside tensors differs"
        click.echo(f"{equal} of {len(diffs)} tensors equal, {len(diffs) - equal} not{rest}")
    if not same_rest or any(d.state != "equal" for d in diffs):
        raise click.exceptions.Exit(1)


@main.command()
@click.option("--keep", metavar="DIR", type=click.Path(path_type=Path), help="Keep the files in this folder.")
def demo(keep: Path | None) -> None:
    """Train a small LeNet, compress its checkpoint at several bounds, and show size, error and accuracy."""
    from .demo import run

    for line in run(keep):
        click.echo(line)


def _is_dash(path: Path | None) -> bool:
    return path is not None and str(path) == "-"


def _archive_path(path: Path) -> Path:
    return path.with_name(path.name.removesuffix(".safetensors") + ARCHIVE_SUFFIX)


def _restored_path(path: Path, frames: FrameReader) -> Path:
    suffix = restored_suffix(frames.skeleton)
    name = path.name
    for known in (ARCHIVE_SUFFIX, ".safetensors", ".szd"):
        if name.endswith(known):
            name = name[: -len(known)]
            break
    return path.with_name(name if name.endswith(suffix) else name + suffix)


def _check_target(target: Path, path: Path, force: bool) -> None:
    if target.exists():
        if not _is_dash(path) and path.exists() and target.samefile(path):
            raise click.UsageError(f"{target} is the input itself; give another with -o")
        if not force:
            raise click.UsageError(f"{target} exists; -f overwrites it")


@contextmanager
def _spooled(path: Path) -> Iterator[Path]:
    """The input as a file that can be mapped: itself, or a temporary copy of standard input or a pipe."""
    if not (_is_dash(path) or path.is_fifo()):
        yield path
        return
    with tempfile.TemporaryDirectory(prefix="szdnn-") as folder:
        copy = Path(folder, "stdin")
        with copy.open("wb") as file, sys.stdin.buffer if _is_dash(path) else path.open("rb") as stream:
            shutil.copyfileobj(stream, file)
        yield copy


@contextmanager
def _target(path: Path, to_stdout: bool, force: bool) -> Iterator[Path | None]:
    """For standard output, a file in a temporary folder to write before; else None."""
    if not to_stdout:
        yield None
        return
    if _is_terminal(False) and not force:
        raise click.UsageError("binary data is not written to a terminal; redirect it, or -f")
    with tempfile.TemporaryDirectory(prefix="szdnn-") as folder:
        yield Path(folder, "stdout")


def _copy_to_stdout(path: Path) -> None:
    with path.open("rb") as file:
        shutil.copyfileobj(file, sys.stdout.buffer)
    sys.stdout.buffer.flush()


def _is_terminal(err: bool) -> bool:
    stream = sys.stderr if err else sys.stdout
    return stream.isatty()


def _width(err: bool) -> int | None:
    """The columns of the terminal; None, for no limit, where the output goes elsewhere."""
    return shutil.get_terminal_size().columns if _is_terminal(err) else None


@contextmanager
def _progress(total: int | None, label: str, hidden: bool) -> Iterator[files.Progress | None]:
    """A progress bar with an ETA on a terminal; None elsewhere."""
    if hidden or not _is_terminal(True) or os.environ.get("TERM") == "dumb":
        yield None
        return
    bar: Any
    with click.progressbar(length=total, label=label, file=sys.stderr) as bar:
        yield lambda name, size: bar.update(size)
