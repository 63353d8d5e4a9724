"""Compute a network with Keras, whatever its backend. Keras is imported when this is used.

`expose` finds features and feature map in a network, for Keras and for ``model.onnx`` alike.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_cellclf.inference.engine import Computed, asked_for
from napari_cellclf.inference.engine_library import (
    check_process,
    image_too_large,
    is_exhausted,
    or_exhausted,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from napari_cellclf.bundles.bundle import ModelBundle
    from napari_cellclf.bundles.schema import Extra

    #: Tensors of a network, by what they are.
    Found = dict[Extra, Any]

#: Layers between a dense layer and the probabilities.
_AFTER_DENSE = ("Activation", "Dropout", "Identity", "Softmax")
#: Layers and operations between the pooled features and the dense layer, which take one tensor.
_BEFORE_DENSE = (
    *("Activation", "Add", "AlphaDropout", "BatchNormalization", "Dense", "Divide", "Dropout"),
    *("ELU", "GaussianDropout", "Identity", "LayerNormalization", "LeakyReLU", "Multiply", "PReLU"),
    *("ReLU", "Softmax", "Sqrt", "Subtract", "TrueDivide", "UnitNormalization"),
)
_POOLING = ("GlobalAveragePooling2D", "GlobalMaxPooling2D")


class KerasEngine:
    """Computes with a Keras network.

    `network`: ``(N, Y, X, C)`` float32 in, ``(N, K)`` probabilities out.

    Examples
    --------
    >>> import keras
    >>> network = keras.Sequential([
    ...     keras.Input((8, 8, 1)), keras.layers.Flatten(), keras.layers.Dense(2, "softmax")])
    >>> KerasEngine(network)(np.zeros((3, 8, 8, 1), np.float32)).shape
    (3, 2)
    """

    def __init__(self, network: Any) -> None:
        self._network = network
        # Networks that share all layers with it, by what they give besides probabilities.
        self._with_extras: dict[tuple[Extra, ...], Any] = {}

    @classmethod
    def load(cls, bundle: ModelBundle) -> KerasEngine:
        """Rebuild the network of a bundle and give it its weights."""
        check_process(_process(), "Keras")
        # Whatever is wrong with the files is said before Keras is imported, which takes seconds.
        weights, layers = bundle.weights(), bundle.layers()
        from napari_cellclf.inference.rebuild import rebuild_bundle

        return cls(_uncompiled(rebuild_bundle(bundle, weights, layers)))

    @property
    def network(self) -> Any:
        """The Keras model, to be trained on or looked into."""
        return self._network

    @property
    def device(self) -> str:
        """What computes, and where: ``"keras 3.15.1 with tensorflow, cpu:0"``."""
        import keras

        backend = keras.config.backend()
        return f"keras {keras.__version__} with {backend}, {self._place}"

    @property
    def _place(self) -> str:
        """Where the weights lie, such as ``"cpu:0"`` or ``"gpu:0"``."""
        weights = self._network.weights
        place = str(getattr(weights[0].value, "device", "cpu")) if weights else "cpu"
        return place.lower().rsplit("device:", maxsplit=1)[-1]

    @property
    def gives(self) -> frozenset[Extra]:
        """What the network has, in which places, is found when it is first asked for."""
        return frozenset(self._exposed.tensors)

    def __call__(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        """Compute; see `Engine`."""
        return np.asarray(self._predict(self._network, batch), np.float32)

    def compute(
        self, batch: NDArray[np.float32], *, features: bool = False, feature_map: bool = False
    ) -> Computed:
        """Compute; see `Engine`."""
        extras = asked_for(self.gives, features, feature_map)
        if not extras:
            return Computed(self(batch))
        answers = self._predict(self._network_with(extras), batch)
        found = [np.asarray(answer, np.float32) for answer in answers]
        return Computed.of(dict(zip(("probabilities", *extras), found, strict=True)), len(batch))

    @cached_property
    def _exposed(self) -> Exposed:
        return expose(self._network)

    def _network_with(self, extras: tuple[Extra, ...]) -> Any:
        if extras not in self._with_extras:
            self._with_extras[extras] = _uncompiled(self._exposed.giving(extras))
        return self._with_extras[extras]

    def _predict(self, network: Any, batch: NDArray[np.float32]) -> Any:
        # The threads of its backend are not there, and would be waited for for ever.
        check_process(_process(), "Keras")
        try:
            # Not `predict`, which sets up a data pipeline for every call.
            with without_retracing_advice():
                return network.predict_on_batch(batch)
        except or_exhausted(RuntimeError) as error:
            if not is_exhausted(error):
                raise
            raise image_too_large(batch, self._place) from error


@cache
def _process() -> int:
    """Return the process in which Keras was first asked for something here."""
    return os.getpid()


@contextmanager
def without_retracing_advice() -> Iterator[None]:
    """Keep the advice back inside the block."""
    logger = logging.getLogger("tensorflow")
    logger.addFilter(_is_no_advice)
    try:
        yield
    finally:
        logger.removeFilter(_is_no_advice)


def _is_no_advice(record: logging.LogRecord) -> bool:
    return "triggered tf.function retracing" not in str(record.msg)


def _uncompiled(network: Any) -> Any:
    import keras

    if keras.config.backend() == "tensorflow":
        # XLA would compile again for every image and batch size, for seconds each.
        network.jit_compile = False
    return network


@dataclass(frozen=True, eq=False)
class Exposed:
    """A network whose features and feature map were looked for."""

    #: The same layers as the network that was given.
    network: Any
    #: Tensors of it, ``(None, F)`` and ``(None, h, w, C)``, as far as there are any.
    tensors: Found

    def giving(self, extras: Sequence[Extra]) -> Any:
        """Return a network that also gives some of them, after the probabilities."""
        import keras

        if not extras:
            return self.network
        outputs = [self.network.outputs[0], *(self.tensors[extra] for extra in extras)]
        return keras.Model(self.network.inputs[0], outputs, name=self.network.name)


def expose(network: Any) -> Exposed:
    """Find the features and the feature map of a network, also of networks inside it."""
    again, inner = _opened(network)
    return Exposed(again, _at_the_end(again.outputs[0], inner))


def _opened(network: Any) -> tuple[Any, dict[int, Found]]:
    """Call the networks inside a network so that they, too, give what is found in them.

    Returns what each gives, by the id of its first output.
    """
    import keras

    inner: dict[int, Found] = {}
    if not any(isinstance(layer, keras.Model) for layer in network.layers):
        return network, inner

    def call(layer: Any, *arguments: Any, **options: Any) -> Any:
        if not isinstance(layer, keras.Model):
            return layer(*arguments, **options)
        inside, further = _opened(layer)
        end = inside.outputs[0]
        found = _at_the_end(end, further) or _before_dense(end, further)
        if not found:
            return layer(*arguments, **options)
        answer, *others = Exposed(inside, found).giving(tuple(found))(*arguments, **options)
        inner[id(answer)] = dict(zip(found, others, strict=True))
        return answer

    if isinstance(network, keras.Sequential):
        inputs = tensor = keras.Input(network.input_shape[1:], name=network.inputs[0].name)
        for layer in network.layers:
            tensor = call(layer, tensor)
        return keras.Model(inputs, tensor, name=network.name), inner
    again = keras.models.clone_model(
        network, clone_function=lambda layer: layer, call_function=call
    )
    return again, inner


def _at_the_end(tensor: Any, inner: dict[int, Found]) -> Found:
    """Go back from probabilities to the last dense layer, of each network if it is their mean."""
    if id(tensor) in inner:
        return inner[id(tensor)] if "features" in inner[id(tensor)] else {}
    layer, taken = _origin(tensor)
    kind = type(layer).__name__
    if kind == "Dense" and len(taken[0].shape) == 2:
        features: Found = {"features": taken[0]}
        return features | _before_dense(taken[0], inner)
    if kind == "Average":
        return _joined([_at_the_end(one, inner) for one in taken])
    return _at_the_end(taken[0], inner) if kind in _AFTER_DENSE else {}


def _before_dense(tensor: Any, inner: dict[int, Found]) -> Found:
    """Go back from features to what was pooled into them."""
    if id(tensor) in inner:
        return {key: one for key, one in inner[id(tensor)].items() if key == "feature_map"}
    layer, taken = _origin(tensor)
    kind = type(layer).__name__
    pooled = kind in _POOLING and layer.data_format == "channels_last"
    if pooled or (kind == "Mean" and tuple(np.atleast_1d(layer.axis)) == (1, 2)):
        return {"feature_map": taken[0]} if len(taken[0].shape) == 4 else {}
    return _before_dense(taken[0], inner) if kind in _BEFORE_DENSE and len(taken) == 1 else {}


def _joined(members: Sequence[Found]) -> Found:
    """Put the features of several networks one after the other, and the channels of their maps."""
    import keras

    joined: Found = {}
    for extra in members[0]:
        parts = [member[extra] for member in members if extra in member]
        # Maps of one size only.
        if len(parts) == len(members) and len({part.shape[1:-1] for part in parts}) == 1:
            joined[extra] = keras.layers.Concatenate(name=f"{extra}_of_all")(parts)
    return joined


def _origin(tensor: Any) -> tuple[Any, list[Any]]:
    """Return the layer or operation that makes a tensor, and the tensors that it takes."""
    made = tensor._keras_history
    return made.operation, made.operation._inbound_nodes[made.node_index].input_tensors
