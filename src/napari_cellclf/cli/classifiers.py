"""Where ``cellclf predict`` computes: in this process, at a server, or on a cluster."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from napari_cellclf.cli.labelled import chosen_naming
from napari_cellclf.cli.options import Mappings
from napari_cellclf.errors import InputError

if TYPE_CHECKING:
    from napari_cellclf.cluster.classifier import ClusterClassifier
    from napari_cellclf.inference.classifier import Classifier
    from napari_cellclf.io.sources import ImageSource

    AnyClassifier: TypeAlias = Classifier | ClusterClassifier


def collect(args: argparse.Namespace) -> tuple[list[ImageSource], list[str]]:
    """List what is to be classified, with notes, and refuse a model that is not there."""
    from napari_cellclf.bundles.catalogue import find_model
    from napari_cellclf.io.sources import collect_sources

    naming = args.naming
    if not is_server(args.model):
        naming = chosen_naming(naming, find_model(args.model), args.inputs)
    elif args.scheduler is not None:
        raise InputError("--scheduler wants a model that its workers load, not a server's address")
    elif (args.engine, args.precision) != ("auto", "auto"):
        raise InputError("--engine and --precision are for a model that is loaded, not a server's")
    notes = []
    if naming != args.naming:
        notes.append(f"file names are read as in training: {naming} (change it with --naming)")

    def leave_out(paths: Sequence[Path]) -> None:
        count = "1 image is" if len(paths) == 1 else f"{len(paths)} images are"
        notes.append(f"{count} not named like {naming} and left out, such as {paths[0]}")

    sources = collect_sources(args.inputs, naming, on_left_out=leave_out)
    if args.scheduler is None:
        return sources, notes
    absolute = collect_sources(_absolute(args.inputs), naming)
    return [
        replace(source, read=same.read) for source, same in zip(sources, absolute, strict=True)
    ], notes


@contextmanager
def opened(args: argparse.Namespace, mapping: Mappings | None) -> Iterator[AnyClassifier]:
    """Load the model, or connect to who has it."""
    from napari_cellclf.core.channels import name_overrides

    with _opened(args) as classifier:
        # Before the first image is read: a channel that the model lacks is wrong for all of them.
        name_overrides(classifier.preprocessing.channels, mapping or {})
        yield classifier


@contextmanager
def _opened(args: argparse.Namespace) -> Iterator[AnyClassifier]:
    from napari_cellclf.inference.load import load_classifier
    from napari_cellclf.inference.remote import connect, read_token

    if args.scheduler is not None:
        with _on_cluster(args) as cluster:
            yield cluster
    elif is_server(args.model):
        token = None if args.token_file is None else read_token(args.token_file)
        yield connect(args.model, token)
    else:
        yield load_classifier(args.model, engine=args.engine, precision=args.precision)


def _on_cluster(args: argparse.Namespace) -> ClusterClassifier:
    from napari_cellclf.cluster.classifier import connect_cluster, distributed_library

    distributed_library()

    if not args.verbose:
        # It sets its levels when it is imported, and tells of every worker that comes and goes.
        logging.getLogger("distributed").setLevel(logging.CRITICAL)
    return connect_cluster(
        args.scheduler,
        args.model,
        inputs=_absolute(args.inputs),
        engine=args.engine,
        precision=args.precision,
    )


def is_server(model: str) -> bool:
    """Whether a model is named by a server's address."""
    return model.startswith(("http://", "https://"))


def _absolute(inputs: Sequence[str]) -> list[str]:
    return [str(Path(one).absolute()) for one in inputs]
