"""Look at a `.keras` file before Keras does, and refuse what could do more than compute.

Keras's own `safe_mode` lists what is forbidden; here stands what is allowed. Such a file is looked
at once, when a model is made of it: bundles hold neither HDF5 nor anything that Keras would have to
open. What Keras 2 wrote is translated into the words of Keras 3 first.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NoReturn

from napari_cellclf.bundles.archive import Archive, open_archive
from napari_cellclf.bundles.hdf5 import Contents, look_into
from napari_cellclf.bundles.jsontext import parse_json
from napari_cellclf.bundles.networks import Parts, read_network
from napari_cellclf.bundles.paths import HDF5_MAGIC, refuse_other_kinds, start_of
from napari_cellclf.bundles.plainfile import Span, open_plain
from napari_cellclf.errors import BundleError, UnsafeModelError

Kind = Literal["Keras 3", "Keras 2"]

_WEIGHTS = "model.weights.h5"
#: A file of over 2 GB would need the other form of zip, and no classifier is that large.
_LIMITS = {"metadata.json": 1 << 14, "config.json": 1 << 22, _WEIGHTS: (1 << 31) - (1 << 23)}


@dataclass(frozen=True)
class KerasFile:
    """What is in a file that may be given to Keras."""

    #: A zip as Keras 3 writes it, or an HDF5 file that Keras 2 wrote into a `.keras`.
    kind: Kind
    #: Which Keras wrote it, as far as it says.
    keras_version: str
    #: The network, with nothing besides what was checked.
    parts: Parts
    #: How many numbers its weights file holds.
    n_weights: int


def read_keras_file(path: Path) -> KerasFile:
    """Look at a `.keras` file. Its HDF5 part is opened in a process of its own."""
    refuse_other_kinds(path)
    if path.is_dir() or path.suffix.lower() != ".keras":
        raise UnsafeModelError(f"{path.name} is not a .keras file; save it as .keras with Keras 3")
    if start_of(path) == HDF5_MAGIC:
        return _read_keras_2(path)
    with open_plain(path) as handle:
        archive = open_archive(handle, path.name, _LIMITS)
        metadata, config = (
            parse_json(archive.read(member), f"{member} of {path.name}")
            for member in ("metadata.json", "config.json")
        )
        version = metadata.get("keras_version", "") if isinstance(metadata, dict) else ""
        parts = read_network(config, path.name)
        weights = _weights_of(archive, path)
    return KerasFile("Keras 3", str(version)[:40], parts, weights.n_numbers)


def check_weights(path: Path) -> None:
    """Check the weights in a `.weights.h5` or `.keras` file, and nothing else of it."""
    if path.suffix == ".keras" and start_of(path) != HDF5_MAGIC:
        with open_plain(path) as handle:
            _weights_of(open_archive(handle, path.name, _LIMITS), path)
        return
    _look_into(path)


def _read_keras_2(path: Path) -> KerasFile:
    found = _look_into(path)
    if found.config is None:
        raise BundleError(
            f"{path.name} holds weights without a network; save the whole model with Keras"
        )
    config = parse_json(
        found.config.encode("utf-8", "surrogatepass"), f"model_config of {path.name}"
    )
    parts = read_network(translate(config, path.name), path.name)
    return KerasFile("Keras 2", found.keras_version or "2", parts, found.n_numbers)


def _look_into(path: Path) -> Contents:
    with open_plain(path) as handle:
        return look_into(Span.whole(handle, path.name), path)


def _weights_of(archive: Archive, path: Path) -> Contents:
    archive.check_whole(_WEIGHTS)
    found = archive.span(_WEIGHTS)
    return look_into(Span(found.handle, path.name, found.start, found.size), path)


#: Keys of every layer that only mattered to Keras 2, whatever stands there.
_PASSED_OVER = frozenset(("batch_input_shape", "batch_size"))
#: Keys of one class that Keras 3 does not have; each may only hold what changes nothing.
_WITHOUT_EFFECT: Mapping[str, Mapping[str, tuple[Any, ...]]] = {
    "InputLayer": {"sparse": (False,), "ragged": (False,)},
    "BatchNormalization": {
        "fused": (None, False, True),
        "renorm": (False,),
        "renorm_clipping": (None,),
        "renorm_momentum": (0.99,),
        "virtual_batch_size": (None,),
    },
    "DepthwiseConv2D": {"groups": (1,)},
    "SeparableConv2D": {"groups": (1,)},
}
_RENAMED: Mapping[str, Mapping[str, str]] = {
    "InputLayer": {"batch_input_shape": "batch_shape"},
    "LeakyReLU": {"alpha": "negative_slope"},
}
_FUNCTIONAL = "keras.src.models.functional"
#: Of which Keras 3 computes something else under the same name.
_CHANGED = frozenset(("hard_sigmoid",))


def translate(config: Any, name: str) -> dict[str, Any]:
    """Translate the configuration of a network.

    Nothing is allowed here that the check of the result would not have to allow: that is made
    afterwards, as of any file.
    """
    return _Translator(name).model(config)


class _Translator:
    def __init__(self, name: str) -> None:
        self.name = name

    def refuse(self, what: str) -> NoReturn:
        raise UnsafeModelError(
            f"{self.name} {what}; load it in the Keras that made it and save it with Keras 3"
        )

    def model(self, config: Any) -> dict[str, Any]:
        outer = config if isinstance(config, dict) else {}
        kind, inside = outer.get("class_name"), outer.get("config")
        inside = inside if isinstance(inside, dict) else {}
        layers = inside.get("layers")
        if kind not in ("Sequential", "Functional", "Model") or not isinstance(layers, list):
            self.refuse("does not describe a Sequential or Functional network")
        if kind == "Sequential":
            return _object("keras", "Sequential", {"layers": self.with_input(layers)})
        ports = {end: inside.get(end) for end in ("input_layers", "output_layers")}
        called = [self.called(layer) for layer in layers]
        return _object(_FUNCTIONAL, "Functional", {"layers": called, **ports})

    def with_input(self, layers: list[Any]) -> list[dict[str, Any]]:
        """Translate the layers of a Sequential network, whose first one says what comes in."""
        translated = [self.layer(layer) for layer in layers]
        if translated and translated[0]["class_name"] != "InputLayer":
            shape = layers[0]["config"].get("batch_input_shape")
            first = {"batch_shape": shape, "dtype": "float32", "name": "network_input"}
            translated.insert(0, _object("keras.layers", "InputLayer", first))
        return translated

    def called(self, layer: Any) -> dict[str, Any]:
        """Translate a layer of a Functional network, and how it is called."""
        translated = self.layer(layer)
        nodes = layer.get("inbound_nodes")
        if not isinstance(nodes, list):
            self.refuse("does not say what its layers take")
        again = [{"args": self.taken(node), "kwargs": {}} for node in nodes]
        return translated | {"name": layer.get("name"), "inbound_nodes": again}

    def taken(self, node: Any) -> list[Any]:
        # [[layer, call, output, further arguments], ...]
        if not isinstance(node, list) or not all(self.is_plain(tensor) for tensor in node):
            self.refuse("calls a layer in a way that cannot be followed")
        tensors = [
            {"class_name": "__keras_tensor__", "config": {"keras_history": tensor[:3]}}
            for tensor in node
        ]
        return tensors if len(tensors) == 1 else [tensors]

    def is_plain(self, tensor: Any) -> bool:
        if not isinstance(tensor, list) or len(tensor) not in (3, 4):
            return False
        further = tensor[3] if len(tensor) == 4 else {}
        return isinstance(further, dict) and all(
            key == "training" and isinstance(value, bool | None) for key, value in further.items()
        )

    def layer(self, layer: Any) -> dict[str, Any]:
        kind = layer.get("class_name") if isinstance(layer, dict) else None
        config = layer.get("config") if isinstance(layer, dict) else None
        if not isinstance(kind, str) or not isinstance(config, dict):
            self.refuse("holds a layer that does not say what it is")
        if kind in ("Sequential", "Functional", "Model"):
            self.refuse("holds a network inside another")
        renamed = _RENAMED.get(kind, {})
        translated = {}
        for key, value in config.items():
            if key in renamed:
                translated[renamed[key]] = value
            elif key not in _PASSED_OVER and not self.is_without_effect(kind, key, value):
                translated[key] = self.value(kind, key, value)
        return _object("keras.layers", kind, translated)

    def is_without_effect(self, kind: str, key: str, value: Any) -> bool:
        if key not in _WITHOUT_EFFECT.get(kind, {}):
            # Those of the plain kernel that these two classes inherit and do not use.
            unused = kind in ("DepthwiseConv2D", "SeparableConv2D") and key.startswith("kernel_")
            return unused and key != "kernel_size"
        if not any(value == allowed for allowed in _WITHOUT_EFFECT[kind][key]):
            self.refuse(f"has a {kind[:80]} with {key} = {repr(value)[:40]}")
        return True

    def value(self, kind: str, key: str, value: Any) -> Any:
        if key == "activation" and isinstance(value, str) and value in _CHANGED:
            self.refuse(f"uses {value}, which Keras 3 computes in another way")
        if key == "dtype" and isinstance(value, dict):
            return value.get("config", {}).get("name") if _is_policy(value) else value
        if key == "axis" and kind == "BatchNormalization" and isinstance(value, list):
            return value[0] if len(value) == 1 else value
        for ending, module in _MODULES.items():
            if key.endswith(ending) and isinstance(value, dict):
                config = value.get("config")
                if not isinstance(config, dict):
                    self.refuse(f"has a {kind[:80]} with an unreadable {key[:80]}")
                kept = {name: part for name, part in config.items() if name != "dtype"}
                return _object(module, value.get("class_name"), kept)
        return value


_MODULES = {
    "_initializer": "keras.initializers",
    "_regularizer": "keras.regularizers",
    "_constraint": "keras.constraints",
}


def _is_policy(value: dict[str, Any]) -> bool:
    return value.get("class_name") == "Policy" and isinstance(value.get("config"), dict)


def _object(module: str, class_name: Any, config: dict[str, Any]) -> dict[str, Any]:
    return {
        "module": module,
        "class_name": class_name,
        "config": config,
        "registered_name": None,
    }
