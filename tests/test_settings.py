"""Settings: valid by default, the same again after a way through TOML, and one line for whatever is not valid."""

import tomllib
from dataclasses import fields
from importlib import resources
from pathlib import Path
from typing import Any

import pytest

from lenet.errors import UsageError
from lenet.optimizers import Adam, GradientDescent, Momentum
from lenet.settings import (
    DistillationSettings,
    DistortionSettings,
    NetworkSettings,
    Settings,
    TrainingSettings,
    load,
    recipes,
)

OTHER = Settings(
    NetworkSettings(maps=(3, 5), dense=(7, 11), activation="scaled_tanh", pool="max", table="full"),
    TrainingSettings(
        epochs=3,
        batch_size=1,
        optimizer="momentum",
        learning_rate=1e-05,
        schedule="one_cycle",
        warmup=0,
        average=0.0,
        momentum=0.0,
        beta1=0.5,
        beta2=0.99,
        epsilon=1e-30,
        initialization="he",
        seed=2**63 - 1,
    ),
    DistortionSettings(shift=0.0, zoom=0.9, rotation=180.0, shear=2.0, aspect=0.5),
    DistillationSettings(teachers=3, temperature=1.5),
)
"""Every setting unlike its default."""


def refusal(section: str, **values: Any) -> str:
    """Return the one line by which settings are refused."""
    with pytest.raises(UsageError) as caught:
        Settings.from_dict({section: values}, where="mine.toml")
    message = str(caught.value)
    assert message.splitlines() == [message]
    assert message.startswith("mine.toml: ")
    return message


# in and out ----------------------------------------------------------------------------------------------------------


def test_defaults() -> None:
    settings = Settings()
    assert settings.network == NetworkSettings((6, 16), (120, 84), "sigmoid", "mean", "lecun")
    assert (settings.training.epochs, settings.training.batch_size, settings.training.learning_rate) == (20, 64, 0.01)
    assert settings.training.rule() == Adam(0.9, 0.999, 1e-8)
    assert settings.distortion.active
    assert Settings.from_dict({}) == settings


def test_the_other_settings_are_all_unlike_the_defaults() -> None:
    for section in fields(Settings):
        ours, defaults = getattr(OTHER, section.name), getattr(Settings(), section.name)
        assert [f.name for f in fields(ours) if getattr(ours, f.name) == getattr(defaults, f.name)] == []


@pytest.mark.parametrize("settings", [Settings(), OTHER], ids=["defaults", "others"])
def test_settings_survive_toml(settings: Settings, tmp_path: Path) -> None:
    text = settings.to_toml()
    assert Settings.from_dict(tomllib.loads(text)) == settings
    assert tomllib.loads(text) == settings.to_dict()
    file = tmp_path / "mine.toml"
    file.write_text(text, encoding="utf-8")
    assert load(str(file)) == settings


def test_every_setting_in_toml_has_a_comment() -> None:
    lines = [line for line in Settings().to_toml().splitlines() if "=" in line.split("#")[0]]
    assert len(lines) == sum(len(fields(getattr(Settings(), section.name))) for section in fields(Settings))
    assert all(len(line.split(" # ")) == 2 and len(line) <= 120 for line in lines)


def test_a_whole_number_will_do_for_any_number() -> None:
    settings = Settings.from_dict({"training": {"learning_rate": 1, "average": 0}, "distortion": {"shift": 3}})
    assert settings.training.learning_rate == 1
    assert Settings.from_dict(tomllib.loads(settings.to_toml())) == settings


def test_rules() -> None:
    rules = {name: TrainingSettings(optimizer=name).rule() for name in ("adam", "momentum", "gd")}
    assert rules == {"adam": Adam(), "momentum": Momentum(), "gd": GradientDescent()}
    assert OTHER.training.rule() == Momentum(0.0)
    assert TrainingSettings(beta1=0.5, beta2=0.25, epsilon=0.125).rule() == Adam(0.5, 0.25, 0.125)


def test_distortion_is_active_as_soon_as_anything_moves() -> None:
    assert not DistortionSettings(0.0, 0.0, 0.0).active
    for name in ("shift", "zoom", "rotation", "shear", "aspect"):
        assert DistortionSettings(**{"shift": 0.0, "zoom": 0.0, "rotation": 0.0, name: 0.1}).active


def test_override() -> None:
    settings = Settings().override("training", epochs=3, seed=None)
    assert settings.training == TrainingSettings(epochs=3)
    assert (settings.network, settings.distortion) == (NetworkSettings(), DistortionSettings())
    assert Settings().override("training", epochs=None) == Settings()
    with pytest.raises(UsageError, match="epochs"):
        Settings().override("training", epochs=0)


# what is refused -----------------------------------------------------------------------------------------------------

NO_WHOLE_NUMBERS: list[Any] = [0.5, 1.0, "3", True, None, [1], {}, float("nan")]
NO_NUMBERS: list[Any] = ["0.1", True, None, [0.1], {}, float("nan"), float("inf"), -float("inf")]

INVALID: dict[str, dict[str, list[Any]]] = {
    "network": {
        "maps": [[6], [6, 16, 3], 6, "6, 16", [0, 16], [6, 1025], [6, 1.5], [True, 2], None],
        "dense": [[120], [120, 0], [120, 65537], {}, [120, "84"]],
        "activation": ["Sigmoid", "softmax", "", 1, None, ["tanh"], {}],
        "pool": ["average", 2, False],
        "table": ["paper", None, [[0]]],
    },
    "training": {
        "epochs": [0, -1, 1_000_001, *NO_WHOLE_NUMBERS],
        "batch_size": [0, -64, 1_000_001, *NO_WHOLE_NUMBERS],
        "optimizer": ["sgd", "Adam", 3],
        "learning_rate": [0, -0.1, 1e39, 0.0, *NO_NUMBERS],
        "schedule": ["linear", None],
        "warmup": [-1, *NO_WHOLE_NUMBERS],
        "average": [1.0, 1, -0.1, *NO_NUMBERS],
        "momentum": [1.0, -0.1, *NO_NUMBERS],
        "beta1": [1.0, -0.1, *NO_NUMBERS],
        "beta2": [1.0, -0.1, *NO_NUMBERS],
        "epsilon": [0, 0.0, -1e-8, 1.1, *NO_NUMBERS],
        "initialization": ["zero", "xavier", 1],
        "seed": [-1, 2**63, *NO_WHOLE_NUMBERS],
    },
    "distortion": {
        "shift": [-1, 1001, *NO_NUMBERS],
        "zoom": [-0.1, 0.95, 1, *NO_NUMBERS],
        "rotation": [-1, 181, *NO_NUMBERS],
        "shear": [-0.1, 2.1, *NO_NUMBERS],
        "aspect": [-0.1, 2.1, *NO_NUMBERS],
    },
    "distillation": {
        "teachers": [-1, 101, *NO_WHOLE_NUMBERS],
        "temperature": [0, 0.0, -1, 101, *NO_NUMBERS],
    },
}


@pytest.mark.parametrize(
    ("section", "name", "value"),
    [
        pytest.param(section, name, value, id=f"{name}={value!r}")
        for section, settings in INVALID.items()
        for name, values in settings.items()
        for value in values
    ],
)
def test_an_invalid_value_is_refused_by_name(section: str, name: str, value: Any) -> None:
    assert refusal(section, **{name: value}).startswith(f"mine.toml: {name} must be ")


def test_every_setting_has_invalid_values() -> None:
    named = {section: set(settings) for section, settings in INVALID.items()}
    assert named == {section: set(settings) for section, settings in Settings().to_dict().items()}


def test_an_unknown_setting_is_refused() -> None:
    message = refusal("training", learning_rat=0.1)
    assert "[training] has no setting learning_rat; there are average, batch_size," in message


def test_an_unknown_section_is_refused() -> None:
    with pytest.raises(
        UsageError, match=r"^mine: no section \[optimizer\]; there are distillation, distortion, network, training$"
    ):
        Settings.from_dict({"optimizer": {}}, where="mine")


def test_a_value_in_place_of_a_section_is_refused() -> None:
    with pytest.raises(UsageError, match=r"^mine: training is not a section; write \[training\]$"):
        Settings.from_dict({"training": 3}, where="mine")


# recipes and files ---------------------------------------------------------------------------------------------------


def test_recipes_load() -> None:
    assert {"default", "original"} <= set(recipes())
    for name in recipes():
        assert isinstance(load(name), Settings)


def test_the_default_recipe_is_the_defaults() -> None:
    assert load("default") == Settings()
    text = (resources.files("lenet.recipes") / "default.toml").read_text(encoding="utf-8")
    assert text[text.index("[network]") :] == Settings().to_toml()
    assert all(line.startswith("#") or not line for line in text[: text.index("[network]")].splitlines())


def test_the_original_recipe_is_plain_adam() -> None:
    training = load("original").training
    assert training.rule() == Adam()
    assert (training.epochs, training.learning_rate, training.schedule) == (20, 0.01, "constant")
    assert (training.warmup, training.average) == (0, 0)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"[training\n", "not a valid TOML file"),
        (b"epochs = 3\n", "no section [epochs]"),
        (b"[training]\nepochs = 3\nepochs = 4\n", "not a valid TOML file"),
        (b"[training]\nepochs = '\xff'\n", "UTF-8"),
        (b"\xff\xfe[\x00", "UTF-8"),
        (b"[training]\nseed = " + b"9" * 5000, "not a valid TOML file"),  # more digits than Python converts
        (b'[training]\n"epo\\nchs" = 3\n', "has no setting"),  # a quoted key may hold a line break
        (b'["train\\ning"]\nepochs = 3\n', "no section"),
    ],
)
def test_a_file_that_is_no_settings_is_refused_in_one_line(tmp_path: Path, content: bytes, reason: str) -> None:
    file = tmp_path / "mine.toml"
    file.write_bytes(content)
    with pytest.raises(UsageError) as caught:
        load(str(file))
    message = str(caught.value)
    assert reason in message
    assert str(file) in message
    assert message.splitlines() == [message]


def test_a_file_that_does_not_exist_is_refused_with_the_recipes_there_are(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"No such file or directory; name a TOML file or one of .* default,"):
        load("no-such-recipe")
    with pytest.raises(UsageError, match="Is a directory"):
        load(str(tmp_path))
