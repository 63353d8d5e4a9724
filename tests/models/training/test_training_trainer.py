import keras
import numpy as np
import pytest
from training_patterns import config, small

from napari_cellclf.models.augmentation.config import AugmentationConfig
from napari_cellclf.models.augmentation.layers import Grain
from napari_cellclf.models.training.trainer import Trainer

IMAGES = np.random.default_rng(0).normal(size=(4, 24, 24, 1)).astype("float32")
TARGETS = np.eye(2, dtype="float32")[[0, 1, 0, 1]]


@pytest.mark.skipif(keras.config.backend() == "torch", reason="PyTorch computes step by step")
def test_a_step_is_compiled_with_all_that_varies_images(monkeypatch):
    calls = []
    vary = Grain.vary
    monkeypatch.setattr(Grain, "vary", lambda self, x: calls.append(1) or vary(self, x))
    varied = AugmentationConfig(shift=0.1, cutout=0.5)
    trainer = Trainer(small(), config(), (24, 24, 1), varied)
    trainer.step(IMAGES, TARGETS, 1e-3)
    traced = len(calls)
    for _ in range(2):
        trainer.step(IMAGES, TARGETS, 1e-3)
    assert len(calls) == traced


def test_judging_the_averaged_weights_leaves_the_training_as_it_was():
    def trained(judge):
        trainer = Trainer(small(), config(ema=0.9), (24, 24, 1))
        for _ in range(2):
            trainer.step(IMAGES, TARGETS, 1e-2)
            if judge:
                with trainer.averaged():
                    trainer.network.predict_on_batch(IMAGES)
        return trainer.state()

    alone, judged = trained(judge=False), trained(judge=True)
    for name, values in alone.items():
        np.testing.assert_array_equal(judged[name], values)
