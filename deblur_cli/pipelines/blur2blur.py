"""`deblur blur2blur`: photos of one camera in, sharper ones out, by what its own shots taught."""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import partial

from deblur_cli.catalogue.camera_profile import Camera, CameraProfile, find_made_for, load_profile, read_profile
from deblur_cli.catalogue.entries import Entry
from deblur_cli.catalogue.load import load
from deblur_cli.engine.device import Device, choose, fit_to_network
from deblur_cli.engine.scale import LoadedTranslator
from deblur_cli.errors import UsageError
from deblur_cli.imaging.metadata import summarise
from deblur_cli.imaging.photo import Photo
from deblur_cli.networks.contract import SingleModel
from deblur_cli.pipelines.batch import Steps, Waiting, run_photos
from deblur_cli.pipelines.jobs import Blur2BlurJob, Blur2BlurResult, PhotoResult
from deblur_cli.pipelines.outputs import plan_photos
from deblur_cli.pipelines.single import ReadOne, RestoredOne, photo_steps
from deblur_cli.progress import SILENT, Progress


@dataclass(frozen=True)
class _ProfileNetworks:
    """What is to be loaded, and where it runs.

    `entry` is the deblurring network behind a translator, or in the place of a `profile` that is not used, which is
    then None; behind an adapted network there is none.
    """

    profile: CameraProfile | None
    device: Device
    entry: Entry[SingleModel] | None
    entry_device: Device

    @property
    def last(self) -> Device:
        """Where the network runs that gives the result."""
        return self.device if self.entry is None else self.entry_device


def deblur_with_profile(job: Blur2BlurJob, progress: Progress = SILENT) -> Blur2BlurResult:
    """Restores every photo of the job with a camera's profile and returns what became of each, in the order found.

    Photos given are never written to. Free refusals come first, then the photos' headers, then the weights. A photo
    that another camera took is restored all the same, with a warning. Raises ProfileError and DamagedWeightsError for
    the profile, UsageError and its kin, DeviceError, WeightsError.
    """
    started = time.monotonic()
    profile = read_profile(job.camera)
    if job.output.keep_translated and profile.method != "translate":
        raise UsageError(
            f"{job.camera.name} holds an adapted network, which translates nothing. Leave --keep-translated out."
        )
    used = profile.helps or job.anyway
    if job.output.keep_translated and not used:
        raise UsageError(
            f"{job.camera.name} showed no gain when it was made, so nothing is translated. Add --anyway to use it all "
            "the same, or leave --keep-translated out."
        )
    networks = _networks(job, profile, used=used)
    plan = plan_photos(job.inputs, job.output, progress)
    if not profile.helps:
        told = f"{job.camera.name} showed no gain on the shots that were held back when it was made: "
        instead = f"{profile.made_for.name} is used as in `deblur single`. Add --anyway to use the profile."
        progress.note(told + ("compare with `deblur single`." if used else instead))

    def start() -> Steps[Waiting, ReadOne, RestoredOne, PhotoResult]:
        warn = partial(other_camera, camera=profile.camera)
        if networks.profile is None and networks.entry is not None:
            return photo_steps(load(networks.entry, progress), networks.device, job, progress, warn=warn)
        adapted = load_profile(job.camera, profile)
        if networks.entry is None:
            return photo_steps(adapted, networks.device, job, progress, warn=warn)
        translator = LoadedTranslator(adapted, networks.device, keep=job.output.keep_translated)
        model = load(networks.entry, progress)
        return photo_steps(model, networks.entry_device, job, progress, translator=translator, warn=warn)

    photos = run_photos(plan, job.output, start, progress)
    seconds = time.monotonic() - started
    last = networks.last
    name, camera = profile.made_for.name, str(profile.camera)
    return Blur2BlurResult(
        photos, name, str(last.torch_device), last.dtype_name, seconds, method=profile.method, camera=camera, used=used
    )


def _networks(job: Blur2BlurJob, profile: CameraProfile, *, used: bool) -> _ProfileNetworks:
    """Returns which networks run where; nothing is loaded. Raises ProfileError, DeviceError and what `find` raises."""
    chosen = choose(job.device, job.precision)
    if not used:
        entry = find_made_for(profile, job.camera, job.model)
        device = fit_to_network(chosen, entry.name, entry.traits)
        return _ProfileNetworks(None, device, entry, device)
    own = fit_to_network(chosen, job.camera.name, profile.traits)
    if profile.method == "translate":
        entry = find_made_for(profile, job.camera, job.model)
        return _ProfileNetworks(profile, own, entry, fit_to_network(chosen, entry.name, entry.traits))
    if job.model is not None:  # an adapted network stands for itself; one that is named must be what it was made of
        find_made_for(profile, job.camera, job.model)
    return _ProfileNetworks(profile, own, None, own)


def other_camera(photo: Photo, camera: Camera) -> str:
    """Returns a phrase where the photo says that it was taken with another camera or lens; else nothing.

    What photo or profile do not say is no difference.
    """
    said = summarise(photo.metadata.exif)
    own = Camera(said.make, said.model, said.lens)
    if _differ(own.model, camera.model) or (camera.model is None and _differ(own.make, camera.make)):
        taken = Camera(own.make, own.model)
        return f"was taken with another camera ({taken}) than the profile's ({Camera(camera.make, camera.model)})"
    if _differ(own.lens, camera.lens):
        return f"was taken with another lens ({own.lens}) than the profile's ({camera.lens})"
    return ""


def _differ(own: str | None, other: str | None) -> bool:
    return own is not None and other is not None and own.strip().casefold() != other.strip().casefold()
