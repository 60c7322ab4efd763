"""`pull`: a model's file, or the files in it, in a folder here. Run again, it does only what is missing."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from modelreg import options
from modelreg.errors import LocalError
from modelreg.output import Output
from modelreg.session import resumable, session
from modelreg.targets import find_by_name
from modelreg.transfer_display import transfer_display

if TYPE_CHECKING:
    from modelreg.models import Manifest, Model
    from modelreg.registry import Registry

FORCE_HINT = "Remove it, use --force to replace it, or choose another DIR."
FRESH, OLD = ".unpacking", ".old"  # what a pull works on, beside the folder it replaces


def pull(
    target: Annotated[
        str, typer.Argument(metavar="TARGET", help="NAME (its latest version), NAME:VERSION or NAME@ALIAS.")
    ],
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="The folder it goes to.")] = Path(),
    is_id: options.IsId = False,
    precision: options.OfPrecision = None,
    extract: Annotated[
        bool, typer.Option("--extract", help="Unpack it into DIR/NAME/VERSION instead of keeping one file.")
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace what is there if it is something else.")] = False,
    url: options.Url = None,
    as_json: options.AsJson = False,
    quiet: options.Quiet = False,
) -> None:
    """Fetch a model, and print the path it was written to.

    What is there already is compared first, and left alone if it is the very same: run it as often as you like, such
    as on a timer. Nothing appears under its name before it is whole. Interrupted, the same command goes on.
    """
    with session(url, as_json, quiet) as (registry, output), resumable():
        model = registry.get(target) if is_id else find_by_name(registry, target, precision)
        if extract:
            path = _pull_files(registry, model, folder, force, output)
        else:
            path = _pull_file(registry, model, folder, force, output)
        output.line(str(path), {"path": str(path), "model": model.model_dump(mode="json")})


def _pull_file(registry: "Registry", model: "Model", folder: Path, force: bool, output: Output) -> Path:
    display = transfer_display(output)
    try:
        # With the slash it is a folder even before it exists.
        path = registry.download(model.id, f"{folder}{os.sep}", progress=display, overwrite=force)
    except LocalError as exc:
        if not display.begun and not force and _is_there(model, folder):
            raise LocalError(str(exc), hint=FORCE_HINT) from exc
        raise
    if not display.begun:
        output.say("up to date")
    return path


def _is_there(model: "Model", folder: Path) -> bool:
    from modelreg.download import file_name

    name = file_name(model)
    return name is not None and (folder / name).exists()


def _pull_files(registry: "Registry", model: "Model", folder: Path, force: bool, output: Output) -> Path:
    """DIR/NAME/VERSION with the files of the artifact."""
    from modelreg.unpack import holds, path_component

    parent = folder / path_component(model.name)
    place = parent / path_component(model.version)
    packed = parent / f".{path_component(model.id)}.pulled"
    with _alone(parent):
        manifest = registry.manifest(model.id)
        if holds(place, manifest):
            _tidy(packed)
            output.say("up to date")
            return place
        if not force and (place.exists() or place.is_symlink()):
            raise LocalError(f"{place} is there already and is something else.", hint=FORCE_HINT)
        display = transfer_display(output, label=f"{model.name} {model.version}")
        registry.download(model.id, packed, progress=display, overwrite=True)
        _replace(packed, place, manifest)
    return place


def _replace(packed: Path, place: Path, manifest: "Manifest") -> None:
    """The artifact's files at the place.

    Interrupted, or without room, the download stays for the next run; one that cannot be used is removed.
    """
    from modelreg.errors import Corrupt, InvalidArchive
    from modelreg.unpack import member_path, put_in_place, unpack, write_new

    fresh = packed.with_suffix(FRESH)
    try:
        shutil.rmtree(fresh, ignore_errors=True)  # of a run that was killed; the lock tells that none is alive
        if "zip" in manifest.media_type:
            unpack(packed, fresh)
        else:
            fresh.mkdir()
            with packed.open("rb") as source:
                write_new(fresh / member_path(manifest.file_name)[-1], source)
        put_in_place(fresh, place, packed.with_suffix(OLD))
    except (Corrupt, InvalidArchive):
        _tidy(packed)
        raise
    _tidy(packed)


def _tidy(packed: Path) -> None:
    """Nothing is left beside the folder of the version, also of runs that were killed."""
    packed.unlink(missing_ok=True)
    for suffix in (FRESH, OLD):
        shutil.rmtree(packed.with_suffix(suffix), ignore_errors=True)


@contextmanager
def _alone(parent: Path) -> Iterator[None]:
    """One pull at a time works in a folder: a slow one may still run when a timer starts the next."""
    from modelreg.locks import open_alone

    lock = parent / ".modelreg-lock"
    try:
        parent.mkdir(parents=True, exist_ok=True)
        descriptor = open_alone(lock, 0o666, f"Another process is pulling into {parent} right now.")
    except OSError as exc:
        raise LocalError(f"{parent} cannot be written: {exc.strerror or exc}.") from exc
    try:
        yield
    finally:
        lock.unlink(missing_ok=True)
        os.close(descriptor)
