"""The interface of architectures, ours and those of other packages."""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from napari_cellclf.core.extensions import ExtensionPoint
from napari_cellclf.errors import ArchitectureError

if TYPE_CHECKING:
    import keras

    from napari_cellclf.core.normalization import Normalization

#: Height and width in pixels (None for any) and number of channels.
Shape = tuple[int | None, int | None, int]


class Architecture(ABC):
    """A network that can be built for any number of channels and classes.

    Derive from it, write `build`, and offer an instance under the entry point group
    ``napari_cellclf.architectures``, with its name as the name of the entry point. A model that is
    trained with it stores the name, the version and the parameters, not the layers; `build` makes
    the network again when the model is loaded, and the stored weights are put into it by their
    paths. So `build` must always make the same layers under the same names, and it may use layers
    of your own.

    Attributes
    ----------
    name : str
        The name it is known by, in lower case, such as ``"compact-cnn"``.
    description : str
        One sentence for lists of architectures.
    version : int
        Raise it when the same parameters build another network than before.
    default_size : tuple of int, optional
        Height and width in pixels that images are resized to; None keeps each image's own size.
    any_size : bool
        Whether it can be built for images of any size, ``(None, None, C)``.
    pretrained : str, optional
        Where the weights come from that it can start from; None if there are none. An architecture
        that has some takes a parameter `weights`.

    Examples
    --------
    >>> import keras
    >>> class Tiny(Architecture):
    ...     name = "tiny"
    ...     description = "one convolution, for tests"
    ...
    ...     def build(self, input_shape, n_classes, *, filters=4):
    ...         image = keras.Input(input_shape, name="image")
    ...         features = keras.layers.Conv2D(filters, 3, name="conv")(image)
    ...         features = keras.layers.GlobalAveragePooling2D(name="average")(features)
    ...         last = keras.layers.Dense(n_classes, activation="softmax", name="probabilities")
    ...         return keras.Model(image, last(features), name=self.name)
    >>> Tiny().parameters()
    {'filters': 4}
    >>> Tiny().build((None, None, 1), 3).output_shape
    (None, 3)
    """

    name: str
    description: str
    version: ClassVar[int] = 1
    any_size: ClassVar[bool] = True
    pretrained: ClassVar[str | None] = None

    @property
    def default_size(self) -> tuple[int, int] | None:
        """Height and width in pixels that images are resized to; None keeps each image's own."""
        return None

    @abstractmethod
    def build(self, *args: Any, **kwargs: Any) -> keras.Model:
        """Build the network with random weights, or with those that `weights` names.

        Write it as ``build(self, input_shape, n_classes, *, ...)``; what follows the star are your
        parameters, with defaults that JSON can hold. If it has pretrained weights, `weights` can
        also be ``"unfilled"``: build the same layers as for pretrained weights, and leave the
        numbers random; a bundle fills them.

        Parameters
        ----------
        input_shape : tuple of (int or None)
            Height and width in pixels, None for any, and number of channels.
        n_classes : int
            Number of classes, at least 2.

        Returns
        -------
        keras.Model
            Prepared images ``(N, Y, X, C)`` float32 to probabilities ``(N, n_classes)`` float32.

        Raises
        ------
        ArchitectureError
            If it cannot be built so; say what was received and what to give.
        """

    def parameters(self) -> Mapping[str, Any]:
        """Return the parameters of `build` with their defaults, without `weights`.

        Returns
        -------
        mapping of str to object
            What ``--set`` and a search for settings can change.
        """
        declared = inspect.signature(self.build).parameters.values()
        return {
            parameter.name: parameter.default
            for parameter in declared
            if parameter.kind is parameter.KEYWORD_ONLY and parameter.name != "weights"
        }

    def settle(self, parameters: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return the parameters that a run records; `build` is given those when it is loaded.

        Override it where a parameter names something that is looked up, such as a preset: `build`
        must not depend on a connection or on files.
        """
        return parameters

    def normalization(self) -> Normalization:
        """Return what is done to pixels, unless pretrained weights are used on photographs.

        Returns
        -------
        Normalization
            Zero mean and unit variance, per image and channel, unless you override it.
        """
        # Imported late: listing architectures imports no pydantic.
        from napari_cellclf.core.normalization import ZeroMeanUnitVariance

        return ZeroMeanUnitVariance()

    def photograph_normalization(self) -> Normalization | None:
        """Return what the authors of the pretrained weights did to photographs.

        Returns
        -------
        Normalization or None
            None if there are no pretrained weights.
        """
        return None


ARCHITECTURES = ExtensionPoint[Architecture](
    "napari_cellclf.architectures", "architecture", ArchitectureError, Architecture
)
