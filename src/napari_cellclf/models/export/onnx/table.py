"""Which function writes which layer. What is not here cannot be exported.

The layers are those that `bundles.layers` lets into a bundle.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from napari_cellclf.models.export.onnx import (
    activations,
    convolutions,
    merging,
    normalizations,
    pooling,
    shapes,
)
from napari_cellclf.models.export.onnx.graph import Scope, Value

Convert = Callable[[Scope, Any, list[Any]], Value]

#: By the name of the layer's class.
LAYERS: dict[str, Convert] = {
    "Activation": activations.activation,
    "ELU": activations.elu,
    "LeakyReLU": activations.leaky_relu,
    "PReLU": activations.prelu,
    "ReLU": activations.relu_layer,
    "Softmax": activations.softmax_layer,
    "Conv2D": convolutions.conv,
    "Conv2DTranspose": convolutions.conv_transpose,
    "Dense": convolutions.dense,
    "DepthwiseConv2D": convolutions.depthwise_conv,
    "SeparableConv2D": convolutions.separable_conv,
    "AveragePooling2D": pooling.average_pooling,
    "GlobalAveragePooling2D": pooling.global_average,
    "GlobalMaxPooling2D": pooling.global_max,
    "MaxPooling2D": pooling.max_pooling,
    "BatchNormalization": normalizations.batch_normalization,
    "GroupNormalization": normalizations.group_normalization,
    "LayerNormalization": normalizations.layer_normalization,
    "LayerScale": normalizations.layer_scale,
    "Normalization": normalizations.normalization,
    "Rescaling": normalizations.rescaling,
    "UnitNormalization": normalizations.unit_normalization,
    "Add": merging.merge("Add"),
    "Average": merging.average,
    "Concatenate": merging.concatenate,
    "CustomScaleLayer": merging.custom_scale,
    "Maximum": merging.merge("Max"),
    "Minimum": merging.merge("Min"),
    "Multiply": merging.merge("Mul"),
    "Subtract": merging.merge("Sub"),
    "CenterCrop": shapes.center_crop,
    "Cropping2D": shapes.cropping,
    "Flatten": shapes.flatten,
    "Permute": shapes.permute,
    "RepeatVector": shapes.repeat_vector,
    "Reshape": shapes.reshape,
    "Resizing": shapes.resizing,
    "UpSampling2D": shapes.up_sampling,
    "ZeroPadding2D": shapes.zero_padding,
    # These do something in training only.
    "ActivityRegularization": shapes.identity,
    "AlphaDropout": shapes.identity,
    "Dropout": shapes.identity,
    "GaussianDropout": shapes.identity,
    "GaussianNoise": shapes.identity,
    "Identity": shapes.identity,
    "RandomBrightness": shapes.identity,
    "RandomContrast": shapes.identity,
    "RandomErasing": shapes.identity,
    "RandomFlip": shapes.identity,
    "RandomGaussianBlur": shapes.identity,
    "RandomGrayscale": shapes.identity,
    "RandomHue": shapes.identity,
    "RandomInvert": shapes.identity,
    "RandomPosterization": shapes.identity,
    "RandomRotation": shapes.identity,
    "RandomSaturation": shapes.identity,
    "RandomSharpness": shapes.identity,
    "RandomTranslation": shapes.identity,
    "RandomZoom": shapes.identity,
    "SpatialDropout2D": shapes.identity,
}

#: Operations of ``keras.ops`` inside a functional network, by the name of their class.
OPERATIONS: dict[str, Convert] = {
    "Add": merging.operation("Add"),
    "Divide": merging.operation("Div"),
    "Maximum": merging.operation("Max"),
    "Mean": merging.mean,
    "Minimum": merging.operation("Min"),
    "Multiply": merging.operation("Mul"),
    "Reshape": shapes.reshape_operation,
    "Subtract": merging.operation("Sub"),
    "TrueDivide": merging.operation("Div"),
}
