"""The commands `twodpass benchmark`, `benchmark-training` and `benchmark-kernels`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Final

import typer

from twodpass_core.choices import BackendName, Peer, Precision, Variant
from twodpass_core.cli.options import Backend, Columns, Device, IntensityField, Topic, one_of

FORMATS: Final[tuple[Precision, ...]] = "fp32", "bf16"

Scan = Annotated[
    Path | None, typer.Argument(help="A scan, or a folder or bag whose first is taken; a simulated one if none.")
]
Precisions = Annotated[
    list[Any] | None,
    typer.Option(
        parser=one_of(Precision),
        metavar="<fp32|bf16|fp16>",
        help="Number format; give several to compare (fp32 and bf16 unless given).",
    ),
]
Width = Annotated[int | None, typer.Option(help="Feature channels of a network with random weights (64 unless given).")]
Scales = Annotated[
    str | None, typer.Option(metavar="S,S,...", help="Output scale of each of its blocks (2,4,8,16 unless given).")
]
Threads = Annotated[int | None, typer.Option(min=1, max=1024, help="CPU threads.")]
Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]


def benchmark(
    scan: Scan = None,
    weights: Annotated[
        Path | None,
        typer.Option("--weights", "-w", help="Weights file (.safetensors), or default; random ones if none."),
    ] = None,
    width: Width = None,
    scales: Scales = None,
    device: Device = "auto",
    precision: Precisions = None,
    backend: Annotated[
        list[Any] | None,
        typer.Option(
            parser=one_of(BackendName),
            metavar="BACKEND",
            help="Sparse convolution: auto, torch, torchsparse, triton; several to compare.",
        ),
    ] = None,
    peer: Annotated[
        Peer,
        typer.Option(
            metavar="PEER",
            help="Also time: unfolded (as in training), spconv (as the authors; auto: where installed), torchsparse, "
            "none.",
        ),
    ] = "auto",
    threads: Threads = None,
    repeats: Annotated[int, typer.Option(min=1, help="Runs of each; the median is shown.")] = 10,
    columns: Columns = None,
    topic: Topic = None,
    intensity_field: IntensityField = None,
    json: Json = False,
) -> None:
    """Time one scan by stage, with peak memory, and tell how far the number formats agree."""
    from rich.console import Console

    from twodpass_core.benchmark.run import run_benchmark
    from twodpass_core.cli.work.benchmark import first_scan, network_shape, print_report, weights_or_random
    from twodpass_core.errors import ConfigError
    from twodpass_core.pretrained import weights_file

    if weights is not None and (width, scales) != (None, None):
        raise ConfigError("--width and --scales are of a network with random weights: leave them out with --weights")
    points = first_scan(scan, columns, topic, intensity_field)
    network = network_shape(width, scales) if weights is None else weights_file(weights)
    with Console(stderr=True).status("preparing") as status, weights_or_random(network) as file:
        report = run_benchmark(
            points,
            file,
            device=device,
            precisions=precision or FORMATS,
            backends=backend or ["auto"],
            peer=peer,
            threads=threads,
            repeats=repeats,
            progress=status.update,
        )
    print_report(report, as_json=json)


def benchmark_training(
    scans: Annotated[
        list[Path] | None, typer.Argument(metavar="SCAN", help="The batch's scans; simulated ones if none.")
    ] = None,
    batch: Annotated[
        int | None, typer.Option(min=1, help="Scans in the batch (as many as given, or 2); given ones are repeated.")
    ] = None,
    precision: Precisions = None,
    variant: Annotated[Variant, typer.Option(help="Of the distillation.")] = "authors",
    width: Width = None,
    scales: Scales = None,
    patch: Annotated[str, typer.Option(metavar="W,H", help="Size of each scan's image.")] = "480,320",
    save_memory: Annotated[
        bool, typer.Option("--save-memory", help="As machine.save_memory: less memory for more time.")
    ] = False,
    device: Device = "auto",
    backend: Backend = "auto",
    threads: Threads = None,
    repeats: Annotated[int, typer.Option(min=1, help="Steps of each; the median is shown.")] = 5,
    json: Json = False,
) -> None:
    """Time a training step (student, image network, distillation, SGD) and tell its peak memory.

    Labels and images are random numbers: they cost what real ones do.
    """
    from rich.console import Console

    from twodpass_core.benchmark.training import TrainingCase, measure_training
    from twodpass_core.cli.edge import integers
    from twodpass_core.cli.work.benchmark import batch_of_scans, network_shape, print_report
    from twodpass_core.errors import ConfigError

    image_width, image_height = integers(patch, "--patch", 2)
    if min(image_width, image_height) < 1:
        raise ConfigError(f"--patch must be a width and a height above 0, not '{patch}'")
    case = TrainingCase(
        batch_of_scans(scans or [], batch),
        network=network_shape(width, scales),
        variant=variant,
        patch=(image_width, image_height),
        device=device,
        threads=threads,
        save_memory=save_memory,
        backend=backend,
    )
    with Console(stderr=True).status("measuring"):
        report = measure_training(case, precision or FORMATS, repeats)
    print_report(report, as_json=json)


def benchmark_kernels(
    scan: Scan = None,
    width: Width = None,
    scales: Scales = None,
    device: Device = "auto",
    precision: Precisions = None,
    backend: Backend = "auto",
    columns: Columns = None,
    topic: Topic = None,
    json: Json = False,
) -> None:
    """Time every level's convolution and its gradients alone, beside what the device can multiply and copy."""
    from rich.console import Console

    from twodpass_core.benchmark.kernels import measure_kernels
    from twodpass_core.cli.work.benchmark import first_scan, network_shape, print_report
    from twodpass_core.cloud import NO_INTENSITY

    points, network = first_scan(scan, columns, topic, NO_INTENSITY), network_shape(width, scales)
    with Console(stderr=True).status("preparing") as status:
        report = measure_kernels(
            points,
            network,
            device=device,
            backend=backend,
            precisions=precision or FORMATS,
            progress=status.update,
        )
    print_report(report, as_json=json)
