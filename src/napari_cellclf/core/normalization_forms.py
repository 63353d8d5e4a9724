"""What can be typed for our normalisations; on its own, since the command line's help lists it."""

from __future__ import annotations

#: What can be typed, and what it means.
FORMS = {
    "zero_mean_unit_variance": "per image and channel",
    "min_max": "each channel of an image stretched from its darkest to its brightest pixel",
    "percentile:LOW,HIGH": "each channel stretched between two percentiles, as percentile:1,99.5",
    "scale_linear": "divided by the largest value of the pixel type: 255, 65535",
    "scale_linear:xN": "divided in the same way, then N times as bright, saturating at 1",
    "fixed:MEAN/STD,...": "mean and spread of the training images, a pair for each channel",
    "imagenet:tf|torch|caffe|raw": "as Keras's preprocess_input of that mode does; raw is 0..255",
}
