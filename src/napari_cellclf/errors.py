"""Everything this package raises on purpose, as one tree.

::

    CellclfError
    ├── InputError (ValueError)          what was handed over cannot be used
    │   ├── ImageError                   an image, or the file it should come from
    │   │   ├── UnreadableImageError     damaged, truncated, or not a format we know
    │   │   ├── ImageTooLargeError       declares more pixels than the limit allows
    │   │   └── AxesError                its axes cannot be understood
    │   ├── ChannelMismatchError         the image lacks channels that the model needs
    │   ├── NormalizationError           the pixels cannot be normalised as asked
    │   ├── NameParseError               a file name does not follow its naming scheme
    │   ├── NoImagesError                nothing to read where images were expected
    │   └── DatasetError                 labelled images that cannot be trained on as they are
    │       └── LeakageError             one group of images on both sides of a split
    ├── ModelError                       a trained model, or the file it should come from
    │   ├── ModelNotFoundError           no bundle and no bundled model of that name
    │   ├── BundleError                  not a complete, valid model bundle
    │   │   ├── IntegrityError           a file is not the one its hash was made from
    │   │   └── SelfTestError            the network does not reproduce its stored answer
    │   ├── UnsafeModelError             holds something that could run code or exhaust memory
    │   ├── RegistryError                a list of models to fetch, or an entry of it
    │   ├── ArchitectureError            no such architecture, or parameters it cannot take
    │   ├── EngineError                  an engine is not installed, or cannot compute a model
    │   ├── ExportError                  cannot be written in the format asked for
    │   └── TrainingError                training failed, such as a loss that became NaN
    ├── RunError                         a run folder cannot be used as asked
    │   ├── RunLockedError               another process trains in it
    │   └── CheckpointError              none of its checkpoints can be read
    ├── DownloadError                    a download failed or is not the file expected
    ├── ServerError                      a server that computes for us does not do so
    └── CancelledError                   stopped because the user asked for it

Every message is one sentence that says what was received and what to do about it, fit to be shown
to a user as it stands.
"""

from __future__ import annotations


class CellclfError(Exception):
    """Base of every error that this package raises on purpose."""


class InputError(CellclfError, ValueError):
    """What was handed over cannot be used."""


class ImageError(InputError):
    """An image, or the file it should come from, cannot be used."""


class UnreadableImageError(ImageError):
    """The file is damaged, truncated, or of a format that is not supported."""


class ImageTooLargeError(ImageError):
    """The file declares more pixels than the limit allows."""


class AxesError(ImageError):
    """The axes of an image cannot be understood."""


class ChannelMismatchError(InputError):
    """The image lacks channels that the model needs.

    Parameters
    ----------
    problem : str
        What is wrong.
    remedy : str
        What to do where single images are classified; training has other choices.
    """

    def __init__(self, problem: str, remedy: str = "") -> None:
        super().__init__(f"{problem}; {remedy}" if remedy else problem)
        self.problem = problem


class NormalizationError(InputError):
    """The pixels cannot be normalised as asked."""


class NameParseError(InputError):
    """A file name does not follow the naming scheme it was expected to follow."""


class NoImagesError(InputError):
    """There is nothing to read where images were expected."""


class DatasetError(InputError):
    """Labelled images cannot be trained on, or evaluated with, as they are."""


class LeakageError(DatasetError):
    """Images of one group are on both sides of a split."""


class ModelError(CellclfError):
    """A trained model, or the file it should come from, cannot be used."""


class ModelNotFoundError(ModelError):
    """There is no bundle at that path and no bundled model of that name."""


class BundleError(ModelError):
    """The file or folder is not a complete, valid model bundle."""


class IntegrityError(BundleError):
    """A file inside a bundle is not the one its hash was made from."""


class SelfTestError(BundleError):
    """The network does not reproduce the answer stored beside it."""


class UnsafeModelError(ModelError):
    """A model file holds something that could run code or exhaust memory."""


class RegistryError(ModelError):
    """A list of models that can be fetched, or an entry of it, cannot be used."""


class ArchitectureError(ModelError, ValueError):
    """There is no such architecture, or it cannot take those parameters."""


class EngineError(ModelError):
    """An engine is not installed, or cannot compute a model."""


class ExportError(ModelError):
    """A model cannot be written in the format that was asked for."""


class TrainingError(ModelError):
    """Training failed in a way that it cannot recover from."""


class RunError(CellclfError):
    """The folder of a training run cannot be used as asked."""


class RunLockedError(RunError):
    """Another process is training in the folder."""


class CheckpointError(RunError):
    """None of the checkpoints of a run can be read."""


class DownloadError(CellclfError):
    """A download failed, or what arrived is not the file that was expected."""


class ServerError(CellclfError):
    """A server that computes for this program cannot be reached, refuses, or answers wrongly."""


class CancelledError(CellclfError):
    """The work was stopped because the user asked for it."""
