"""Jobs with some of their fields set, whether of the job itself or of its output."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import TypeVar

from deblur_cli.pipelines.jobs import OutputOptions, SingleJob

JobT = TypeVar("JobT", bound=SingleJob)
OUTPUT_FIELDS = {field.name for field in fields(OutputOptions)}


def with_fields(job: JobT, **values: object) -> JobT:
    """Returns the job with these fields, those of `OutputOptions` set in its output."""
    output = {name: value for name, value in values.items() if name in OUTPUT_FIELDS}
    own = {name: value for name, value in values.items() if name not in OUTPUT_FIELDS}
    return replace(job, output=replace(job.output, **output), **own)  # type: ignore[arg-type]
