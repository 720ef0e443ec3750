"""Everything that decides how a network is built and trained: its validation, and TOML in and out.

The comment beside each setting in a printed TOML file is the one written here.
"""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from importlib import resources
from pathlib import Path
from typing import Any, Literal, get_args

from lenet.errors import UsageError, shortened, shown
from lenet.files import open_plain
from lenet.optimizers import Adam, GradientDescent, Momentum, Rule, Schedule
from lenet.specs import ActivationKind, PoolMode

Initialization = Literal["glorot", "lecun", "he"]
Optimizer = Literal["adam", "momentum", "gd"]
Table = Literal["lecun", "full"]

MAX_SEED = 2**63 - 1
MAX_EPOCHS = 100_000

_MAX_FILE = 16 << 10  # bytes of a settings file: ten times what is printed; a key of many dots takes quadratic time


def _setting(default: Any, comment: str) -> Any:
    """Declare a setting: its default, and the comment that a printed TOML file carries beside it."""
    return field(default=default, metadata={"comment": comment})


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _check_choice(name: str, value: Any, choices: Any) -> None:
    if value not in get_args(choices):
        raise UsageError(f"{name} must be one of {', '.join(get_args(choices))}, not {shown(value)}")


def _check_integer(name: str, value: Any, low: int, high: int) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
        raise UsageError(f"{name} must be a whole number from {low} to {high}, not {shown(value)}")


def _check_number(name: str, value: Any, low: float, high: float) -> None:
    if not isinstance(value, int | float) or isinstance(value, bool) or not low <= value <= high:
        raise UsageError(f"{name} must be a number from {low:g} to {high:g}, not {shown(value)}")


def _check_pair(name: str, value: Any, high: int) -> None:
    if not isinstance(value, tuple) or len(value) != 2:
        raise UsageError(f"{name} must be two whole numbers, not {shown(_plain(value))}")
    for number in value:
        _check_integer(name, number, 1, high)


@dataclass(frozen=True)
class NetworkSettings:
    """The architecture. Image size and number of classes come from the data set."""

    maps: tuple[int, int] = _setting((6, 16), "feature maps of C1 and C3")
    dense: tuple[int, int] = _setting((120, 84), "units of F5 and F6")
    activation: ActivationKind = _setting("sigmoid", 'squashing function: "sigmoid", "tanh", "scaled_tanh" or "relu"')
    pool: PoolMode = _setting("mean", 'subsampling in S2 and S4: "mean" or "max"')
    table: Table = _setting("lecun", 'connections of C3: "lecun" (Table I of the paper, 60 of 96) or "full"')

    def __post_init__(self) -> None:
        _check_pair("maps", self.maps, 1024)
        _check_pair("dense", self.dense, 65536)
        _check_choice("activation", self.activation, ActivationKind)
        _check_choice("pool", self.pool, PoolMode)
        _check_choice("table", self.table, Table)


@dataclass(frozen=True)
class TrainingSettings:
    """The optimization."""

    epochs: int = _setting(20, "passes over the training images")
    batch_size: int = _setting(64, "images a step")
    optimizer: Optimizer = _setting("adam", 'update rule: "adam", "momentum" or "gd" (plain gradient descent)')
    learning_rate: float = _setting(0.01, "step size, at its highest")
    schedule: Schedule = _setting("constant", 'course of the learning rate: "constant", "cosine" or "one_cycle"')
    warmup: int = _setting(50, "steps over which the learning rate rises from 0 at the start")
    average: float = _setting(0.999, "decay of the moving average of the weights, which is what is saved; 0: none")
    momentum: float = _setting(0.9, "momentum: share of the last step that is kept")
    beta1: float = _setting(0.9, "adam: decay of the mean of the gradients")
    beta2: float = _setting(0.999, "adam: decay of the mean of their squares")
    epsilon: float = _setting(1e-8, "adam: keeps the division from zero")
    initialization: Initialization = _setting("glorot", 'first weights: "glorot", "lecun" or "he", all uniform')
    seed: int = _setting(1, "decides first weights, order of the images and distortions")

    def __post_init__(self) -> None:
        _check_integer("epochs", self.epochs, 1, MAX_EPOCHS)
        _check_integer("batch_size", self.batch_size, 1, 1_000_000)
        _check_choice("optimizer", self.optimizer, Optimizer)
        _check_number("learning_rate", self.learning_rate, 1e-12, 1e38)
        _check_choice("schedule", self.schedule, Schedule)
        _check_integer("warmup", self.warmup, 0, 1_000_000_000)
        for name in ("average", "momentum", "beta1", "beta2"):
            _check_number(name, getattr(self, name), 0.0, 0.9999999)
        _check_number("epsilon", self.epsilon, 1e-30, 1.0)
        _check_choice("initialization", self.initialization, Initialization)
        _check_integer("seed", self.seed, 0, MAX_SEED)

    def rule(self) -> Rule:
        """Return the update rule."""
        match self.optimizer:
            case "adam":
                return Adam(self.beta1, self.beta2, self.epsilon)
            case "momentum":
                return Momentum(self.momentum)
            case "gd":
                return GradientDescent()


@dataclass(frozen=True)
class DistortionSettings:
    """How far every training image is moved, each time anew, uniformly at random. All zero: not at all."""

    shift: float = _setting(2.5, "pixels up, down, left and right")
    zoom: float = _setting(0.15, "scale from 1 - zoom to 1 + zoom")
    rotation: float = _setting(12.0, "degrees to either side")
    shear: float = _setting(0.0, "slant: pixels to either side for each pixel of height")
    aspect: float = _setting(0.0, "width grows by up to this share while height shrinks as much, or the other way")

    def __post_init__(self) -> None:
        _check_number("shift", self.shift, 0.0, 1000.0)
        _check_number("zoom", self.zoom, 0.0, 0.9)
        _check_number("rotation", self.rotation, 0.0, 180.0)
        _check_number("shear", self.shear, 0.0, 2.0)
        _check_number("aspect", self.aspect, 0.0, 2.0)

    @property
    def active(self) -> bool:
        """Whether anything is distorted at all."""
        return any((self.shift, self.zoom, self.rotation, self.shear, self.aspect))


@dataclass(frozen=True)
class DistillationSettings:
    """What the network is to answer: the labels, or what others answer that were trained before it."""

    teachers: int = _setting(0, "networks that are trained first, whose mean answer replaces the labels; 0: none")
    temperature: float = _setting(4.0, "divides their logits: the higher, the more is told of the unlikely classes")

    def __post_init__(self) -> None:
        _check_integer("teachers", self.teachers, 0, 100)
        _check_number("temperature", self.temperature, 0.01, 100.0)


@dataclass(frozen=True)
class Settings:
    """All settings, section by section as in the TOML file."""

    network: NetworkSettings = NetworkSettings()
    training: TrainingSettings = TrainingSettings()
    distortion: DistortionSettings = DistortionSettings()
    distillation: DistillationSettings = DistillationSettings()

    @classmethod
    def from_dict(cls, tables: Any, where: str = "settings") -> "Settings":
        """Build settings from nested tables; what they leave out has its default.

        Raises
        ------
        UsageError
            For an unknown section or setting, a wrong type or a value out of range.
        """
        if not isinstance(tables, Mapping):
            raise UsageError(f"{where}: not sections of settings but {shown(tables)}")
        known = {section.name: section for section in fields(cls)}
        sections = {}
        for name, table in tables.items():
            if name not in known:
                raise UsageError(f"{where}: no section [{_quoted(name)}]; there are {_listed(known)}")
            if not isinstance(table, Mapping):
                raise UsageError(f"{where}: {name} is not a section; write [{name}]")
            kind: Any = type(known[name].default)
            unknown = set(table) - {setting.name for setting in fields(kind)}
            if unknown:
                settings = _listed(setting.name for setting in fields(kind))
                strangers = shortened(_listed(map(_quoted, unknown)))
                raise UsageError(f"{where}: [{name}] has no setting {strangers}; there are {settings}")
            try:
                values = {key: tuple(value) if isinstance(value, list) else value for key, value in table.items()}
                sections[name] = kind(**values)
            except UsageError as error:
                raise UsageError(f"{where}: {error}") from None
        return cls(**sections)

    def to_dict(self) -> dict[str, dict[str, Any]]:
        """Return the settings as nested tables of plain values."""
        return {
            section.name: {
                setting.name: _plain(getattr(getattr(self, section.name), setting.name))
                for setting in fields(getattr(self, section.name))
            }
            for section in fields(self)
        }

    def to_toml(self) -> str:
        """Return the settings as a TOML file with a comment on each."""
        lines = []
        for section in fields(self):
            values = getattr(self, section.name)
            lines.append(f"\n[{section.name}]")
            for setting in fields(values):
                assignment = f"{setting.name} = {_toml(getattr(values, setting.name))}"
                lines.append(f"{assignment:<27} # {setting.metadata['comment']}")
        return "\n".join(lines).lstrip() + "\n"

    def override(self, section: str, **values: Any) -> "Settings":
        """Return a copy in which the given settings of one section are replaced; None leaves a setting as it is."""
        given = {name: value for name, value in values.items() if value is not None}
        return replace(self, **{section: replace(getattr(self, section), **given)}) if given else self

    def undistorted(self) -> "Settings":
        """Return a copy that trains on the images as they are."""
        nothing = DistortionSettings(**{setting.name: 0.0 for setting in fields(DistortionSettings)})
        return replace(self, distortion=nothing)


def recipes() -> list[str]:
    """Names of the recipes that ship in the package."""
    files = resources.files("lenet.recipes").iterdir()
    return sorted(file.name.removesuffix(".toml") for file in files if file.name.endswith(".toml"))


def load(name_or_file: str) -> Settings:
    """Read settings: those of a recipe in the package, by name, or of a TOML file.

    Raises
    ------
    UsageError
        When there is no such recipe or file, or when it is not valid.
    """
    if name_or_file in recipes():
        text = (resources.files("lenet.recipes") / f"{name_or_file}.toml").read_text(encoding="utf-8")
    else:
        try:
            text = _read(Path(name_or_file))
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else error
            raise UsageError(
                f"--settings {name_or_file}: {reason}; name a TOML file or one of the recipes {_listed(recipes())}"
            ) from None
    try:
        tables = tomllib.loads(text)
    except RecursionError:
        raise UsageError(f"{name_or_file}: not a valid TOML file: too many brackets within brackets") from None
    except ValueError as error:  # also of a number with too many digits
        raise UsageError(f"{name_or_file}: not a valid TOML file: {shortened(str(error))}") from None
    return Settings.from_dict(tables, where=name_or_file)


def _read(file: Path) -> str:
    """Return the text of a file of settings."""
    with open_plain(file) as stream:
        content = stream.read(_MAX_FILE + 1)
    if len(content) > _MAX_FILE:
        raise ValueError(f"it has more than {_MAX_FILE} bytes")
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError:
        raise ValueError("it is not a UTF-8 text") from None


def _quoted(name: str) -> str:
    return shortened(name if name.isprintable() else repr(name))


def _listed(names: Any) -> str:
    return ", ".join(sorted(names))


def _toml(value: Any) -> str:
    if isinstance(value, str):
        return f'"{value}"'
    return repr(_plain(value))
