"""Makes the README's pictures of before and after again, from `examples/`: `python docs/make_pictures.py`."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image

ROOT = Path(__file__).parent.parent
CROPS = {"coffee": (190, 40), "cat": (20, 0), "lake": (330, 60)}
"""Upper left corner of the part that is shown of each example, at full size."""
SIZE, GAP = (400, 300), 8


def pair(before: Path, after: Path, corner: tuple[int, int]) -> Image.Image:
    """Returns a part of both photographs side by side, one pixel for one."""
    left, top = corner
    picture = Image.new("RGB", (2 * SIZE[0] + GAP, SIZE[1]), "white")
    for at, path in ((0, before), (SIZE[0] + GAP, after)):
        with Image.open(path) as photo:
            picture.paste(photo.convert("RGB").crop((left, top, left + SIZE[0], top + SIZE[1])), (at, 0))
    return picture


def main() -> None:
    """Restores the examples by the command itself, and writes a picture of each."""
    examples = {name: ROOT / "examples" / f"{name}.jpg" for name in CROPS}
    with tempfile.TemporaryDirectory() as out:
        command = [sys.executable, "-m", "deblur_cli", "single", *map(str, examples.values()), "-o", out]
        subprocess.run(command, cwd=ROOT, check=True)
        for name, corner in CROPS.items():
            picture = pair(examples[name], Path(out) / f"{name}.jpg", corner)
            picture.save(ROOT / "docs" / "pictures" / f"single-{name}.jpg", quality=90, subsampling=0)


if __name__ == "__main__":
    main()
