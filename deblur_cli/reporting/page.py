"""What a report page shows, as frozen records: photos with their pictures, what was done with each, and why."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path


class CardKind(StrEnum):
    """What became of a photo, in the page's order: what failed is shown first."""

    FAILED = "failed"
    RESTORED = "restored"
    UNCHANGED = "unchanged"
    SKIPPED = "done before"
    PLANNED = "planned"


@dataclass(frozen=True)
class View:
    """One picture of a photo's scene, of the photo's own framing: it can be laid under the slider and the zoom.

    `gain` is what its light (R, G, B) is multiplied by to be shown as bright as the others.
    """

    label: str
    path: Path
    gain: tuple[float, float, float] | None = None


@dataclass(frozen=True)
class SidePicture:
    """A picture that is shown small beside the photo: a reference, a map of the blur or of what was borrowed.

    `long_side_px` is what the page holds of it, shown when it is enlarged.
    """

    label: str
    path: Path
    long_side_px: int = 800


@dataclass(frozen=True)
class Card:
    """One photo on the page.

    `explanation` are sentences on what was done and why, `facts` names and values. The slider's left side is the first
    of `views`, its right side the last. `blur_px` and `change_db` are what the page can be sorted by, None where they
    are not known.
    """

    name: str
    kind: CardKind
    explanation: tuple[str, ...] = ()
    facts: tuple[tuple[str, str], ...] = ()
    views: tuple[View, ...] = ()
    beside: tuple[SidePicture, ...] = ()
    blur_px: float | None = None
    change_db: float | None = None


@dataclass(frozen=True)
class Page:
    """A whole page: `summary` are names and values about the run, `cards` its photos in the order found."""

    title: str
    summary: tuple[tuple[str, str], ...]
    cards: tuple[Card, ...]

    @property
    def failures_first(self) -> tuple[Card, ...]:
        """The photos, those that failed first, else in the order found."""
        return tuple(sorted(self.cards, key=lambda card: card.kind is not CardKind.FAILED))

    def count(self, kind: CardKind) -> int:
        """Returns how many photos there are of a kind."""
        return sum(card.kind is kind for card in self.cards)


@dataclass(frozen=True)
class SheetShot:
    """One photo on a contact sheet.

    `rank` 1 is the sharpest of all. Photos of one `burst`, numbered from 1 in the order taken, show one scene; `pick`
    is the sharpest of several. `noise` is a standard deviation of the range [0, 1].
    """

    path: Path
    rank: int
    score: float
    noise: float
    burst: int
    pick: bool


@dataclass(frozen=True)
class ContactSheet:
    """All scored photos, in the order taken, and those that could not be scored, by name with a sentence."""

    title: str
    summary: tuple[tuple[str, str], ...]
    shots: tuple[SheetShot, ...]
    failed: tuple[tuple[str, str], ...]

    @property
    def best_score(self) -> float:
        """The highest score, at least 1, against which others are drawn."""
        return max((shot.score for shot in self.shots), default=1.0)
