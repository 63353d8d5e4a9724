"""A form that classifies the selected layer, and a table of its predictions."""

import napari
from magicgui import magicgui
from napari.layers import Image

import napari_cellclf as cc


@magicgui(call_button="Classify")
def classify(layer: Image, classifier: cc.Classifier) -> cc.Predictions:
    """Classify each channel image in a layer whose axes are channel, row, column."""
    image = cc.Image(layer.data, "CYX", channels=classifier.bundle.spec.input.channels)
    return classifier.predict(image)


napari.current_viewer().window.add_dock_widget(classify, name="My classifier")
