"""What `single`, `ref` and `blur2blur` did, as a page."""

from __future__ import annotations

import math

from deblur_cli.errors import without_name
from deblur_cli.pipelines.jobs import Blur2BlurResult, PhotoResult, ReferenceUse, RefResult, SingleResult, Status
from deblur_cli.reporting.page import Card, CardKind, Page, SidePicture, View
from deblur_cli.reporting.strengths import strip_file

KINDS = {
    Status.DONE: CardKind.RESTORED,
    Status.UNCHANGED: CardKind.UNCHANGED,
    Status.SKIPPED: CardKind.SKIPPED,
    Status.PLANNED: CardKind.PLANNED,
    Status.FAILED: CardKind.FAILED,
}

STRIP_PX = 2500
"""Strips of strengths are for looking at pixels, so the page holds them whole."""


def restored_page(result: SingleResult, *, scale_asked: bool = False) -> Page:
    """Returns the page of what became of each photo; no picture is opened. `scale_asked`: the user chose the scale."""
    summary = [("photos", str(len(result.photos))), ("network", result.model)]
    if isinstance(result, RefResult) and result.single_model is not None:
        summary.append(("without a reference", result.single_model))
    if isinstance(result, Blur2BlurResult):
        summary.append(("camera", result.camera))
    summary += [("on", f"{result.device}, {result.precision}"), ("time", f"{result.seconds:.1f} s")]
    return Page("Restored photos", tuple(summary), tuple(_card(photo, result, scale_asked) for photo in result.photos))


def _card(photo: PhotoResult, result: SingleResult, scale_asked: bool) -> Card:
    return Card(
        photo.path.name,
        KINDS[photo.status],
        _explanation(photo, result, scale_asked),
        _facts(photo),
        _views(photo),
        _beside(photo),
        photo.extent_px,
        _finite(photo.change_db),
    )


def _views(photo: PhotoResult) -> tuple[View, ...]:
    before = View("before", photo.path)
    if photo.status is Status.FAILED:
        return ()
    if photo.output is None or photo.status is Status.PLANNED:
        return (before,)
    if photo.translated is not None:
        return before, View("translated", photo.translated), View("after", photo.output)
    return before, View("after", photo.output)


def _beside(photo: PhotoResult) -> tuple[SidePicture, ...]:
    used = [SidePicture(f"reference {use.path.name}", use.path) for use in photo.references if use.used]
    if photo.confidence_map is not None:
        used.append(SidePicture("what was borrowed from where", photo.confidence_map))
    if photo.blur_map is not None and photo.blur_map.is_file():
        used.append(SidePicture("blur map", photo.blur_map))
    if photo.output is not None and strip_file(photo.output).is_file():
        used.append(SidePicture("strengths to choose from", strip_file(photo.output), STRIP_PX))
    return tuple(used)


def _explanation(photo: PhotoResult, result: SingleResult, scale_asked: bool) -> tuple[str, ...]:
    """Returns what was done with the photo and why, as sentences."""
    if photo.status is Status.DONE:
        return (_done(photo, result, scale_asked), *sentence(photo.message))
    if photo.status is Status.UNCHANGED:
        extent = "" if photo.extent_px is None else f": its blur of {photo.extent_px:.1f} px is what sharp photos have"
        return (f"Was sharp already and has kept its pixels{extent}.",)
    return sentence(without_name(photo.message, photo.path))


def _done(photo: PhotoResult, result: SingleResult, scale_asked: bool) -> str:
    by = f"Restored by {_network(photo, result)}"
    if photo.extent_px is not None:
        by += (
            f"; its blur measures {photo.extent_px:.1f} px"
            if scale_asked
            else f", since it is blurred over {photo.extent_px:.1f} px"
        )
    if photo.scale not in (None, 1.0):
        why = "as was asked for" if scale_asked else "since the blur is longer than the network reaches"
        by += f"; seen at {photo.scale:g} of its size, {why}"
    if photo.refused_tiles:
        by += (
            f"; {photo.refused_tiles} of {photo.tiles} tiles are as they were, since what the network made of them "
            "could not be right"
        )
    return f"{by}."


def _network(photo: PhotoResult, result: SingleResult) -> str:
    """Returns the network that restored the photo: `ref` restores by another what no reference helps."""
    if isinstance(result, RefResult) and result.single_model and not any(use.used for use in photo.references):
        return result.single_model
    return result.model


def _facts(photo: PhotoResult) -> tuple[tuple[str, str], ...]:
    facts = [] if photo.extent_px is None else [("blur", f"{photo.extent_px:.1f} px")]
    if photo.scale is not None:
        facts.append(("seen at", f"{photo.scale:g} of its size"))
    change = _finite(photo.change_db)
    if change is not None:
        facts.append(("PSNR to the photo itself", f"{change:.1f} dB"))
    if photo.tiles:
        facts.append(("tiles", f"{photo.tiles} of {photo.tile_px} px"))
    facts += [fact for use in photo.references for fact in _reference_facts(use)]
    seconds = photo.seconds.decode + photo.seconds.restore + photo.seconds.encode
    if seconds:
        facts.append(("time", f"{seconds:.1f} s"))
    if photo.output is not None:
        facts.append(("result", str(photo.output)))
    return tuple(facts)


def _reference_facts(use: ReferenceUse) -> list[tuple[str, str]]:
    name = use.path.name
    facts = [] if use.borrowed_share is None else [(f"borrowed from {name}", f"{use.borrowed_share:.0%}")]
    if use.confidence is not None:
        facts.append((f"confidence of {name}", f"{use.confidence:.2f}"))
    if use.sharpness is not None:
        facts.append((f"sharpness, photo and {name}", f"{use.sharpness[0]:.1f} and {use.sharpness[1]:.1f}"))
    return facts


def sentence(message: str) -> tuple[str, ...]:
    """Returns a phrase as a sentence; nothing where there is nothing to say."""
    if not message:
        return ()
    return (message[0].upper() + message[1:] + ("" if message.endswith((".", "!", "?")) else "."),)


def _finite(decibels: float | None) -> float | None:
    return decibels if decibels is not None and math.isfinite(decibels) else None
