from __future__ import annotations

from pathlib import Path

import pytest

from deblur_cli.datasets.protocol import neighbours, ranked_references, sampled_references
from deblur_cli.datasets.readers import Pair
from deblur_cli.errors import DatasetError


def frames(scene: str, count: int) -> list[Pair]:
    return [Pair(Path(f"{scene}/blur/{n:03}.png"), Path(f"{scene}/sharp/{n:03}.png"), scene) for n in range(count)]


PAIRS = [*frames("a", 100), *frames("b", 3)]


def test_references_are_frames_of_the_scene_at_most_30_away_and_never_the_frame_itself() -> None:
    found = neighbours(PAIRS)
    assert len(found) == len(PAIRS)
    for pair, near in found.items():
        number = int(pair.blurry.stem)
        assert {other.scene for other in near} == {pair.scene}
        assert pair not in near
        assert max(abs(int(other.blurry.stem) - number) for other in near) <= 30
    assert len(found[PAIRS[50]]) == 60
    assert [other.blurry.stem for other in found[PAIRS[-1]]] == ["000", "001"]


def test_eight_in_ten_are_sharp_and_the_choice_is_fixed() -> None:
    many = frames("a", 2000)
    chosen = sampled_references(many)
    sharp = sum(path.parent.name == "sharp" for path in chosen.values()) / len(chosen)
    assert sharp == pytest.approx(0.8, abs=0.03)
    assert chosen == sampled_references(many)
    assert chosen != sampled_references(many, seed=1)
    first = many[:31]
    assert all(sampled_references(many)[pair.blurry].stem <= "030" for pair in first[:1])


@pytest.mark.parametrize(("place", "stem"), [(0.0, "000"), (0.5, "002"), (1.0, "003")])
def test_table_5_takes_the_blurriest_the_middle_and_the_sharpest_blurry_frame(place: float, stem: str) -> None:
    pairs = frames("a", 5)
    asked: list[Path] = []

    def sharpness(path: Path) -> float:
        asked.append(path)
        return float(path.stem)

    chosen = ranked_references(pairs, sharpness, place)
    assert chosen[pairs[4].blurry] == Path(f"a/blur/{stem}.png")
    assert chosen[pairs[4].blurry].parent.name == "blur"
    assert sorted(set(asked)) == sorted(asked)


def test_a_scene_of_one_frame_is_named() -> None:
    with pytest.raises(DatasetError, match=r"b/blur/000\.png has no reference"):
        neighbours([*frames("a", 3), *frames("b", 1)])
