"""The image networks of KerasHub, by the names of its presets: attention networks, and others.

A preset is three files: arguments of a class of `keras_hub.models`, what is done to photographs in
0 to 255, and weights. `settle` reads the first two into parameters, which a bundle records, so that
its network is built again without the preset and without a connection. Nothing is deserialised: the
class is one of KerasHub's, by name, and its arguments are numbers, words and lists.
"""

from __future__ import annotations

import difflib
import inspect
import json
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import keras

from napari_cellclf.core.normalization import ImageNet, photograph_range
from napari_cellclf.errors import ArchitectureError, DownloadError
from napari_cellclf.inference.rebuild import UNFILLED
from napari_cellclf.io.remote.source import OFFLINE_VARIABLE, is_offline
from napari_cellclf.models.architectures.base import Architecture, Shape
from napari_cellclf.models.architectures.pretrained_weights import first_line, load_weights
from napari_cellclf.models.architectures.transfer import add_head, fit_weights

NAME = "keras-hub"
#: Each network scales photographs in 0 to 255 itself, as its preset says.
_AS_THEY_ARE = ImageNet(mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))
#: Where no preset says otherwise: 0 to 255 become -1 to 1.
_SCALE, _OFFSET = (1 / 127.5,) * 3, (-1.0,) * 3
#: What Keras decides for itself.
_KERAS_OWN = ("name", "trainable", "dtype", "data_format")
#: What a preset may say of pixels; mean and variance in older ones.
_PIXELS = ("scale", "offset", "mean", "variance", "height", "width")
#: Limits of a configuration: characters, a number, one that counts layers, all positions' numbers.
_MOST_TEXT, _MOST_NUMBER, _MOST_LAYERS, _MOST_POSITIONS = 8_000, 65_536, 512, 1 << 27
_COUNTS_LAYERS = re.compile(r"layer|block|depth|repeat")


class KerasHub(Architecture):
    """A network of KerasHub with a head for these classes."""

    name = NAME
    description = "a preset of KerasHub (DINOv2, ViT, ResNet, ...) with a head for these classes"
    any_size = False
    pretrained = "the weights of its preset, as KerasHub publishes them, fetched when first used"

    @property
    def default_size(self) -> tuple[int, int]:
        """What nearly all patch sizes divide."""
        return (224, 224)

    def photograph_normalization(self) -> ImageNet:
        """Leave photographs as they are."""
        return _AS_THEY_ARE

    def settle(self, parameters: Mapping[str, Any]) -> dict[str, Any]:
        """Read what a preset stands for, unless that was done."""
        if parameters.get("preset") is None or parameters.get("backbone") is not None:
            return dict(parameters)
        return dict(parameters) | _read_preset(str(parameters["preset"]))

    def build(
        self,
        input_shape: Shape,
        n_classes: int,
        *,
        preset: str | None = None,
        backbone: str | None = None,
        config: str | None = None,
        scale: Sequence[float] | None = None,
        offset: Sequence[float] | None = None,
        pooling: str = "auto",
        weights: str | None = None,
        hidden_units: int | None = None,
        dropout: float = 0.0,
        train_backbone: bool | None = None,
        unit_range: bool = False,
    ) -> keras.Model:
        """Build the backbone of a preset, pool its answer, and add a head.

        `preset`: its name, or a folder of its files. `backbone`, `config`: a class of
        `keras_hub.models` and its arguments as JSON, instead of a preset. `scale`, `offset`: what
        brings red, green and blue of 0 to 255 to its range. `pooling`: ``"token"``, the class
        token; ``"mean"`` of all places; ``"auto"``, the class token where there is one.
        """
        fetched = weights == "imagenet"
        if backbone is None and preset is not None and fetched:
            found = _read_preset(preset)
            backbone, config = found["backbone"], found["config"]
            scale, offset = found["scale"], found["offset"]
        arguments = _arguments(config)
        network = _make(backbone, arguments, input_shape)
        if weights not in (None, UNFILLED):
            source = _make(backbone, arguments, (*input_shape[:2], 3))
            _load(source, _file(preset, "model.weights.h5") if fetched else str(weights), arguments)
            for old, new in zip(source.weights, network.weights, strict=True):
                # The first convolution is widened to the channels of the images.
                new.assign(fit_weights(keras.ops.convert_to_numpy(old), new.shape, old.path))
        pretrained = weights is not None
        tensor = image = keras.Input(input_shape, name="image")
        if not pretrained or input_shape[2] != 3:
            photograph = photograph_range(_AS_THEY_ARE, unit_range)
            tensor = keras.layers.Rescaling(*photograph, name="to_photograph_range")(image)
        tensor = _to_range(tensor, scale or _SCALE, offset or _OFFSET)
        answer = network({"images": tensor} if isinstance(network.input, dict) else tensor)
        features = _pooled(answer, input_shape, arguments.get("patch_size"), pooling)
        return add_head(
            keras.Model(image, features, name=NAME),
            n_classes,
            name=NAME,
            hidden_units=hidden_units,
            dropout=dropout,
            train_backbone=not pretrained if train_backbone is None else train_backbone,
        )


KERAS_HUB = KerasHub()


def _hub() -> Any:
    try:
        import keras_hub
    except ImportError as error:
        raise ArchitectureError(
            f"KerasHub is missing ({error}); install it with pip install 'napari-cellclf[hub]'"
        ) from error
    return keras_hub


def _read_preset(preset: str) -> dict[str, Any]:
    described = _json(_file(preset, "config.json"))
    kind, held = str(described.get("class_name")), described.get("config")
    if not isinstance(held, dict):
        raise ArchitectureError(f"config.json of {preset} describes no network; give another one")
    arguments = {key: value for key, value in held.items() if key not in _KERAS_OWN}
    text = json.dumps(arguments)
    _arguments(text)
    converter = _json(_file(preset, "image_converter.json")).get("config", {})
    pixels = _hub().layers.ImageConverter(
        **{key: converter[key] for key in _PIXELS if key in converter}
    )
    return {
        "preset": preset,
        "backbone": kind,
        "config": text,
        "scale": _three(1.0 if pixels.scale is None else pixels.scale),
        "offset": _three(0.0 if pixels.offset is None else pixels.offset),
    }


def _file(preset: str | None, name: str) -> Path:
    """Return a file of a preset, fetched once unless the preset is a folder."""
    if preset is not None and Path(preset).is_dir():
        return Path(preset, name)
    known = _hub().models.Backbone.presets
    if preset not in known:
        close = difflib.get_close_matches(str(preset), known, n=3) or ["dinov2_small"]
        raise ArchitectureError(
            f"KerasHub has no preset {preset!r}; did you mean {' or '.join(close)}? A folder of a "
            "preset's files is taken as well"
        )
    import kagglehub
    from kagglehub import exceptions

    handle = known[preset]["kaggle_handle"].removeprefix("kaggle://")
    cached = Path(kagglehub.config.get_cache_folder(), "models", handle, name)
    otherwise = "connect to the internet once, or give a folder of the preset's files"
    if is_offline() and not cached.is_file():
        raise DownloadError(
            f"{name} of {preset} is not on this computer, and {OFFLINE_VARIABLE} forbids the "
            f"network; {otherwise}"
        )
    try:
        return Path(kagglehub.model_download(handle, name))
    except (OSError, ValueError, exceptions.BackendError, exceptions.NotFoundError) as error:
        raise DownloadError(
            f"{name} of {preset} could not be fetched ({first_line(error)}); {otherwise}"
        ) from error


def _json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ArchitectureError(
            f"{path} cannot be read ({first_line(error)}); give a folder of a preset's files"
        ) from error
    if not isinstance(found, dict):
        raise ArchitectureError(f"{path} is no file of a preset; give a folder of one")
    return found


def _arguments(config: str | None) -> dict[str, Any]:
    """Read the arguments of a class, which must be plain and of usual size."""
    try:
        found = json.loads(config or "")
    except (ValueError, RecursionError) as error:
        raise ArchitectureError(
            f"{NAME} received config={config!r:.80}; give a preset with weights='imagenet', or a "
            'backbone with its arguments as JSON, such as {"patch_size": 8}'
        ) from error
    if not isinstance(found, dict) or len(str(config)) > _MOST_TEXT:
        raise ArchitectureError(
            f"{NAME} received config={config!r:.80}; give an object of at most {_MOST_TEXT} "
            "characters"
        )
    for key, value in found.items():
        if key in _KERAS_OWN or not _is_plain(value, bool(_COUNTS_LAYERS.search(key))):
            raise ArchitectureError(
                f"{NAME} cannot take {key}={value!r:.80}; give numbers up to {_MOST_NUMBER} "
                f"({_MOST_LAYERS} for layers), words, or lists of these"
            )
    return found


def _is_plain(value: object, counts_layers: bool) -> bool:
    if isinstance(value, list):
        return len(value) <= _MOST_LAYERS and all(_is_plain(one, counts_layers) for one in value)
    if isinstance(value, int | float):
        # Not a number is not below any.
        return abs(value) <= (_MOST_LAYERS if counts_layers else _MOST_NUMBER)
    return value is None or isinstance(value, str)


def _make(backbone: str | None, arguments: Mapping[str, Any], shape: Shape) -> Any:
    """Build a network of KerasHub for one shape of images, with random weights."""
    models = _hub().models
    kind = getattr(models, str(backbone), None)
    if not (inspect.isclass(kind) and issubclass(kind, models.Backbone)):
        raise ArchitectureError(
            f"KerasHub has no network {backbone!r}; give a class of keras_hub.models, such as "
            "DINOV2Backbone"
        )
    try:
        _check_positions(arguments)
        network = getattr(models, str(backbone)).from_config(
            {**arguments, "image_shape": shape, "name": "backbone"}
        )
    except (ArithmeticError, AttributeError, LookupError) as error:
        raise ArchitectureError(
            f"{backbone} cannot be built of its config ({first_line(error)}); correct it"
        ) from error
    if len(network.inputs) != 1 or len(network.inputs[0].shape) != 4:
        raise ArchitectureError(f"{backbone} takes more than an image; choose another network")
    return network


def _check_positions(arguments: Mapping[str, Any]) -> None:
    """Refuse positions whose numbers would be made before a bundle's weights were compared."""
    sides, patch = arguments.get("position_embedding_shape"), arguments.get("patch_size")
    if sides and patch:
        numbers = math.prod(side // patch for side in sides[:2]) * arguments.get("hidden_dim", 1)
        if numbers > _MOST_POSITIONS:
            raise ArchitectureError(
                f"{NAME} cannot take position_embedding_shape={sides}; give a smaller one"
            )


def _load(network: Any, path: Path | str, arguments: Mapping[str, Any]) -> None:
    """Load weights that were made for three channels."""
    try:
        load_weights(network, path, NAME)
    except ArchitectureError as error:
        made_for, given = arguments.get("image_shape"), list(network.inputs[0].shape[1:3])
        if not isinstance(made_for, list) or made_for[:2] == given:
            raise
        raise ArchitectureError(
            f"{error}; they were made for images of {made_for[0]} x {made_for[1]} pixels, so try "
            f"size=[{made_for[0]}, {made_for[1]}]"
        ) from error


def _to_range(image: Any, scale: Sequence[float], offset: Sequence[float]) -> Any:
    """Bring 0 to 255 to what the network was trained on, with averages for other channels."""
    channels = image.shape[-1]
    given = [_three(scale), _three(offset)]
    per_channel = [one if channels == 3 else [sum(one) / 3] * channels for one in given]
    return keras.layers.Rescaling(*per_channel, name="preset_range")(image)


def _three(numbers: float | Sequence[float]) -> list[float]:
    """Return a number for each of red, green and blue."""
    found = [numbers] * 3 if isinstance(numbers, int | float) else list(numbers)
    if len(found) != 3 or not all(isinstance(one, int | float) for one in found):
        raise ArchitectureError(
            f"{NAME} received {numbers!r:.80} for red, green and blue; give three numbers"
        )
    return [float(one) for one in found]


def _pooled(answer: Any, shape: Shape, patch: Any, pooling: str) -> Any:
    """Pool places ``(N, h, w, F)`` or tokens ``(N, T, F)`` to features ``(N, F)``."""
    layers = keras.layers
    if pooling not in ("auto", "token", "mean"):
        raise ArchitectureError(f"pooling={pooling!r} is unknown; give auto, token or mean")
    if not isinstance(answer, keras.KerasTensor) or len(answer.shape) not in (3, 4):
        raise ArchitectureError("this network of KerasHub gives no features; choose another preset")
    if len(answer.shape) == 4:
        return layers.GlobalAveragePooling2D(name="features")(answer)
    tokens, width = answer.shape[1:]
    sides = patch if isinstance(patch, list) else [patch, patch]
    grid = [side // one for side, one in zip(shape[:2], sides, strict=False) if side and one]
    # What stands before the places: the class token, registers.
    leading = tokens - math.prod(grid) if len(grid) == 2 else -1
    if pooling == "token" or (pooling == "auto" and leading > 0):
        first = layers.Cropping1D((0, tokens - 1), name="class_token")(answer)
        return layers.Flatten(name="features")(first)
    if leading < 0:
        return layers.GlobalAveragePooling1D(name="features")(answer)
    places = layers.Cropping1D((leading, 0), name="places")(answer)
    places = layers.Reshape((*grid, width), name="feature_map")(places)
    return layers.GlobalAveragePooling2D(name="features")(places)
