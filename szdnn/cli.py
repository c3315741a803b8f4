"""The command line: `szdnn compress | decompress | info | test | diff | compare | demo`.

Exit codes: 0 done (diff: identical), 1 damaged data, a bound not met, or trouble reading and writing (diff: different),
2 wrong usage, 130 interrupted.
"""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import Executor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from . import __version__, files, folder, report
from . import cli_options as opt
from .bases import files_of_base, open_base, opened_for
from .checkpoint import open_source
from .cli_compare import compare
from .cli_files import (
    FilePath,
    archive_path,
    check_target,
    copy_to_stdout,
    folder_path,
    frame_bytes,
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
from .cli_inspect import diff, info, test
from .cli_tune import tune
from .errors import Error
from .integrations.remote import Url, local_target
from .plan import Plan
from .progress import progress_line
from .salvage import SalvageReport, open_damaged
from .salvage import salvage as salvage_file


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


@main.command()
@opt.argument_in
@opt.output
@opt.bounds_or_plan
@click.option(
    "--reference", metavar="BASE", type=FilePath(), help="Keep tensors as differences to those of BASE where it pays."
)
@click.option("--effort", metavar="N", type=click.IntRange(1, 9), default=3, help="1 fast, 3 default, 9 smallest.")
@opt.threads
@opt.force
@click.option("-c", "--stdout", is_flag=True, help="Write to standard output.")
@opt.quiet
@click.option("-v", "--verbose", is_flag=True, help="A line for each tensor.")
@click.option("--rm", is_flag=True, help="Remove the input when all is done.")
@click.option("--no-verify", is_flag=True, help="Do not decode and compare what was written.")
@click.option("--cluster", metavar="ADDRESS", help="Compress on the Dask cluster with this scheduler, tcp://host:port.")
def compress(
    path: Path | Url, output: Path | Url | None, lossless: bool, plan: Path | None, effort: int, threads: int | None,
    force: bool, stdout: bool, quiet: bool, verbose: bool, rm: bool, no_verify: bool, cluster: str | None,
    reference: Path | Url | None, **values: float | None,
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

    With --reference, tensors that BASE has too, of the same name and shape, are kept as differences to its values,
    where that is smaller: the checkpoint before, the model that was fine-tuned. BASE is any file or folder that IN can
    be, or an archive. It is needed again to decompress: the archive holds its name, as seen from its own folder.
    """
    bounds_by_name = opt.one_plan(lossless, plan, values)
    to_stdout = stdout or is_dash(output) or (output is None and is_dash(path))
    if rm and (to_stdout or is_dash(path)):
        raise click.UsageError("--rm needs an input and an output that are files")
    with _executor(cluster) as executor:
        options = files.Options(effort, threads, not no_verify, executor)
        if is_folder(path):
            if to_stdout or rm:
                raise click.UsageError("a folder is compressed into a folder; -c and --rm are for files")
            _compress_folder(path, output, bounds_by_name, options, reference, force, quiet, verbose)
            return
        with spooled(path) as file, open_source(file) as source, target_for(to_stdout, force) as temporary:
            target = temporary or output or archive_path(path)
            check_target(target, path, force or to_stdout)
            final = target if isinstance(target, Path) and not temporary else None
            with (
                progress_line(source.nbytes, f"compress {path.name}", quiet or verbose) as progress,
                opened_for(reference, final) as base,
                local_target(target) as local,
            ):
                saved = files.compress_source(
                    source, local, bounds_by_name, effort=effort, threads=threads, verify=not no_verify,
                    progress=progress, executor=executor, reference=base,
                )  # fmt: skip
            if temporary:
                copy_to_stdout(temporary)
    _report_saved(saved, Path("-") if to_stdout else target, quiet, verbose, to_stdout, reference)
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
    path: Path, output: Path | Url | None, plan: Plan, options: files.Options, reference: Path | Url | None,
    force: bool, quiet: bool, verbose: bool,
) -> None:  # fmt: skip
    target = local_folder(output) or folder_path(path)
    check_target(target, path, force)
    total = folder.nbytes(path, _source_bytes)
    with progress_line(total, f"compress {path.name}", quiet or verbose) as progress:
        base_of = files_of_base(reference) or folder.no_base
        done = folder.compress_folder(path, target, plan, replace(options, progress=progress), base_of=base_of)
    for name, reason in done.copied.items():
        if reason:
            click.echo(f"szdnn: warning: {name} is copied as it is: {reason}", err=True)
    _report_saved(done.total, target, quiet, verbose, False, reference)


def _source_bytes(path: Path) -> int:
    with open_source(path) as source:
        return source.nbytes


def _report_saved(
    saved: files.SaveReport, target: Path | Url, quiet: bool, verbose: bool, err: bool, reference: Path | Url | None
) -> None:
    if reference is not None and not any(tensor.info.reference for tensor in saved.tensors):
        click.echo(f"szdnn: warning: no tensor is smaller as differences to {reference}", err=True)
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
@opt.argument_in
@opt.output
@opt.threads
@opt.force
@opt.quiet
@opt.max_bytes
@opt.reference
@click.option("--salvage", is_flag=True, help="Restore what is intact of a damaged archive; list what is lost.")
@click.option("--fill", type=click.Choice(["zero", "nan"]), default="zero", help="What --salvage puts for lost values.")
def decompress(
    path: Path | Url, output: Path | Url | None, threads: int | None, force: bool, quiet: bool, max_bytes: int | None,
    salvage: bool, fill: Any, reference: Path | Url | None,
) -> None:  # fmt: skip
    """Restore the file or folder that the archive or folder IN was made of.

    model.szd.safetensors becomes model.safetensors, x.npy.szd.safetensors becomes x.npy, the folder x.szd becomes x. A
    bare frame becomes a .npy.

    With --salvage, every intact tensor and every intact block of a damaged one comes back, the rest is filled and
    listed, and the exit code is 1 if anything is lost.

    What an archive of differences was made with is looked for where the archive says, from its own folder on;
    --reference says otherwise.
    """
    to_stdout = is_dash(output) or (output is None and is_dash(path))
    if is_folder(path):
        if to_stdout or salvage:
            raise click.UsageError("a folder is restored into a folder; -o - and --salvage are for files")
        _decompress_folder(path, output, threads, force, quiet, max_bytes, reference)
        return
    opened: Any = open_damaged if salvage else files.open_frames
    with readable(path, whole=salvage) as file, target_for(to_stdout, force) as temporary:
        with opened(file, max_bytes=max_bytes, threads=threads) as frames:
            target = temporary or output or restored_path(path, frames)
            check_target(target, path, force or to_stdout)
            files.check_total(frames, max_bytes)
            with (
                progress_line(frames.raw_bytes, f"decompress {path.name}", quiet) as progress,
                local_target(target) as local,
            ):
                if salvage:
                    saved = salvage_file(
                        Path(file), local, fill=fill, reference=reference, threads=threads, progress=progress
                    )
                else:
                    if reference is not None:
                        frames.set_reference(open_base(reference))
                    loaded = files.decompress_frames(frames, local, max_bytes=max_bytes, progress=progress)
        if temporary:
            copy_to_stdout(temporary)
    shown = "-" if to_stdout else target.name
    if salvage:
        _report_salvaged(saved, shown, quiet, to_stdout)
    else:
        _report_loaded(loaded, shown, quiet, to_stdout)


def _decompress_folder(
    path: Path, output: Path | Url | None, threads: int | None, force: bool, quiet: bool, max_bytes: int | None,
    reference: Path | Url | None,
) -> None:  # fmt: skip
    target = local_folder(output) or restored_folder_path(path)
    check_target(target, path, force)
    total = folder.nbytes(path, frame_bytes)
    with progress_line(total, f"decompress {path.name}", quiet) as progress:
        loaded = folder.decompress_folder(
            path, target, threads=threads, max_bytes=max_bytes, progress=progress, base_of=files_of_base(reference)
        )
    _report_loaded(loaded, target.name, quiet, False)


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
@click.option("--keep", metavar="DIR", type=click.Path(path_type=Path), help="Keep the files in this folder.")
def demo(keep: Path | None) -> None:
    """Train a small LeNet, compress its checkpoint at several bounds, and show size, error and accuracy."""
    from .demo import run

    for line in run(keep):
        click.echo(line)


for command in (info, test, diff, tune, compare):
    main.add_command(command)
