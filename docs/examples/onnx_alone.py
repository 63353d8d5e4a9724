"""Classify an image with an exported ONNX file and nothing of napari-cellclf."""

import json
import sys

import numpy as np
import onnxruntime
from skimage.transform import resize

model, image = sys.argv[1:]  # an .onnx file, and a .npy file of shape (channels, height, width)
session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
about = session.get_modelmeta().custom_metadata_map
preprocessing = json.loads(about["cellclf.preprocessing"])
assert preprocessing["normalization"]["kind"] == "zero_mean_unit_variance"
assert about["cellclf.views"] == "one"

# The channels in the order of json.loads(about["cellclf.channels"]), and last.
pixels = np.moveaxis(np.load(image).astype(np.float32), 0, -1)
if preprocessing["size"] is not None:
    height, width = preprocessing["size"]
    shrinks = height < pixels.shape[0] or width < pixels.shape[1]
    shape = (height, width, pixels.shape[2])
    pixels = resize(pixels, shape, order=1, anti_aliasing=shrinks, preserve_range=True)
deviation = pixels.std(axis=(0, 1), dtype=np.float64)
pixels = (pixels - pixels.mean(axis=(0, 1), dtype=np.float64)) / np.where(deviation, deviation, 1)

batch = pixels[np.newaxis].astype(np.float32)
(probabilities,) = session.run(None, {session.get_inputs()[0].name: batch})
softened = probabilities[0] ** (1 / float(about["cellclf.temperature"]))
softened /= softened.sum()
for number, name in enumerate(json.loads(about["cellclf.classes"])):
    print(f"{name}: {softened[number]:.4f}")
