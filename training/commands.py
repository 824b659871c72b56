"""The subcommands of the offline application. Everything heavy is imported inside them."""

from pathlib import Path
from typing import Annotated

import typer

from training.bundles import shipping
from training.options import Alpha, Bundle, Device, Guarantee, TrustedKeysFile

EXIT_DO_NOT_SHIP = 3
EXIT_PROMISE_BROKEN = 3


def register(app: typer.Typer) -> None:
    """Add the subcommands to the `elbound` command."""
    app.command()(train)
    app.command()(evaluate)
    app.command()(calibrate)
    app.command()(score)
    app.command()(explain)
    app.command()(inspect)
    app.command("signing-key")(shipping.signing_key)
    app.command()(shipping.sign)
    app.command()(shipping.pack)
    app.command()(demo)


def train(
    data: Annotated[
        Path | None,
        typer.Argument(help="A table, a zip of images, or a folder of either: normal items only."),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="The bundle's folder, which must not exist.")] = None,
    config: Annotated[Path | None, typer.Option(help="Settings in TOML; flags win over them.")] = None,
    name: Annotated[str | None, typer.Option(help="The model's name; that of the folder by default.")] = None,
    alpha: Annotated[
        float | None,
        typer.Option(
            help="False-alarm rate to promise; by default the smallest from 0.01 up that the data can decide."
        ),
    ] = None,
    guarantee: Annotated[
        float | None, typer.Option(help="Confidence that the rate stays below alpha, as 0.9; on average by default.")
    ] = None,
    schema: Annotated[Path | None, typer.Option(help="A schema in JSON instead of an inferred one.")] = None,
    exclude: Annotated[list[str] | None, typer.Option(help="A column to leave out; may be repeated.")] = None,
    include: Annotated[
        list[str] | None,
        typer.Option(help="A column to score although it looks like an id, a time, a label or a constant; repeatable."),
    ] = None,
    id: Annotated[str | None, typer.Option(help="The column that names the rows.")] = None,  # noqa: A002
    split_by: Annotated[
        str | None, typer.Option(help="Column (or pattern of the file name) whose groups stay together.")
    ] = None,
    group_by: Annotated[
        str | None, typer.Option(help="Column (or pattern of the file name) whose groups get thresholds of their own.")
    ] = None,
    image_size: Annotated[str | None, typer.Option(help="HEIGHTxWIDTH in pixels, as in 32x48.")] = None,
    resize: Annotated[
        str | None, typer.Option(help="fit (with borders), crop or stretch; by rule from the shapes.")
    ] = None,
    max_bad_share: Annotated[float | None, typer.Option(help="Share of images that may be unreadable.")] = None,
    anyway: Annotated[
        bool, typer.Option("--anyway", help="Train although something about the data is in doubt.")
    ] = False,
    profile: Annotated[
        str | None, typer.Option(help="default, or fast: for tables one small net and its ELBO.")
    ] = None,
    mode: Annotated[str | None, typer.Option(help="For images: pixels, features, or auto by size and colour.")] = None,
    steps: Annotated[int | None, typer.Option(help="Training steps; by rule from the data.")] = None,
    batch_items: Annotated[int | None, typer.Option(help="Items a step; by rule from the data.")] = None,
    learning_rate: Annotated[float | None, typer.Option(help="Peak learning rate; by rule.")] = None,
    latent: Annotated[int | None, typer.Option(help="Latent dimensions; by rule.")] = None,
    width: Annotated[int | None, typer.Option(help="Units of a hidden layer (tables); by rule.")] = None,
    prior: Annotated[
        str | None,
        typer.Option(
            help="Prior of the latent: standard_normal, aggregate, mixture, vampprior or flow; aggregate for tables, "
            "standard_normal for images."
        ),
    ] = None,
    likelihood: Annotated[
        str | None,
        typer.Option(
            help="Of numbers: gaussian, laplace or student_t; of pixels also pixel_gaussian, bernoulli or logistic; "
            "gaussian by default."
        ),
    ] = None,
    categories: Annotated[
        int | None, typer.Option(help="Size of a categorical latent beside the Gaussian one; 0, none, by default.")
    ] = None,
    checkpoint_steps: Annotated[int | None, typer.Option(help="Steps between checkpoints; by rule.")] = None,
    seed: Annotated[int | None, typer.Option(help="Makes a CPU run repeatable bit for bit; 0 by default.")] = None,
    device: Annotated[str | None, typer.Option(help="auto, cpu or cuda.")] = None,
    export: Annotated[
        str | None, typer.Option(help="onnx: add a graph that onnxruntime serves faster on a CPU. Tables only.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace a bundle that exists.")] = False,
    resume: Annotated[
        bool, typer.Option("--resume", help="Continue from the checkpoint of a run that was cut.")
    ] = False,
    anomalous: Annotated[
        Path | None, typer.Option(help="Known anomalies: baselines are compared on them, nothing is trained.")
    ] = None,
    report_budget: Annotated[
        float | None, typer.Option(help="Seconds for baselines and report; the training time again by default.")
    ] = None,
    no_report: Annotated[bool, typer.Option("--no-report", help="Neither report nor verdict.")] = False,
    strict: Annotated[
        bool,
        typer.Option(
            "--strict", help="Exit status 3 where the verdict is `do not ship` or `undecided`; the bundle is written."
        ),
    ] = False,
) -> None:
    """Train on normal data, calibrate, write a bundle with a report, and say whether to ship it."""
    from training.config import TrainConfig
    from training.report.verdict import DoNotShip
    from training.train.pipeline import train as run

    flags: dict[str, dict[str, object]] = {
        "data": {
            "path": data,
            "schema_file": schema,
            "exclude": tuple(exclude or ()),
            "include": tuple(include or ()),
            "id": id,
            "split_by": split_by,
            "group_by": group_by,
            "image_size": _size(image_size),
            "resize": resize,
            "max_bad_share": max_bad_share,
            "anyway": anyway or None,
        },
        "model": {
            "profile": profile,
            "mode": mode,
            "latent": latent,
            "width": width,
            "prior": prior,
            "likelihood": likelihood,
            "categories": categories,
        },
        "fit": {
            "steps": steps,
            "batch_items": batch_items,
            "learning_rate": learning_rate,
            "checkpoint_steps": checkpoint_steps,
            "seed": seed,
            "device": device,
        },
        "calibration": {"alpha": alpha, "guarantee": guarantee},
        "bundle": {"out": out, "name": name, "export": export, "force": force or None, "resume": resume or None},
        "report": {
            "anomalous": anomalous,
            "budget_seconds": report_budget,
            "enabled": False if no_report else None,
            "strict": strict or None,
        },
    }
    try:
        run(TrainConfig.load(config, flags))
    except DoNotShip as error:
        typer.echo(error.message, err=True)
        raise typer.Exit(EXIT_DO_NOT_SHIP) from error


def evaluate(
    bundle: Bundle,
    normal: Annotated[Path, typer.Option(help="Normal items that training never saw.")],
    anomalous: Annotated[Path | None, typer.Option(help="Known anomalies, for AUROC.")] = None,
    alpha: Alpha = None,
    device: Device = "auto",
    trusted_keys: TrustedKeysFile = None,
) -> None:
    """Measure the realised false-alarm rate and, with anomalies, AUROC and average precision.

    The exit status is 3 where the verdict alarms on more normal items than the promise allows, or can never alarm.
    """
    from elbound.bundle.signature import Trust
    from elbound.scorer import Scorer
    from training.bundles.evaluate import PromiseBroken, show_evaluation

    scorer = Scorer.from_bundle(bundle, device=device, trust=Trust.of(trusted_keys))
    try:
        show_evaluation(scorer, normal, anomalous, alpha=alpha)
    except PromiseBroken as error:
        typer.echo(error.message, err=True)
        raise typer.Exit(EXIT_PROMISE_BROKEN) from error


def calibrate(
    bundle: Bundle,
    normal: Annotated[Path, typer.Option(help="Fresh normal items that training never saw, at least 20.")],
    out: Annotated[Path | None, typer.Option(help="The new bundle's folder; beside the old one by default.")] = None,
    alpha: Alpha = None,
    guarantee: Guarantee = None,
    trust: Annotated[
        bool, typer.Option("--trust", help="Take data that look like the training file, or nothing like it.")
    ] = False,
    device: Device = "auto",
) -> None:
    """Write a new version of a bundle with fresh calibration; the model and the old version stay as they are."""
    from training.bundles.calibrate import calibrate as run

    run(bundle, normal, out, alpha=alpha, guarantee=guarantee, trust=trust, device=device)


def score(
    bundle: Bundle,
    files: Annotated[list[Path], typer.Argument(help="Tables, images, zips, folders of them, or quoted patterns.")],
    out: Annotated[
        str, typer.Option(help="results.csv, .parquet or .ndjson; or a folder, as in results/, for a file a piece.")
    ],
    format: Annotated[  # noqa: A002
        str | None, typer.Option(help="Of the files in a folder: parquet (the default), csv or ndjson.")
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Continue in a folder that a run left, however it ended.")
    ] = False,
    partition: Annotated[
        str | None, typer.Option(help="i/n: score this share of a folder's pieces, beside n - 1 other processes.")
    ] = None,
    heatmaps: Annotated[
        Path | None,
        typer.Option(
            help="A folder, made if missing, for a PNG of each anomalous image (of no other) that shows where it is "
            "odd; its name begins with the image's row in --out, counted from 0."
        ),
    ] = None,
    alpha: Alpha = None,
    guarantee: Guarantee = None,
    device: Device = "auto",
    engine: Annotated[
        str, typer.Option(help="local, or ray: the workers of a Ray cluster, which see the same paths.")
    ] = "local",
    ray_address: Annotated[
        str | None,
        typer.Option(help="HOST:PORT of the cluster; RAY_ADDRESS, or one started for the run, by default."),
    ] = None,
    trusted_keys: TrustedKeysFile = None,
) -> None:
    """Score files of any size without a server; one row an item, errors included."""
    from elbound.bundle.signature import Trust
    from training.score.command import Output, choose_cluster, score_files

    cluster = choose_cluster(engine, ray_address)
    output = Output.choose(out, kind=format, resume=resume, partition=partition)
    score_files(
        bundle, files, output, heatmaps=heatmaps, alpha=alpha, guarantee=guarantee, device=device, cluster=cluster,
        trust=Trust.of(trusted_keys),
    )  # fmt: skip


def explain(
    bundle: Bundle,
    file: Annotated[Path, typer.Argument(help="A table, an image, a zip of images, or a folder of either.")],
    every: Annotated[bool, typer.Option("--all", help="Explain normal items too.")] = False,
    index: Annotated[
        list[int] | None, typer.Option(help="The place of an item, counted from 0; may be repeated.")
    ] = None,
    most: Annotated[int, typer.Option(help="Items to explain; of more, those with the largest scores.")] = 20,
    top: Annotated[int, typer.Option(help="Columns to show of a row; the others are added up.")] = 10,
    out: Annotated[Path, typer.Option(help="Where the pictures of images go; made if missing.")] = Path("explained"),
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document an item, as the service answers.")] = False,
    alpha: Alpha = None,
    guarantee: Guarantee = None,
    device: Device = "auto",
    trusted_keys: TrustedKeysFile = None,
) -> None:
    """Show why the anomalies of a file are odd: each column's share of the score, or where in the image."""
    from elbound.bundle.signature import Trust
    from training.explain.choice import Which
    from training.explain.command import explain_file

    which = Which(every, tuple(index or ()), most)
    explain_file(
        bundle, file, which, top=top, out=out, as_json=as_json, alpha=alpha, guarantee=guarantee, device=device,
        trust=Trust.of(trusted_keys),
    )  # fmt: skip


def inspect(
    bundle: Bundle,
    trusted_keys: TrustedKeysFile = None,
) -> None:
    """Check a bundle's hashes, golden rows and signature; show its schema, model and thresholds."""
    from elbound.bundle.signature import Trust
    from elbound.scorer import Scorer
    from training.console import show_bundle

    scorer = Scorer.from_bundle(bundle, device="cpu", trust=Trust.of(trusted_keys))
    show_bundle(scorer, bundle, signed=trusted_keys is not None)


def demo(
    out: Annotated[Path, typer.Option(help="Where data, bundles and pictures go.")] = Path("demo"),
    keep: Annotated[bool, typer.Option("--keep", help="Leave the server running.")] = False,
    port: Annotated[int, typer.Option(help="The server's port; 0 takes a free one.")] = 0,
) -> None:
    """The whole path on real data: train, serve, upload, judge."""
    from training.demo.demo import run_demo

    run_demo(out, keep=keep, port=port)


def _size(text: str | None) -> tuple[int, int] | None:
    if text is None:
        return None
    height, _, width = text.lower().partition("x")
    if not (height.isdigit() and width.isdigit()):
        raise typer.BadParameter(f"--image-size must be HEIGHTxWIDTH, as in 32x48. Got {text!r} instead")
    return int(height), int(width)
