"""What `deblur models show` prints of a camera profile."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from deblur_cli.commands.report import answer_json, answer_lines

if TYPE_CHECKING:
    from deblur_cli.catalogue.camera_profile import Camera, CameraProfile

HOLDS = {
    "translate": "a translator of this camera's blur into blur that the deblurring network knows",
    "finetune": "the deblurring network, adapted to this camera",
}


@dataclass(frozen=True)
class ProfileRow:
    """What is told of one camera profile; `scores` are (name, before, after) on the camera's held-back shots."""

    name: str
    method: str
    camera: Camera
    network: str
    made_for: str
    made_for_sha256: str
    helps: bool
    scores: tuple[tuple[str, float, float], ...]
    steps: int
    recipe: str
    size_mb: float
    sha256: str
    path: Path


def show_profile(path: Path, *, as_json: bool) -> None:
    """Prints what a camera profile tells about itself. Raises ProfileError, DamagedWeightsError."""
    from deblur_cli.catalogue.camera_profile import read_profile
    from deblur_cli.catalogue.download import sha256_of

    row = _row(path, read_profile(path), sha256_of(path))
    if as_json:
        answer_json(row)
        return
    answer_lines(
        [
            ("name", row.name),
            ("holds", HOLDS[row.method]),
            ("camera", str(row.camera)),
            ("network", row.network),
            ("made for", f"{row.made_for}, sha256 {row.made_for_sha256}"),
            ("helps", "yes" if row.helps else "no: on the held-back shots no gain was seen"),
            *((name, f"{before:.3g} → {after:.3g}, on held-back shots") for name, before, after in row.scores),
            ("recipe", row.recipe),
            ("steps", str(row.steps)),
            ("weights", f"{row.size_mb:.1f} MB, {row.path}"),
            ("sha256", row.sha256),
        ]
    )


def _row(path: Path, profile: CameraProfile, sha256: str) -> ProfileRow:
    from deblur_cli.catalogue.weight_file import settings_of

    return ProfileRow(
        name=path.name,
        method=profile.method,
        camera=profile.camera,
        network=f"{profile.architecture}, {settings_of(profile.config)}",
        made_for=profile.made_for.name,
        made_for_sha256=profile.made_for.sha256,
        helps=profile.helps,
        scores=profile.scores,
        steps=profile.steps,
        recipe=profile.recipe,
        size_mb=path.stat().st_size / 1e6,
        sha256=sha256,
        path=path,
    )
