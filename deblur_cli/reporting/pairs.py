"""What `pair` did, as a page: the noisy, the blurry and the fused photo of each pair."""

from __future__ import annotations

from deblur_cli.errors import without_name
from deblur_cli.pipelines.jobs import PairResult, PairsResult, Status
from deblur_cli.reporting.page import Card, CardKind, Page, View
from deblur_cli.reporting.restored import KINDS, sentence

LEAST_MOVED = 0.0005
"""A smaller part of the picture is told as nothing: it would read 0.0%."""


def pairs_page(result: PairsResult) -> Page:
    """Returns the page of what became of each pair, and of photos that could not be read; no file is opened."""
    unread = tuple(
        Card(photo.path.name, CardKind.FAILED, sentence(photo.reason)) for photo in result.unpaired if photo.failed
    )
    alone = [photo.path.name for photo in result.unpaired if not photo.failed]
    summary = [("pairs", str(len(result.pairs))), ("network", result.model)]
    if alone:
        summary.append(("in no pair", ", ".join(alone)))
    summary += [("on", f"{result.device}, {result.precision}"), ("time", f"{result.seconds:.1f} s")]
    return Page("Fused pairs", tuple(summary), (*unread, *(_card(pair, result.model) for pair in result.pairs)))


def _card(pair: PairResult, model: str) -> Card:
    names = " + ".join(path.name for path in (*pair.noisy, pair.blurry))
    return Card(names, KINDS[pair.status], _explanation(pair, model), _facts(pair), _views(pair), (), pair.extent_px)


def _views(pair: PairResult) -> tuple[View, ...]:
    if pair.status is Status.FAILED:
        return ()
    noisy = View("noisy", pair.noisy[0], pair.gain)
    blurry = View("blurry", pair.blurry)
    if pair.output is None or pair.status is Status.PLANNED:
        return noisy, blurry
    return noisy, blurry, View("result", pair.output)


def _explanation(pair: PairResult, model: str) -> tuple[str, ...]:
    """Returns what was done with the pair and why, as sentences."""
    if pair.status is Status.FAILED:
        return sentence(without_name(pair.message, pair.blurry))
    said = [f"Detected as a pair from {pair.detected_from}."] if pair.detected_from else []
    if pair.status is Status.DONE:
        merged = (
            f"{pair.merged} of {len(pair.noisy)} short frames, merged," if len(pair.noisy) > 1 else "the short frame"
        )
        blur = "" if pair.extent_px is None else f", which is blurred over {pair.extent_px:.1f} px"
        said.append(f"Fused by {model}: structure from {merged} and light from the long exposure{blur}.")
        if pair.moved_share and pair.moved_share >= LEAST_MOVED:
            said.append(
                f"{pair.moved_share:.1%} of the picture moved between them and comes from the short frame alone."
            )
        if pair.headroom > 1:
            said.append(f"Lights up to {pair.headroom:.2f} times white are recovered from the short frame.")
    return (*said, *sentence(pair.message))


def _facts(pair: PairResult) -> tuple[tuple[str, str], ...]:
    facts = []
    if pair.gain is not None:
        facts.append(("light of the long exposure", f"{sum(pair.gain) / 3:.3g} times the short one's"))
    if pair.extent_px is not None:
        facts.append(("blur", f"{pair.extent_px:.1f} px"))
    if pair.shift_px is not None:
        facts.append(("shift between the two", f"{pair.shift_px:.1f} px"))
    if pair.confidence is not None:
        facts.append(("confidence of the alignment", f"{pair.confidence:.2f}"))
    if pair.scale not in (None, 1.0):
        facts.append(("seen at", f"{pair.scale:g} of its size"))
    if pair.tiles:
        facts.append(("tiles", f"{pair.tiles} of {pair.tile_px} px"))
    seconds = pair.seconds.decode + pair.seconds.restore + pair.seconds.encode
    if seconds:
        facts.append(("time", f"{seconds:.1f} s"))
    if pair.output is not None:
        facts.append(("result", str(pair.output)))
    return tuple(facts)
