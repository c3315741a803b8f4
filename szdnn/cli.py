"""The command line: `szdnn compress | decompress | info | test | diff | compare | demo`.

Exit codes: 0 done (diff: identical), 1 damaged data, a bound not met, or trouble reading and writing (diff: different),
2 wrong usage, 130 interrupted.
"""

from __future__ import annotations

import json
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import click

from . import __version__, api, bounds, files, folder, report
from . import diff as diff_files
from .archive import Archive, FrameReader
from .bounds import Bound
from .checkpoint import open_source
from .cli_compare import compare
from .cli_files import (
    FilePath,
    archive_path,
    check_target,
    copy_to_stdout,
    folder_path,
    is_dash,
    is_folder,
    local_folder,
    readable,
    restored_folder_path,
    restored_path,
    spooled,
    target_for,
    width,
)
from .cli_tune import tune
from .errors import ArgumentError, BoundError, Error
from .integrations.remote import Url, local_target
from .plan import Plan
from .progress import progress_line
from .salvage import SalvageReport, open_damaged
from .salvage import salvage as salvage_file
from .verify import VerifyReport, replaced_in

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
    command = click.option(
        "--plan", metavar="FILE", type=click.Path(path_type=Path), help="Bounds by tensor name, as JSON (szdnn.Plan)."
    )(command)
    command = click.option("--lossless", is_flag=True, help="Every bit comes back.")(command)
    for name, (_, metavar, text) in reversed(_BOUNDS.items()):
        flag = "--" + name.replace("_", "-")
        command = click.option(flag, name, type=float, metavar=metavar, help=text)(command)
    return command


def _one_plan(lossless: bool, plan: Path | None, values: dict[str, float | None]) -> Plan:
    """The only bound or plan of the options. Raises UsageError for none, several, and values that no bound has."""
    given = {name: value for name, value in values.items() if value is not None}
    if len(given) + lossless + (plan is not None) != 1:
        flags = " ".join("--" + name.replace("_", "-") for name in _BOUNDS)
        raise click.UsageError(f"give exactly one bound of {flags} --lossless, or a --plan")
    try:
        if plan is not None:
            return Plan.from_json(plan.read_bytes())
        if lossless:
            return Plan(bounds.Lossless())
        name, value = given.popitem()
        return Plan(_BOUNDS[name][0](value))
    except (BoundError, ArgumentError) as error:
        raise click.UsageError(f"{plan}: {error}" if plan else str(error)) from None


_in = click.argument("path", metavar="IN", type=FilePath())
_out = click.option("-o", "--output", metavar="OUT", type=FilePath(), help='The file or URL to write, or "-".')
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
@click.option("--cluster", metavar="ADDRESS", help="Compress on the Dask cluster with this scheduler, tcp://host:port.")
def compress(
    path: Path | Url, output: Path | Url | None, lossless: bool, plan: Path | None, effort: int, threads: int | None,
    force: bool, stdout: bool, quiet: bool, verbose: bool, rm: bool, no_verify: bool, cluster: str | None,
    **values: float | None,
) -> None:  # fmt: skip
    """Compress IN within a bound or a plan.

    IN is a .safetensors, .pt, .pth, .bin, .npy or .npz file, - for standard input, a folder, or the *.index.json of a
    sharded checkpoint. Files may be at URLs that fsspec knows, such as s3://bucket/model.safetensors.

    model.safetensors becomes model.szd.safetensors, any other x.suffix becomes x.suffix.szd.safetensors: valid
    .safetensors files whose tensors are the frames. A folder x becomes the folder x.szd, in which all files keep their
    names: checkpoints as archives, indexes rewritten, others copied.

    In checkpoints, tensors under 1024 values, 1-D tensors under 65,536 values, batch-norm statistics and all but
    floating-point numbers are kept exactly, and optimizer second moments within --pw-rel 0.01, unless a plan names them
    or says override; the arrays of .npy and .npz all get the bound given.
    """
    bounds_by_name = _one_plan(lossless, plan, values)
    to_stdout = stdout or is_dash(output) or (output is None and is_dash(path))
    if rm and (to_stdout or is_dash(path)):
        raise click.UsageError("--rm needs an input and an output that are files")
    with _executor(cluster) as executor:
        options = files.Options(effort, threads, not no_verify, executor)
        if is_folder(path):
            if to_stdout or rm:
                raise click.UsageError("a folder is compressed into a folder; -c and --rm are for files")
            _compress_folder(path, output, bounds_by_name, options, force, quiet, verbose)
            return
        with spooled(path) as file, open_source(file) as source, target_for(to_stdout, force) as temporary:
            target = temporary or output or archive_path(path)
            check_target(target, path, force or to_stdout)
            with (
                progress_line(source.nbytes, f"compress {path.name}", quiet or verbose) as progress,
                local_target(target) as local,
            ):
                saved = files.compress_source(
                    source, local, bounds_by_name, effort=effort, threads=threads, verify=not no_verify,
                    progress=progress, executor=executor,
                )  # fmt: skip
            if temporary:
                copy_to_stdout(temporary)
    _report_saved(saved, Path("-") if to_stdout else target, quiet, verbose, to_stdout)
    if rm:
        path.unlink()


@contextmanager
def _executor(cluster: str | None) -> Iterator[Executor | None]:
    """The executor of a Dask cluster; None, for this process, without one."""
    if cluster is None:
        yield None
        return
    from .integrations import dask

    with dask.cluster(cluster) as executor:
        yield executor


def _compress_folder(
    path: Path, output: Path | Url | None, plan: Plan, options: files.Options, force: bool, quiet: bool, verbose: bool
) -> None:
    target = local_folder(output) or folder_path(path)
    check_target(target, path, force)
    total = folder.nbytes(path, _source_bytes)
    with progress_line(total, f"compress {path.name}", quiet or verbose) as progress:
        done = folder.compress_folder(path, target, plan, replace(options, progress=progress))
    for name, reason in done.copied.items():
        if reason:
            click.echo(f"szdnn: warning: {name} is copied as it is: {reason}", err=True)
    _report_saved(done.total, target, quiet, verbose, False)


def _source_bytes(path: Path) -> int:
    with open_source(path) as source:
        return source.nbytes


def _report_saved(saved: files.SaveReport, target: Path | Url, quiet: bool, verbose: bool, err: bool) -> None:
    for tensor in saved.tensors:
        for warning in tensor.info.warnings:
            click.echo(f"szdnn: warning: {tensor.name}: {warning}", err=True)
    for rule in saved.unused_rules:
        click.echo(f"szdnn: warning: no tensor fits the plan's rule {rule!r}", err=True)
    if verbose:
        click.echo(report.tensor_table(saved.tensors, width(err)), err=err)
    if not quiet:
        click.echo(f"{target.name}: {report.total(saved)}", err=err)


@main.command()
@_in
@_out
@_threads
@_force
@_quiet
@click.option("--max-bytes", metavar="N", type=click.IntRange(0), help="Refuse tensors of more bytes than that.")
@click.option("--salvage", is_flag=True, help="Restore what is intact of a damaged archive; list what is lost.")
@click.option("--fill", type=click.Choice(["zero", "nan"]), default="zero", help="What --salvage puts for lost values.")
def decompress(
    path: Path | Url, output: Path | Url | None, threads: int | None, force: bool, quiet: bool, max_bytes: int | None,
    salvage: bool, fill: Any,
) -> None:  # fmt: skip
    """Restore the file or folder that the archive or folder IN was made of.

    model.szd.safetensors becomes model.safetensors, x.npy.szd.safetensors becomes x.npy, the folder x.szd becomes x. A
    bare frame becomes a .npy.

    With --salvage, every intact tensor and every intact block of a damaged one comes back, the rest is filled and
    listed, and the exit code is 1 if anything is lost.
    """
    to_stdout = is_dash(output) or (output is None and is_dash(path))
    if is_folder(path):
        if to_stdout or salvage:
            raise click.UsageError("a folder is restored into a folder; -o - and --salvage are for files")
        _decompress_folder(path, output, threads, force, quiet, max_bytes)
        return
    opened: Any = open_damaged if salvage else files.open_frames
    with readable(path, whole=salvage) as file, target_for(to_stdout, force) as temporary:
        with opened(file, threads=threads) as frames:
            target = temporary or output or restored_path(path, frames)
            check_target(target, path, force or to_stdout)
            files.check_total(frames, max_bytes)
            with (
                progress_line(frames.raw_bytes, f"decompress {path.name}", quiet) as progress,
                local_target(target) as local,
            ):
                if salvage:
                    saved = salvage_file(Path(file), local, fill=fill, threads=threads, progress=progress)
                else:
                    loaded = files.decompress_frames(frames, local, max_bytes=max_bytes, progress=progress)
        if temporary:
            copy_to_stdout(temporary)
    shown = "-" if to_stdout else target.name
    if salvage:
        _report_salvaged(saved, shown, quiet, to_stdout)
    else:
        _report_loaded(loaded, shown, quiet, to_stdout)


def _decompress_folder(
    path: Path, output: Path | Url | None, threads: int | None, force: bool, quiet: bool, max_bytes: int | None
) -> None:
    target = local_folder(output) or restored_folder_path(path)
    check_target(target, path, force)
    total = folder.nbytes(path, _frame_bytes)
    with progress_line(total, f"decompress {path.name}", quiet) as progress:
        loaded = folder.decompress_folder(path, target, threads=threads, max_bytes=max_bytes, progress=progress)
    _report_loaded(loaded, target.name, quiet, False)


def _frame_bytes(path: Path | str) -> int:
    with files.open_frames(path) as frames:
        return frames.raw_bytes


def _report_loaded(loaded: files.LoadReport, target: str, quiet: bool, err: bool) -> None:
    if not quiet:
        rate = loaded.raw_bytes / 1e6 / max(loaded.seconds, 1e-9)
        tensors = f"{loaded.tensors} tensor{'s' * (loaded.tensors != 1)}, {report.format_bytes(loaded.raw_bytes)}"
        click.echo(f"{target}: {tensors}, {rate:.0f} MB/s", err=err)


def _report_salvaged(saved: SalvageReport, target: str, quiet: bool, err: bool) -> None:
    for note in saved.notes:
        click.echo(f"szdnn: {note}", err=True)
    for name, loss in saved.damaged.items():
        click.echo(f"szdnn: {report.lost(name, loss)}", err=True)
    if not quiet:
        click.echo(f"{target}: {len(saved.intact)} tensors intact, {len(saved.damaged)} damaged", err=err)
    if not saved.ok:
        raise click.exceptions.Exit(1)


@main.command()
@_in
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
def info(path: Path | Url, as_json: bool) -> None:
    """Print what the archive or frame IN, or each archive of the folder IN, holds, from its headers."""
    if not is_folder(path):
        _info(path if isinstance(path, Path) else str(path), as_json)
        return
    archives = folder.archives_in(path)
    if as_json:
        told = {}
        for archive in archives:
            with files.open_frames(archive) as frames:
                told[archive.name] = report.as_json(frames, _saved(frames))
        click.echo(json.dumps(told, indent=2, allow_nan=False))
        return
    for archive in archives:
        click.echo(f"{archive.name}:")
        _info(archive, False)


def _saved(frames: FrameReader) -> files.SaveReport:
    tensors = tuple(files.TensorReport(name, frames.info(name), None) for name in frames)
    return files.SaveReport(tensors, frames.size, 0.0)


def _info(path: Path | str, as_json: bool) -> None:
    with files.open_frames(path) as frames:
        saved = _saved(frames)
        tensors = saved.tensors
        if as_json:
            click.echo(json.dumps(report.as_json(frames, saved), indent=2, allow_nan=False))
            return
        click.echo(report.info_table(tensors, width(False)))
        count = f"{len(tensors)} tensor{'s' * (len(tensors) != 1)}"
        lossy = f"; lossy generation {frames.generations}" if isinstance(frames, Archive) and frames.generations else ""
        replaced = _replaced(replaced_in(frames))
        click.echo(f"{count} of a {frames.skeleton.get('suffix')} file: {report.sizes(saved)}{lossy}{replaced}")
        for tensor in tensors:
            for warning in tensor.info.warnings:
                click.echo(f"szdnn: warning: {tensor.name}: {warning}", err=True)


@main.command()
@_in
@click.option("--original", metavar="FILE", type=click.Path(path_type=Path), help="Compare with it, value by value.")
@_threads
@_quiet
def test(path: Path | Url, original: Path | None, threads: int | None, quiet: bool) -> None:
    """Check every checksum of the archive or frame IN, or of the folder IN, by decoding all of it.

    With --original, the file that IN was made of, every value is checked against its bound too.
    """
    if is_folder(path) and original:
        raise click.UsageError("--original is for a file")
    where = path if isinstance(path, Path) else str(path)
    total = folder.nbytes(path, _frame_bytes) if is_folder(path) else _frame_bytes(where)
    with progress_line(total, f"test {path.name}", quiet) as progress:
        found = api.verify(where, original, threads=threads, progress=progress)
    for error in found.errors.values():
        click.echo(f"szdnn: {path.name}: {error}", err=True)
    if found.errors:
        raise click.ClickException(_damage(found))
    if not quiet:
        count = f"{len(found.tensors)} tensor{'s' * (len(found.tensors) != 1)}"
        fraction = found.largest_fraction
        worst = "" if fraction is None else f", largest error {report.format_number(fraction, 4)} of the bound"
        click.echo(f"{path.name}: {count}, no damage{worst}{_replaced(found.replaced)}")


def _replaced(reasons: dict[str, str]) -> str:
    """What to say of tensors that are not the original's."""
    if not reasons:
        return ""
    why = ", ".join(sorted(set(reasons.values())))
    return f"; {len(reasons)} tensor{'s' * (len(reasons) != 1)} not the original's ({why})"


def _damage(found: VerifyReport) -> str:
    tensors = sum(name != "" for name in found.errors)
    if not tensors:
        return "no tensor is damaged, but the archive is"
    return f"{tensors} of {tensors + len(found.tensors)} tensors are damaged"


@main.command()
@click.argument("a", type=FilePath())
@click.argument("b", type=FilePath())
@_quiet
def diff(a: Path | Url, b: Path | Url, quiet: bool) -> None:
    """Compare the tensors of two files, compressed or not, in any mix of types.

    Prints for each tensor the largest absolute error, the RMSE, the PSNR in dB over the range of A, and the largest
    error over that range. Exits with 0 when all tensors are equal bit for bit and, between two files of one type, the
    rest (numbers, strings, nesting, metadata) too; with 1 when anything differs.
    """
    with spooled(a) as x, spooled(b) as y, files.open_tensors(x) as first, files.open_tensors(y) as second:
        diffs = list(diff_files.diff_tensors(first, second))
        same_rest = diff_files.rest_equal(first, second)
    if not quiet:
        header = ["name", "state", "max abs error", "rmse", "psnr", "max rel range"]
        rows = [
            [d.name, d.state, *map(report.format_error, (d.max_abs_error, d.rmse, d.psnr, d.relative))] for d in diffs
        ]
        click.echo(report.table(header, rows, width(False)))
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


main.add_command(tune)
main.add_command(compare)
