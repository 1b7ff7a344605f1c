from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from deblur_cli.errors import MismatchedPairError, UnreadablePhotoError
from deblur_cli.pipelines import pairing
from deblur_cli.pipelines.pairing import Pairing, find_pairs, pair_named
from tests.conftest import textured
from tests.support.raw_pairs import Exposure, scene_light, write_frame, write_jpeg

SHORT, LONG = Exposure(1 / 40), Exposure(1 / 4)
SIZE = (48, 64)


def photo(path: Path, exposure: Exposure, size: tuple[int, int] = SIZE) -> Path:
    return write_jpeg(path, textured(size, 1) / 255, exposure)


def at(exposure: Exposure, second: int, fraction: int = 0) -> Exposure:
    return replace(exposure, taken_at=f"2024:05:01 22:00:{second:02d}", fraction=f"{fraction:02d}")


def names(found: Pairing) -> list[tuple[list[str], str]]:
    return [([shot.path.stem for shot in pair.noisy], pair.blurry.path.stem) for pair in found.pairs]


class TestNamed:
    def test_one_photo_twice(self, tmp_path: Path) -> None:
        path = photo(tmp_path / "a.jpg", SHORT)
        with pytest.raises(MismatchedPairError, match="given twice"):
            pair_named(path, tmp_path / "." / "a.jpg")

    def test_a_missing_one(self, tmp_path: Path) -> None:
        with pytest.raises(UnreadablePhotoError, match=r"b\.jpg: does not exist"):
            pair_named(photo(tmp_path / "a.jpg", SHORT), tmp_path / "b.jpg")

    def test_different_cameras(self, tmp_path: Path) -> None:
        paths = photo(tmp_path / "a.jpg", SHORT), photo(tmp_path / "b.jpg", replace(LONG, camera="Two"))
        with pytest.raises(MismatchedPairError, match="different cameras, Testcam One Mark II and Testcam Two"):
            pair_named(*paths)

    def test_different_sizes(self, tmp_path: Path) -> None:
        paths = photo(tmp_path / "a.jpg", SHORT), photo(tmp_path / "b.jpg", LONG, (48, 80))
        with pytest.raises(MismatchedPairError, match="sizes, 64 × 48 and 80 × 48 pixels"):
            pair_named(*paths)

    def test_different_orientations(self, tmp_path: Path) -> None:
        light = scene_light(SIZE)
        short = write_frame(tmp_path / "a.dng", light, SHORT, of=LONG)
        long = write_frame(tmp_path / "b.dng", light, replace(LONG, orientation=3), of=LONG)
        with pytest.raises(MismatchedPairError, match="held differently"):
            pair_named(short, long)

    def test_raw_with_jpeg(self, tmp_path: Path) -> None:
        raw = write_frame(tmp_path / "a.dng", scene_light(SIZE), SHORT, of=LONG)
        with pytest.raises(MismatchedPairError, match=r"a\.dng is camera raw and b\.jpg is not"):
            pair_named(raw, photo(tmp_path / "b.jpg", LONG))

    def test_equal_exposures(self, tmp_path: Path) -> None:
        paths = photo(tmp_path / "a.jpg", SHORT), photo(tmp_path / "b.jpg", replace(SHORT, seconds=1 / 50))
        with pytest.raises(MismatchedPairError, match=r"equally long \(1/40 s and 1/50 s\)"):
            pair_named(*paths)

    def test_the_wrong_order_names_the_right_one(self, tmp_path: Path) -> None:
        long, short = photo(tmp_path / "a.jpg", replace(LONG, seconds=2)), photo(tmp_path / "b.jpg", SHORT)
        with pytest.raises(MismatchedPairError, match=f"2 s, longer than .*deblur pair {short} {long}"):
            pair_named(long, short)

    def test_a_pair(self, tmp_path: Path) -> None:
        pair, notes = pair_named(photo(tmp_path / "a.jpg", SHORT), photo(tmp_path / "b.jpg", LONG))
        assert notes == ()
        assert pair.ratio(pair.noisy[0]) == pytest.approx(10)
        assert pair.detected_from == "exposure times"


class TestFolder:
    def test_a_burst_and_its_long_frame(self, tmp_path: Path) -> None:
        shots = [at(SHORT, 0), at(SHORT, 0, 20), at(SHORT, 0, 40), at(LONG, 0, 60)]
        found = find_pairs([photo(tmp_path / f"{i}.jpg", shot) for i, shot in enumerate(shots)])
        assert names(found) == [(["0", "1", "2"], "3")]
        assert found.unpaired == ()

    def test_pairs_that_follow_each_other(self, tmp_path: Path) -> None:
        shots = [at(shot, i) for i, shot in enumerate((SHORT, LONG, SHORT, LONG))]
        found = find_pairs([photo(tmp_path / f"{i}.jpg", shot) for i, shot in enumerate(shots)])
        assert names(found) == [(["0"], "1"), (["2"], "3")]

    def test_the_long_frame_may_come_first(self, tmp_path: Path) -> None:
        shots = [at(LONG, 0), at(SHORT, 1), at(LONG, 20), at(SHORT, 21)]
        found = find_pairs([photo(tmp_path / f"{i}.jpg", shot) for i, shot in enumerate(shots)])
        assert names(found) == [(["1"], "0"), (["3"], "2")]

    def test_a_lone_frame_and_equal_ones_are_unpaired(self, tmp_path: Path) -> None:
        shots = [at(SHORT, 0), at(LONG, 1), at(LONG, 30), at(SHORT, 50), at(SHORT, 51)]
        found = find_pairs([photo(tmp_path / f"{i}.jpg", shot) for i, shot in enumerate(shots)])
        assert names(found) == [(["0"], "1")]
        assert [(left.path.stem, left.reason) for left in found.unpaired] == [
            ("2", "no other frame was taken within 2 s"),
            ("3", "all frames with it were exposed equally long (1/40 s)"),
            ("4", "all frames with it were exposed equally long (1/40 s)"),
        ]

    def reasons(self, folder: Path, **shots: Exposure) -> dict[str, str]:
        found = find_pairs([photo(folder / f"{name}.jpg", shot) for name, shot in shots.items()])
        return {left.path.stem: left.reason for left in found.unpaired}

    def test_exposures_a_third_of_a_stop_apart_are_called_so(self, tmp_path: Path) -> None:
        shots = (at(replace(SHORT, seconds=1 / time), 0, i) for i, time in enumerate((100, 80, 60)))
        reasons = self.reasons(tmp_path, **dict(zip("abc", shots, strict=True)))
        assert set(reasons.values()) == {
            "the frames with it were exposed too much alike (1/100 s to 1/60 s) to be a pair"
        }

    def test_a_frame_that_another_camera_took_meanwhile_is_named(self, tmp_path: Path) -> None:
        reasons = self.reasons(tmp_path, a=at(SHORT, 0), b=at(replace(LONG, camera="Two"), 1))
        assert (
            reasons["a"]
            == "b.jpg was taken within 2 s of it, but with another camera (Testcam Two, not Testcam One Mark II)"
        )

    def test_a_frame_in_another_folder_is_named(self, tmp_path: Path) -> None:
        (tmp_path / "x").mkdir()
        paths = [photo(tmp_path / "a.jpg", at(SHORT, 0)), photo(tmp_path / "x" / "b.jpg", at(LONG, 1))]
        assert find_pairs(paths).unpaired[0].reason == "b.jpg was taken within 2 s of it, but lies in another folder"

    def test_a_long_frame_says_why_no_short_one_goes_with_it(self, tmp_path: Path) -> None:
        reasons = self.reasons(tmp_path, a=at(SHORT, 0, 10), b=at(LONG, 0, 30), c=at(LONG, 1, 50))
        assert reasons == {"c": "the short frames of its burst are nearer to another long one"}
        (tmp_path / "x").mkdir()
        paths = [photo(tmp_path / "x/a.jpg", at(SHORT, 0), (48, 80)), photo(tmp_path / "x/b.jpg", at(LONG, 1))]
        assert find_pairs(paths).unpaired[1].reason.startswith("a.jpg does not fit it: they are of different sizes")

    @pytest.mark.parametrize("again", [False, True])
    def test_a_copy_is_no_further_frame(self, again: bool, tmp_path: Path) -> None:
        paths = [photo(tmp_path / f"{i}.jpg", at(shot, 0, 10 * i)) for i, shot in enumerate((SHORT, SHORT, LONG))]
        copy = tmp_path / "1 (copy).jpg"
        if again:
            write_jpeg(copy, textured(SIZE, 1) / 255, at(SHORT, 0, 10), quality=60)
        else:
            copy.write_bytes(paths[1].read_bytes())
        found = find_pairs([copy, *paths])
        assert names(found) == [(["0", "1"], "2")]
        assert [(left.path, left.reason) for left in found.unpaired] == [(copy, "it is a copy of 1.jpg")]

    def test_the_clock_may_change_its_zone_within_a_burst(self, tmp_path: Path) -> None:
        short = replace(SHORT, taken_at="2024:03:31 01:59:59", zone="+01:00")
        long = replace(LONG, taken_at="2024:03:31 03:00:00", zone="+02:00")
        found = find_pairs([photo(tmp_path / "a.jpg", short), photo(tmp_path / "b.jpg", long)])
        assert names(found) == [(["a"], "b")]

    def test_one_clock_without_a_zone_is_compared_as_it_stands(self, tmp_path: Path) -> None:
        paths = [
            photo(tmp_path / "a.jpg", at(SHORT, 0)),
            photo(tmp_path / "b.jpg", replace(at(LONG, 1), zone="+02:00")),
        ]
        assert names(find_pairs(paths)) == [(["a"], "b")]

    def test_two_cameras_at_one_time(self, tmp_path: Path) -> None:
        other = replace(LONG, camera="Two")
        shots = [at(SHORT, 0), at(other, 0, 30), at(LONG, 1), at(replace(SHORT, camera="Two"), 1, 30)]
        found = find_pairs([photo(tmp_path / f"{i}.jpg", shot) for i, shot in enumerate(shots)])
        assert names(found) == [(["3"], "1"), (["0"], "2")]

    def test_a_frame_of_another_size_is_unpaired(self, tmp_path: Path) -> None:
        paths = [photo(tmp_path / "a.jpg", at(SHORT, 0), (48, 80)), photo(tmp_path / "b.jpg", at(SHORT, 0, 30))]
        found = find_pairs([*paths, photo(tmp_path / "c.jpg", at(LONG, 1))])
        assert names(found) == [(["b"], "c")]
        assert "c.jpg does not fit it: they are of different sizes" in found.unpaired[0].reason

    def test_the_raw_file_counts_where_both_are_there(self, tmp_path: Path) -> None:
        light = scene_light(SIZE)
        paths = []
        for name, shot in (("a", at(SHORT, 0)), ("b", at(LONG, 1))):
            paths += [
                write_frame(tmp_path / f"{name}.dng", light, shot, of=LONG),
                photo(tmp_path / f"{name}.jpg", shot),
            ]
        found = find_pairs(paths)
        assert [pair.blurry.path.name for pair in found.pairs] == ["b.dng"]
        assert [left.path.name for left in found.unpaired] == ["a.jpg", "b.jpg"]

    def test_an_unreadable_file_is_named_and_the_others_go_on(self, tmp_path: Path) -> None:
        (tmp_path / "0.jpg").write_bytes(b"no photo")
        paths = [photo(tmp_path / "1.jpg", at(SHORT, 0)), photo(tmp_path / "2.jpg", at(LONG, 1))]
        found = find_pairs([tmp_path / "0.jpg", *paths])
        assert names(found) == [(["1"], "2")]
        assert found.unpaired[0].failed
        assert not found.unpaired[0].reason.startswith("0.jpg")

    def test_nothing_is_decoded_where_the_files_tell(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(pairing, "measure_frame", lambda *a, **k: pytest.fail("a photo was decoded"))
        find_pairs([photo(tmp_path / "1.jpg", at(SHORT, 0)), photo(tmp_path / "2.jpg", at(LONG, 1))])


class TestWithoutExif:
    @pytest.fixture
    def folder(self, tmp_path: Path) -> list[Path]:
        """Two scenes, each a short and a long exposure that say nothing, and a lone third."""
        rng = np.random.default_rng(0)
        paths = []
        for seed in (3, 4):
            light = scene_light((256, 320), seed) * 0.5
            noisy = np.clip(light / 6 + rng.normal(0, 0.004, light.shape), 0, 1) ** (1 / 2.2)
            paths.append(write_jpeg(tmp_path / f"{seed}_a.jpg", noisy))
            blurred = np.mean([np.roll(light, shift, 1) for shift in range(12)], axis=0)
            paths.append(write_jpeg(tmp_path / f"{seed}_b.jpg", np.clip(blurred, 0, 1) ** (1 / 2.2)))
        paths.append(write_jpeg(tmp_path / "5.jpg", np.clip(scene_light((256, 320), 9), 0, 1)))
        return paths

    def test_told_apart_by_noise_and_sharpness(self, folder: list[Path]) -> None:
        found = find_pairs(folder)
        assert names(found) == [(["3_a"], "3_b"), (["4_a"], "4_b")]
        assert {pair.detected_from for pair in found.pairs} == {"noise and sharpness"}
        assert found.pairs[0].ratio(found.pairs[0].noisy[0]) is None
        assert [left.path.name for left in found.unpaired] == ["5.jpg"]

    def test_named_in_the_wrong_order(self, folder: list[Path]) -> None:
        with pytest.raises(MismatchedPairError, match="is noisier and sharper than"):
            pair_named(folder[1], folder[0])

    def test_named_in_the_right_order(self, folder: list[Path]) -> None:
        pair, notes = pair_named(folder[0], folder[1])
        assert (pair.detected_from, notes) == ("the order given", ())

    def test_two_alike_are_taken_as_named_with_a_note(self, folder: list[Path], tmp_path: Path) -> None:
        copy = tmp_path / "copy.jpg"
        copy.write_bytes(folder[0].read_bytes() + b"\0")  # not byte for byte, else it counts as a copy
        _, notes = pair_named(folder[0], copy)
        assert "look alike" in notes[0]
        found = find_pairs([folder[0], copy])
        assert found.pairs == ()
        assert "not plainly noisier" in found.unpaired[1].reason or "plainly noisier" in found.unpaired[0].reason


def test_pairs_of_the_benchmark(shared: Path, tmp_path: Path) -> None:
    shake = shared / "bench" / "shake"
    paths = []
    for name in ("s00", "s01", "s02", "s03"):
        for folder in ("noisy", "pair_blur"):
            paths.append(tmp_path / f"{name}_{folder}.jpg")
            paths[-1].write_bytes((shake / folder / f"{name}.jpg").read_bytes())
    found = find_pairs(paths)
    assert names(found) == [([f"s0{i}_noisy"], f"s0{i}_pair_blur") for i in range(4)]
    for path in paths:
        data = path.read_bytes()
        path.write_bytes(data[:2] + data[4 + int.from_bytes(data[4:6], "big") :] if data[2:4] == b"\xff\xe1" else data)
    assert names(find_pairs(paths)) == names(found), "without their EXIF they look as they are"
