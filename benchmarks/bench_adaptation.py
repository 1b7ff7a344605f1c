"""What a camera profile gives on three simulated cameras: PSNR and SSIM on scenes that training never saw.

    python benchmarks/bench_adaptation.py PHOTOS --camera night|action|phone --work FOLDER [--minutes 30]
        [--cases kernels bundled finetune finetune-true finetune-half translate translate-known translate-public
        ceiling] [--model NAME]

`simulated_cameras.py` says what the cameras do. The photographs that `deblur-single` held back are the paired test
set; the others are split into scenes that are shot blurry, sharp, and blurry but held back (unpaired, disjoint).
Shots, states and results stay in FOLDER: a run that was interrupted goes on, and a case that is done is not repeated.
`kernels` compares what a library holds with the true kernels, by normalised correlation. `finetune-true` is given the
true kernels. `ceiling` fine-tunes on the true pairs of the blurry scenes for the same time. `--known FOLDER` gives the
pairs of `translate-known`; without it they are made by the virtual shutter. The verdict on each profile is printed
beside the PSNR that it could not see.
"""

from __future__ import annotations

import argparse
import json
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from simulated_cameras import CAMERAS, Bytes, Camera, Motion, shoot, shoot_sharp

from deblur_cli.adaptation.blur_library import BELIEVED, BlurLibrary, ShotKernel, kernels_of, load_library, save_library
from deblur_cli.adaptation.frames import Shots
from deblur_cli.adaptation.run import BLUR, HELD_BLUR, adapt
from deblur_cli.adaptation.settings import LAPTOP, Adapted, AdaptSettings, FinetuneSettings, TranslateSettings
from deblur_cli.catalogue.find import find
from deblur_cli.catalogue.load import load
from deblur_cli.catalogue.weight_file import save_model
from deblur_cli.convert import stack_bytes
from deblur_cli.datasets.draw import generator_for, seed_for, share_of
from deblur_cli.datasets.readers import Layout
from deblur_cli.deconvolution.kernel import agreement, centred
from deblur_cli.engine.device import choose
from deblur_cli.engine.restore import restore
from deblur_cli.measure.fidelity import psnr, ssim
from deblur_cli.networks.contract import SingleModel
from deblur_cli.networks.registry import architecture
from deblur_cli.progress import SILENT, SilentProgress
from deblur_cli.shutter.expose import make_pairs
from deblur_cli.shutter.noise import finish
from deblur_cli.shutter.settings import ShutterSettings
from deblur_cli.training.config import DataConfig, LossConfig, NetworkConfig, OptimiserConfig, RunConfig, TrainConfig
from deblur_cli.training.job import TrainJob, train
from deblur_cli.training.loop import StopRequest
from deblur_cli.training.start import adopt

LONG_SIDE_PX = 768
TEST_SHARE = 0.1
"""`training.data.hold_back` keeps these names from the training of the bundled network."""
HELD_BACK = 14
TESTED = 28
HELD_SHARP = 12
COMPARED = 12
"""Shots whose kernels are compared with the true ones."""
BLURRY_SHARE = 0.6
CEILING_CROP_PX = 192
CASES = (
    *("bundled", "finetune", "kernels", "finetune-true", "finetune-half"),
    *("translate", "translate-known", "translate-public", "translate-half", "ceiling"),
)
PUBLIC = replace(
    LAPTOP, adversarial="hinge", critic_scales="all", instance_norm=True, feature_norm=False, curriculum=False
)
DEVICE = choose("auto", "auto")


@dataclass(frozen=True)
class Result:
    """One row of the table; PSNR in dB, means over the test photos. `worse`: than the input, by more than 0.1 dB."""

    case: str
    psnr: float
    ssim: float
    worst_gain: float
    worse: int
    photos: int
    minutes: float = 0.0
    steps: int = 0
    helps: bool | None = None
    note: str = ""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", type=Path)
    parser.add_argument("--camera", choices=sorted(CAMERAS), required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES[:3]))
    parser.add_argument("--model", default="deblur-single")
    parser.add_argument("--known", type=Path)
    parser.add_argument("--shots", type=int, help="blurry and sharp shots together; all without it")
    arguments = parser.parse_args()
    folder = arguments.work / arguments.camera
    prepare(arguments.photos, CAMERAS[arguments.camera], folder)
    model = load(find(arguments.model, SingleModel))
    results = folder / f"results-{arguments.minutes:g}.jsonl"
    done = read_results(results)
    if "kernels" in arguments.cases:
        compare_kernels(CAMERAS[arguments.camera], folder)
    for case in ["input", *(case for case in arguments.cases if case != "kernels")]:
        if case not in done:
            done[case] = run_case(case, folder, model, arguments)
            with results.open("a", encoding="utf-8") as file:
                file.write(json.dumps(asdict(done[case])) + "\n")
        print_table(arguments.camera, list(done.values()))


def prepare(photos: Path, camera: Camera, folder: Path) -> None:
    """Shoots every scene once, into FOLDER/{blurry,sharp,held_back,test/blur,test/sharp} and the truth of `blurry`."""
    if (folder / "ready").exists():
        return
    scenes = sorted(photos.glob("*.jpg"), key=lambda path: share_of(path.stem))
    test = [path for path in scenes if share_of(path.stem) < TEST_SHARE]
    rest = scenes[len(test) :]
    held, rest = rest[:HELD_BACK], rest[HELD_BACK:]
    blurry = round(BLURRY_SHARE * len(rest))
    true: dict[str, list[ShotKernel]] = {part: [] for part in ("test", "held_back", "pairs")}
    for path in scenes:
        rng = np.random.default_rng(seed_for(camera.name, path.stem))
        photo = shrunken(path)
        if path in test or path in held or path in rest[:blurry]:
            shot, truth, motion = shoot(camera, photo, rng)
            part = "test" if path in test else "held_back" if path in held else "pairs"
            write(shot, folder / part / "blur" / f"{path.stem}.png")
            write(truth, folder / part / "sharp" / f"{path.stem}.png")
            true[part].append(ShotKernel(true_kernel(motion, shot), 1.0, len(true[part])))
        else:
            write(shoot_sharp(camera, photo, rng), folder / "sharp" / f"{path.stem}.png")
    for part, kernels in true.items():
        save_library(BlurLibrary(tuple(kernels), len(kernels), len(kernels)), folder / f"true-{part}.safetensors")
    (folder / "ready").touch()


def true_kernel(motion: Motion, shot: Bytes) -> torch.Tensor:
    """Returns the true kernel of a shot's middle, in as small a square as holds it."""
    height, width = shot.shape[:2]
    kernel = centred(torch.from_numpy(motion.kernel(height, width, (height / 2, width / 2))))
    lit = torch.nonzero(kernel > 1e-4) - len(kernel) // 2
    reach = int(lit.abs().max()) + 1
    middle = len(kernel) // 2
    inside = slice(middle - reach, middle + reach + 1)
    return (kernel[inside, inside] / kernel[inside, inside].sum()).contiguous()


def compare_kernels(camera: Camera, folder: Path) -> None:
    """Prints how like the true kernels those are that shots tell, believed or not."""
    truth = load_library(folder / "true-pairs.safetensors")
    paths = sorted((folder / "pairs" / "blur").glob("*.png"))
    order = sorted(range(len(paths)), key=lambda n: share_of(paths[n].stem))
    print(f"{camera.name}: correlation with the true kernel, extent found and true, agreement of the two ways")
    rows = []
    for number, place in enumerate(order[:COMPARED]):
        (found,) = kernels_of(read(paths[place]), number, 1)
        true = truth.kernels[number]
        rows.append((agreement(found.kernel, true.kernel), found.extent_px, true.extent_px, found.agreement))
        print("  {:.2f}  {:>5.1f} {:>5.1f}  {:.2f}".format(*rows[-1]), flush=True)
    believed = [row for row in rows if row[3] > BELIEVED]
    for name, chosen in (("all", rows), ("believed", believed)):
        if chosen:
            means = np.mean(chosen, axis=0)
            print(
                f"{name}: {len(chosen)} shots, correlation {means[0]:.2f}, extent {means[1]:.1f} of {means[2]:.1f} px"
            )


def run_case(case: str, folder: Path, model: SingleModel, arguments: argparse.Namespace) -> Result:
    """Trains what the case needs, and scores it on the test photos."""
    if case == "input":
        return score(case, folder, ())
    if case == "bundled":
        return score(case, folder, (model,))
    if case == "ceiling":
        return score_ceiling(folder, model, arguments)
    share = 0.5 if case.endswith("-half") else 1.0
    shots = read_shots(folder, share, arguments.shots)
    settings = settings_of(case, folder, arguments)
    print(f"{case}: {len(shots.blurry)} blurry, {len(shots.sharp)} sharp, {len(shots.held_back)} held back", flush=True)
    out = folder / f"{case}-{arguments.minutes:g}"
    out.mkdir(exist_ok=True)
    if case == "finetune-true":
        for name, part in ((BLUR, "pairs"), (HELD_BLUR, "held_back")):
            shutil.copyfile(folder / f"true-{part}.safetensors", out / name)
    adapted, verdict = adapt(shots, model, settings, folder=out, wish=StopRequest(), device=DEVICE, progress=Aloud())
    assert verdict is not None
    Image.fromarray(verdict.strip).save(out / "strip.png")
    save_model(
        out / "weights.safetensors", adapted.architecture, adapted.config, adapted.weights, traits=adapted.traits
    )
    made = built(adapted)
    row = score(case, folder, (made, model) if adapted.method == "translate" else (made,))
    told = f"gain {verdict.gain_db:+.3f} ± {verdict.error_db:.3f} dB, blurred again {verdict.reblurred_db:+.2f} dB"
    note = f"{adapted.recipe} Verdict: {told}; {adapted.scores}"
    return replace(row, minutes=adapted.seconds / 60, steps=adapted.steps, helps=adapted.helps, note=note)


class Aloud(SilentProgress):
    """Prints what is noted."""

    def note(self, message: str) -> None:
        """Prints a message."""
        print(message, flush=True)


def settings_of(case: str, folder: Path, arguments: argparse.Namespace) -> AdaptSettings:
    """Returns the settings of a case."""
    if case.startswith("finetune"):
        usual = FinetuneSettings()
        finetune = replace(usual, longer=(1.0, 1.0)) if case == "finetune-true" else usual
        return AdaptSettings("finetune", minutes=arguments.minutes, finetune=finetune, judge_every=100)
    known = None
    if case == "translate-known":
        known = arguments.known or make_known(arguments.photos, folder.parent / "known")
    translate: TranslateSettings = PUBLIC if case == "translate-public" else LAPTOP
    return AdaptSettings("translate", minutes=arguments.minutes, translate=translate, known_blur=known, judge_every=100)


def make_known(photos: Path, folder: Path) -> Path:
    """Returns a folder of pairs by the virtual shutter, of the photographs that are no test scenes."""
    if not (folder / "ready").exists():
        for path in sorted(photos.glob("*.jpg")):
            if share_of(path.stem) < TEST_SHARE:
                continue
            picture = stack_bytes([shrunken(path)]).float() / 255
            generator = generator_for("cpu", "known", path.stem)
            made = make_pairs(picture, ShutterSettings(), generator)
            for part, tensor in (("blur", finish(made.blurry, ShutterSettings(), generator)), ("sharp", made.sharp)):
                write(as_bytes(tensor), folder / part / f"{path.stem}.png")
        (folder / "ready").touch()
    return folder


def score_ceiling(folder: Path, model: SingleModel, arguments: argparse.Namespace) -> Result:
    """Fine-tunes on the true pairs of the blurry scenes, as `finetune` does on its own, and scores that."""
    out = folder / f"ceiling-{arguments.minutes:g}"
    finetune, multiple = FinetuneSettings(), model.traits.size_multiple
    patch_px = -(-CEILING_CROP_PX // multiple) * multiple
    config = TrainConfig(
        network=NetworkConfig(),
        data=DataConfig(patch_px=patch_px, batch=finetune.batch, slack_px=16, ring_pairs=384, reuse=4, workers=0),
        optimiser=OptimiserConfig(
            name="adamw",
            rate=finetune.rate,
            final_rate=finetune.final_rate,
            betas=(0.9, 0.95),
            ema_decay=finetune.average,
        ),
        loss=LossConfig(charbonnier=0.0, frequency=0.0, psnr=1.0),
        run=RunConfig(minutes=arguments.minutes, validate_every=100),
    )
    resume = (out / "last.pt").exists()
    job = TrainJob(
        config, (folder / "pairs",), out, Layout.PAIRS, resume=resume, init=None if resume else arguments.model
    )
    if resume:
        job = replace(job, config=adopt(config, arguments.model, SILENT))
    result = train(job)
    made = load(find(str(result.model), SingleModel))
    row = score("ceiling", folder, (made,))
    return replace(row, minutes=result.elapsed_s / 60, steps=result.step)


def score(case: str, folder: Path, stages: Sequence[SingleModel]) -> Result:
    """Returns the row of networks that the test photos go through one after the other."""
    before, after, alike = [], [], []
    for path in sorted((folder / "test" / "blur").glob("*.png"))[:TESTED]:
        shot, truth = read(path), read(folder / "test" / "sharp" / path.name)
        pixels = shot.astype(np.float32) / 255
        for stage in stages:
            pixels = restore(stage, DEVICE, [pixels], tile_px=512).pixels
        result = np.rint(pixels * 255).astype(np.uint8)
        before.append(psnr(shot, truth))
        after.append(psnr(result, truth))
        alike.append(ssim(result, truth))
    gains = np.array(after) - np.array(before)
    worse = int((gains < -0.1).sum())
    return Result(case, float(np.mean(after)), float(np.mean(alike)), float(gains.min()), worse, len(after))


def built(adapted: Adapted) -> SingleModel:
    """Returns the adapted weights as a network."""
    network = architecture(adapted.architecture).build(adapted.config)
    network.load_state_dict(dict(adapted.weights))
    return SingleModel(adapted.method, network.requires_grad_(False).eval(), adapted.traits)


def read_shots(folder: Path, share: float, most: int | None) -> Shots:
    """Returns the camera's shots; a share of them where asked for."""

    def part(name: str, count_share: float) -> tuple[Bytes, ...]:
        paths = sorted((folder / name).glob("*.png"))
        count = round(share * len(paths))
        if most is not None:
            count = min(count, round(most * count_share))
        return tuple(read(path) for path in paths[:count])

    held_back = tuple(read(path) for path in sorted((folder / "held_back" / "blur").glob("*.png")))
    sharp = part("sharp", 1 - BLURRY_SHARE)
    held_sharp = min(HELD_SHARP, len(sharp) // 4)
    return Shots(part("pairs/blur", BLURRY_SHARE), sharp[held_sharp:], held_back, sharp[:held_sharp])


def read_results(path: Path) -> dict[str, Result]:
    """Returns the rows that are there already."""
    if not path.exists():
        return {}
    rows = [Result(**json.loads(line)) for line in path.read_text(encoding="utf-8").splitlines()]
    return {row.case: row for row in rows}


def print_table(camera: str, rows: Sequence[Result]) -> None:
    """Prints the table, gains over `bundled` beside it."""
    base = next((row.psnr for row in rows if row.case == "bundled"), float("nan"))
    print(f"\n| {camera} | PSNR | SSIM | over bundled | worst against input | worse | steps | minutes | helps |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- | --- |")
    for row in rows:
        helps = "" if row.helps is None else "yes" if row.helps else "no"
        minutes = f"{row.minutes:.0f}" if row.minutes else ""
        print(
            f"| {row.case} | {row.psnr:.2f} | {row.ssim:.4f} | {row.psnr - base:+.2f} | {row.worst_gain:+.2f} | "
            f"{row.worse} of {row.photos} | {row.steps or ''} | {minutes} | {helps} |"
        )
    for row in rows:
        if row.note:
            print(f"{row.case}: {row.note}")
    print(flush=True)


def shrunken(path: Path) -> Bytes:
    """Returns a photograph with a long side of at most 768 px."""
    picture = Image.open(path).convert("RGB")
    picture.thumbnail((LONG_SIDE_PX, LONG_SIDE_PX), Image.Resampling.LANCZOS)
    return np.asarray(picture)


def read(path: Path) -> Bytes:
    return np.asarray(Image.open(path).convert("RGB"))


def write(picture: Bytes, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(picture).save(path)


def as_bytes(picture: torch.Tensor) -> Bytes:
    return np.rint(picture[0].clamp(0, 1).permute(1, 2, 0).numpy() * 255).astype(np.uint8)


if __name__ == "__main__":
    main()
