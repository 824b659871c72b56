"""All settings of a training run: defaults and units in one place, from a TOML file, flags or both."""

import difflib
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from elbound.errors import ConfigError


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class DataConfig(_Section):
    """What to train on. `image_size` is (height, width) in pixels; `split_by` a column or, for images, a
    regular expression of the file name whose first group (or whole match) names the group, and so is `group_by`.
    `include` are columns to score although they look like an identifier, a time, a label or a constant; `anyway`
    trains although something about the data is in doubt."""

    path: Path
    schema_file: Path | None = None
    exclude: tuple[str, ...] = ()
    include: tuple[str, ...] = ()
    id: str | None = None
    split_by: str | None = None
    group_by: str | None = None
    image_size: tuple[int, int] | None = None
    resize: Literal["fit", "crop", "stretch"] | None = None
    max_bad_share: float = Field(default=0.1, ge=0, le=1)
    anyway: bool = False


class ModelConfig(_Section):
    """None and `auto` leave the choice to the rules in `elbound/fit/defaults.py`."""

    profile: Literal["default", "fast"] = "default"
    mode: Literal["auto", "pixels", "features"] = "auto"
    latent: int | None = Field(default=None, ge=1, le=4096)
    width: int | None = Field(default=None, ge=1, le=65_536)
    prior: str | None = None
    likelihood: str | None = None
    categories: int | None = Field(default=None, ge=0, le=64)


class FitConfig(_Section):
    """The budget; `checkpoint_steps` is the most that a kill can lose."""

    steps: int | None = Field(default=None, ge=1)
    batch_items: int | None = Field(default=None, ge=1)
    learning_rate: float | None = Field(default=None, gt=0)
    checkpoint_steps: int | None = Field(default=None, ge=1)
    seed: int = Field(default=0, ge=0, lt=2**32)
    device: Literal["auto", "cpu", "cuda"] = "auto"


class CalibrationConfig(_Section):
    """The bundle's default false-alarm rate (None: the smallest from 0.01 up that the calibration items can decide),
    and the confidence with which it holds (None: on average).

    Every request may ask for another.
    """

    alpha: float | None = Field(default=None, gt=0, lt=1)
    guarantee: float | None = Field(default=None, ge=0.5, lt=1)


class BundleConfig(_Section):
    """Where the bundle goes (an absolute path once read); its name is the folder's unless one is given.

    `export` adds the detector as a graph that onnxruntime computes on a CPU.
    """

    out: Annotated[Path, AfterValidator(Path.resolve)]
    name: str | None = None
    export: Literal["onnx"] | None = None
    force: bool = False
    resume: bool = False

    @property
    def checkpoint(self) -> Path:
        return self.out.with_name(f"{self.out.name}.checkpoint")


class ReportConfig(_Section):
    """`budget_seconds` is None for as long as the training took; `strict` ends with status 3 unless *ship*;
    `anomalous` are known anomalies to compare with the baselines on."""

    enabled: bool = True
    budget_seconds: float | None = Field(default=None, gt=0)
    strict: bool = False
    anomalous: Path | None = None

    @model_validator(mode="after")
    def _needs_the_report(self) -> Self:
        unused = [name for name in ("budget_seconds", "strict", "anomalous") if getattr(self, name)]
        if unused and not self.enabled:
            raise ValueError(f"{unused[0]} needs the report, which is switched off")
        return self


class TrainConfig(_Section):
    """The whole of a run."""

    data: DataConfig
    model: ModelConfig = ModelConfig()
    fit: FitConfig = FitConfig()
    calibration: CalibrationConfig = CalibrationConfig()
    bundle: BundleConfig
    report: ReportConfig = ReportConfig()

    @classmethod
    def load(cls, file: Path | None, flags: Mapping[str, Mapping[str, object]]) -> Self:
        """A TOML file's settings with flags (by section; None is not given) laid over them.

        Raises ConfigError that names the key and, for an unknown one, the nearest.
        """
        document: dict[str, Any] = _read_toml(file) if file is not None else {}
        for section, values in flags.items():
            document.setdefault(section, {})
            given = {key: value for key, value in values.items() if value not in (None, (), [])}
            if given:
                document[section] = {**document[section], **given}
        try:
            return cls.model_validate(document)
        except ValidationError as error:
            raise ConfigError(_explain(error), where=_location(error)) from error


def _read_toml(file: Path) -> dict[str, Any]:
    try:
        document = tomllib.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(f"{file} cannot be read as TOML: {error}", where=str(file)) from error
    for key, value in document.items():
        if key in TrainConfig.model_fields and not isinstance(value, dict):
            raise ConfigError(f"{file}: {key} must be a section, as in [{key}]", where=key)
    return document


def _location(error: ValidationError) -> str:
    return ".".join(str(part) for part in error.errors()[0]["loc"])


def _explain(error: ValidationError) -> str:
    first = error.errors()[0]
    where = _location(error)
    if first["type"] == "missing":
        return f"{where} is not set; give it as a flag or in the TOML file"
    if first["type"] != "extra_forbidden":
        return f"{where}: {first['msg']}. Got {first['input']!r} instead"
    known = _known_keys(tuple(str(part) for part in first["loc"][:-1]))
    nearest = difflib.get_close_matches(str(first["loc"][-1]), known, n=1, cutoff=0.5)
    hint = f"did you mean {nearest[0]!r}?" if nearest else f"known: {', '.join(known)}"
    return f"unknown setting {where}; {hint}"


def _known_keys(sections: tuple[str, ...]) -> list[str]:
    model: type[BaseModel] = TrainConfig
    for section in sections:
        annotation = model.model_fields[section].annotation
        assert isinstance(annotation, type)
        model = annotation
    return list(model.model_fields)
