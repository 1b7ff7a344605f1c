"""A raw file restored as light, and back to a raw file that a developer takes for the original."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from deblur_cli.errors import CannotWriteError
from deblur_cli.files import whole_file
from deblur_cli.imaging.photo import Photo
from deblur_cli.imaging.raw import CameraColour, read_raw_linear
from deblur_cli.imaging.raw_layout import lens_corrections
from deblur_cli.imaging.write import write_dng
from deblur_cli.imaging.xmp import upright
from deblur_cli.pipelines.pair_raw import as_light, encoded


def read_as_light(path: Path, max_megapixels: float) -> tuple[Photo, CameraColour]:
    """Returns the raw file in camera RGB under a curve that networks know, and what that RGB means.

    Errors are `read_raw`'s.
    """
    light = read_raw_linear(path, max_megapixels=max_megapixels)
    lost = lens_corrections(path)
    notes = (f"its {', '.join(lost)} are not applied and have no place in the result",) if lost else ()
    return replace(encoded(light.photo), notes=(*light.photo.notes, *notes)), light.colour


def write_as_dng(photo: Photo, colour: CameraColour, target: Path, *, overwrite: bool = False) -> tuple[str, ...]:
    """Returns sentences about what was lost, after the photo lies at `target` as a linear DNG, its sidecar beside it.

    Raises as `write_photo`.
    """
    notes = write_dng(as_light(photo, colour), target, overwrite=overwrite)
    return (*notes, *_copy_sidecar(photo.path, target, overwrite=overwrite))


def _copy_sidecar(source: Path, target: Path, *, overwrite: bool) -> tuple[str, ...]:
    """Copies a raw file's XMP sidecar, made upright as the result is: NAME.xmp or NAME.SUFFIX.xmp, by the developer."""
    for sidecar, copy in (
        (source.with_suffix(".xmp"), target.with_suffix(".xmp")),
        (source.with_name(f"{source.name}.xmp"), target.with_name(f"{target.name}.xmp")),
    ):
        if not sidecar.is_file():
            continue
        try:
            content = upright(sidecar.read_bytes()) or b""
            with whole_file(copy, overwrite=overwrite) as temporary:
                temporary.write_bytes(content)
        except FileExistsError:
            return (f"{copy.name} already exists and is left as it is",)
        except OSError as error:
            raise CannotWriteError(copy, f"cannot be written: {error.strerror}. Give another --out.") from error
        return (f"its sidecar {sidecar.name} is copied; crop and local edits in it are for the picture as it was",)
    return ()
