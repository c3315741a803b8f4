"""The commands that look: `szdnn info`, `test` and `diff`."""

from __future__ import annotations

import json
import math
from pathlib import Path

import click

from . import api, diff_errors, files, folder, report
from . import cli_options as opt
from . import diff as diff_files
from .archive import Archive
from .bases import open_base
from .cli_files import FilePath, frame_bytes, is_folder, spooled, width
from .frame_reader import FrameReader
from .integrations.remote import Url
from .progress import progress_line
from .verify import VerifyReport, replaced_in


@click.command()
@opt.argument_in
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
        differences = sum(tensor.info.reference is not None for tensor in tensors)
        if differences:
            click.echo(f"{differences} of them are differences to {report.base_name(frames)}")
        for tensor in tensors:
            for warning in tensor.info.warnings:
                click.echo(f"szdnn: warning: {tensor.name}: {warning}", err=True)


@click.command()
@opt.argument_in
@click.option("--original", metavar="FILE", type=click.Path(path_type=Path), help="Compare with it, value by value.")
@opt.reference
@opt.threads
@opt.quiet
@opt.max_bytes
def test(
    path: Path | Url,
    original: Path | None,
    reference: Path | Url | None,
    threads: int | None,
    quiet: bool,
    max_bytes: int | None,
) -> None:
    """Check every checksum of the archive or frame IN, or of the folder IN, by decoding all of it.

    With --original, the file that IN was made of, every value is checked against its bound too.
    """
    if is_folder(path) and original:
        raise click.UsageError("--original is for a file")
    where = path if isinstance(path, Path) else str(path)
    total = folder.nbytes(path, frame_bytes) if is_folder(path) else frame_bytes(where)
    with progress_line(total, f"test {path.name}", quiet) as progress:
        found = api.verify(
            where, original, reference=reference, max_bytes=max_bytes, threads=threads, progress=progress
        )
    for line in report.error_lines(found.errors):
        click.echo(f"szdnn: {path.name}: {line}", err=True)
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


@click.command()
@click.argument("a", type=FilePath())
@click.argument("b", type=FilePath())
@click.option("--reference", metavar="BASE", type=FilePath(), help="What archives of differences were made with.")
@opt.quiet
@click.option("--histogram", is_flag=True, help="Print how errors are distributed, from -max to max, tensor by tensor.")
@click.option("--plot", metavar="PNG", type=click.Path(path_type=Path), help="Draw these histograms into a PNG file.")
def diff(
    a: Path | Url, b: Path | Url, reference: Path | Url | None, quiet: bool, histogram: bool, plot: Path | None
) -> None:
    """Compare the tensors of two files, compressed or not, in any mix of types.

    Prints for each tensor the largest absolute error, the RMSE, the PSNR in dB over the range of A, the largest
    error over that range, and the SSIM of images (2-D tensors, or with 1 to 4 channels behind). Exits with 0 when all
    tensors are equal bit for bit and, between two files of one type, the rest (numbers, strings, nesting, metadata)
    too; with 1 when anything differs.
    """
    with spooled(a) as x, spooled(b) as y, files.open_tensors(x) as first, files.open_tensors(y) as second:
        for frames in (first, second):
            if reference is not None and isinstance(frames, FrameReader):
                frames.set_reference(open_base(reference))
        diffs = list(diff_files.diff_tensors(first, second))
        same_rest = diff_files.rest_equal(first, second)
        drawn = [d.name for d in diffs if d.state in ("differs", "dtype")] if histogram or plot else []
        shown = diff_errors.histograms(first, second, drawn)
    if plot:
        diff_errors.plot(shown, plot)
    if not quiet:
        header = ["name", "state", "max abs error", "rmse", "psnr", "max rel range"]
        images = any(not math.isnan(d.ssim) for d in diffs)
        header += ["ssim"] * images
        rows = [
            [d.name, d.state, *map(report.format_error, (d.max_abs_error, d.rmse, d.psnr, d.relative))]
            + [report.format_number(d.ssim, 5)] * images
            for d in diffs
        ]
        click.echo(report.table(header, rows, width(False)))
        for one in shown if histogram else ():
            click.echo(f"{one.name}: -{one.largest:.3g} |{one.bars()}| {one.largest:.3g}")
        equal = sum(d.state == "equal" for d in diffs)
        rest = "" if same_rest else "; what the files hold beside tensors differs"
        click.echo(f"{equal} of {len(diffs)} tensors equal, {len(diffs) - equal} not{rest}")
    if not same_rest or any(d.state != "equal" for d in diffs):
        raise click.exceptions.Exit(1)
