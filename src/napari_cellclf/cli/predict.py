"""Classify images: files, folders, RxRx1 folders (one row a site), or a table of paths.

MODEL may be the address of a server that `cellclf serve` runs, such as https://plates.example:
images are prepared here, and its network computes there. With --scheduler the workers of a dask
cluster do all of it.

INPUT is any number of image files, folders of images, RxRx1 folders (a plate, an experiment, or
the root), and CSV files with a column `path`, whose other columns go into the table.

A model of objects classifies every object of a label mask, a row each: give the masks with
--objects, let them lie beside their images, or name objects in a CSV file with the columns
`path, mask, object` or the centres `path, y, x`.
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from napari_cellclf.cli.options import (
    NAMING_OF_MODEL,
    Mappings,
    add_batch_size,
    add_channels,
    add_engine,
    add_excel,
    add_naming,
    add_overwrite,
    channel_mapping,
    chosen_naming,
    positive,
)
from napari_cellclf.cli.output import (
    Failures,
    JsonLines,
    Marked,
    Output,
    Screen,
    describe_order,
)
from napari_cellclf.cli.prediction_table import (
    BadFiles,
    Earlier,
    Journal,
    TableFile,
    bad_files_path,
    check_table,
    journal_path,
    partial_path,
    sole_writer,
    table_columns,
    work_key,
)
from napari_cellclf.cli.terminal import ExitCode, ProgressReporter, stop_on_interrupt, stream_style
from napari_cellclf.core.counting import counted
from napari_cellclf.errors import CancelledError, InputError, NoImagesError

if TYPE_CHECKING:
    from napari_cellclf.bundles.schema import BundleSpec
    from napari_cellclf.cluster.classifier import ClusterClassifier
    from napari_cellclf.core.predictions import Predictions
    from napari_cellclf.core.progress import OnProgress
    from napari_cellclf.inference.classifier import Classifier
    from napari_cellclf.inference.prepare import BadImage
    from napari_cellclf.io.sources import ImageSource

    AnyClassifier: TypeAlias = Classifier | ClusterClassifier


#: Images that are named in one sentence.
_MOST_NAMED = 5


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of ``cellclf predict``."""
    add = parser.add_argument
    add(
        "model", metavar="MODEL", help="a model's name, the path of a bundle, or a server's address"
    )
    add("inputs", metavar="INPUT", nargs="+", help="files, folders or CSV files")
    add(
        "--objects",
        metavar="MASKS",
        help="for a model of objects: the folder of their label masks, or the mask of the only "
        "image; by default masks lie beside images, named like them with _masks, _cp_masks or "
        "_labels, or a table names them",
    )
    add("--token-file", type=Path, metavar="FILE", help="a file with the secret of that server")
    add(
        "--scheduler",
        metavar="ADDRESS",
        help="compute on the workers of the dask cluster there, such as tcp://node1:8786; they see "
        "model and images under the same paths",
    )
    _add_output_arguments(parser)
    add_naming(parser, default=NAMING_OF_MODEL)
    add_channels(parser)
    add_batch_size(parser)
    add_engine(parser)


def _add_output_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add(
        "--out",
        type=_table_path,
        metavar="TABLE.csv",
        help="write a table there instead of to the terminal; images that fail are listed in "
        "TABLE.bad_files.csv beside it; the same command resumes an incomplete table",
    )
    add_overwrite(
        parser,
        "replace the table and the files beside it: the list of failed images, and an incomplete "
        "table",
    )
    add(
        "--top-k",
        type=positive,
        default=3,
        metavar="K",
        help="how many classes to show of each image on the terminal and in JSON (default 3); "
        "the table always holds them all",
    )
    add(
        "--sets",
        action="store_true",
        help="add the prediction set of each image to table and JSON: the classes that it may be "
        "of, so that 90 %% of the sets of images like the validation images hold the true class",
    )
    add_excel(parser)
    add("--json", action="store_true", help="print one JSON document a line for each image")


def run(args: argparse.Namespace) -> int:
    """Classify what the arguments name."""
    # Whatever can be wrong without the model is found before the seconds that loading it takes.
    mapping = channel_mapping(args.channels)
    if args.excel and args.out is None:
        raise InputError("--excel is for a table; add --out TABLE.csv")
    if args.out is not None:
        check_table(args.out, args.inputs, overwrite=args.overwrite)
    sources, notes = collect(args)
    style = stream_style(json=args.json)
    with ProgressReporter(style) as reporter:
        for note in notes:
            reporter.note(note)
        reporter.begin(f"loading {args.model}")
        with opened(args, mapping) as classifier:
            if is_server(args.model):
                # Only now is it known what the model looks at.
                sources = with_objects(sources, classifier.bundle.spec, args, reporter.note)
            return _classify(classifier, sources, mapping, args, reporter)


def _classify(
    classifier: AnyClassifier,
    sources: Sequence[ImageSource],
    mapping: Mappings | None,
    args: argparse.Namespace,
    reporter: ProgressReporter,
) -> int:
    failures = Failures(reporter.note)
    noun = "image" if classifier.preprocessing.object_crop is None else "object"
    with ExitStack() as stack:
        # Also if the work ends early.
        stack.callback(failures.conclude)
        outputs, earlier = _open_outputs(stack, classifier, sources, mapping, args, reporter.note)
        good, bad = earlier.rows, len(earlier.bad)
        should_stop = stack.enter_context(stop_on_interrupt())
        stream = classifier.stream(
            sources[earlier.done :],
            mapping=mapping,
            batch_size=args.batch_size,
            on_progress=_after(earlier.done, reporter),
            should_stop=should_stop,
        )
        ordered, empty, marked = False, list[str](), Marked()
        for delivered in stream:
            if sys.stdout.isatty() and (args.json or args.out is None):
                # From now on rows on the same terminal tell how far it is; a bar would spoil them.
                reporter.silence()
            if delivered.by_order and not ordered:
                ordered = True
                expected = classifier.preprocessing.channels
                reporter.note(describe_order(delivered.by_order, expected))
            if delivered.empty is not None:
                empty.append(delivered.empty)
            done, failed = _deliver(delivered.answer, outputs, failures, marked)
            good, bad = good + done, bad + failed
            if delivered.between:
                for output in outputs:
                    output.finished(earlier.done + delivered.done)
        if should_stop():
            raise CancelledError("stopped by Ctrl-C")
        _note_empty(empty, reporter.note)
        if not good:
            raise NoImagesError(_nothing_classified(bad, failures.noun))
    code = _conclude(good, bad, noun, failures.noun, args, reporter, classifier.device)
    # What an earlier process wrote is not counted.
    summary = marked.text(f"new {noun}" if earlier.done else noun)
    if summary and (args.out is not None or not args.json):
        reporter.note(summary)
    return code


def _note_empty(planes: Sequence[str], note: Callable[[str], None]) -> None:
    if planes:
        named = ", ".join(planes[:_MOST_NAMED])
        more = f" and {len(planes) - _MOST_NAMED} more" if len(planes) > _MOST_NAMED else ""
        note(f"there is no object in the mask of {named}{more}, and so no row")


def _nothing_classified(bad: int, noun: str) -> str:
    if not bad:
        return "the masks hold no object; check that they are label masks of these images"
    if bad == 1:
        return f"the only {noun} could not be classified"
    return f"none of the {counted(bad, noun)} could be classified"


def _after(done: int, on_progress: OnProgress) -> OnProgress:
    """Count on from what an earlier process did."""
    return lambda told: on_progress(replace(told, done=told.done + done, total=told.total + done))


def _deliver(
    answer: Predictions | BadImage,
    outputs: Sequence[Output],
    failures: Failures,
    marked: Marked,
) -> tuple[int, int]:
    """Hand an answer to every output; return how many images it holds, and how many failed."""
    from napari_cellclf.core.predictions import Predictions

    if isinstance(answer, Predictions):
        marked.add(answer)
        for output in outputs:
            output.write(answer)
        return len(answer), 0
    failures.add(answer.id, answer.reason)
    for output in outputs:
        output.write_bad(answer.id, answer.reason)
    return 0, 1


def _open_outputs(
    stack: ExitStack,
    classifier: AnyClassifier,
    sources: Sequence[ImageSource],
    mapping: Mappings | None,
    args: argparse.Namespace,
    note: Callable[[str], None],
) -> tuple[list[Output], Earlier]:
    from napari_cellclf.io.tables import said_columns

    outputs: list[Output] = []
    earlier = Earlier()
    threshold = classifier.bundle.spec.unsure_threshold
    if args.sets and classifier.bundle.spec.prediction_sets is None:
        raise InputError(
            f"{classifier.bundle.spec.name} has no threshold for prediction sets; train it again, "
            "with validation images, or leave out --sets"
        )
    if args.out is not None:
        stack.enter_context(sole_writer(args.out))
        of_planes = (fields for source in sources for fields in source.planes.values())
        known = chain((one.metadata for one in sources), of_planes, _object_columns(sources))
        said = said_columns(
            unsure=threshold is not None, unlike=classifier.says_unlike, sets=args.sets
        )
        extra, hidden = table_columns(classifier.classes, known, said)
        for name in hidden:
            note(f"the table has its own column {name}; that of the inputs is left out: rename it")
        fingerprint = classifier.bundle.spec.fingerprint
        how = (fingerprint, args.engine, args.precision, *(["sets"] if args.sets else []))
        key = work_key(how, mapping, extra, sources)
        journal = Journal(journal_path(args.out), key)
        if not args.overwrite:
            earlier = _take_up(journal, args.out, len(sources), note)
        table = TableFile(
            args.out,
            classifier.classes,
            extra,
            note,
            threshold,
            says_unlike=classifier.says_unlike,
            sets=args.sets,
            journal=journal,
            earlier=earlier,
        )
        outputs.append(stack.enter_context(table))
        # Entered last, and so on the disk before the table gets its name.
        outputs.append(stack.enter_context(BadFiles(args.out, earlier.bad)))
    if args.json:
        outputs.append(JsonLines(args.top_k, threshold, sets=args.sets))
    elif args.out is None:
        width = max(len(source.id) for source in sources)
        outputs.append(Screen(args.top_k, width, threshold))
    return outputs, earlier


def _object_columns(sources: Sequence[ImageSource]) -> Iterator[Mapping[str, Any]]:
    """Say which columns objects bring, which are not known before their masks are read."""
    choices = [source.objects for source in sources if source.objects is not None]
    if not choices or not any("path" in source.metadata for source in sources):
        return
    yield dict.fromkeys(("object", "y", "x"), 0)
    if any(choice.mask is not None for choice in choices):
        yield dict.fromkeys(("area", "touches_border"), 0)
    for choice in choices:
        yield from (one.fields for one in choice.chosen or ())


def _take_up(journal: Journal, table: Path, total: int, note: Callable[[str], None]) -> Earlier:
    from napari_cellclf.io.tables import row_sums

    earlier = journal.earlier(row_sums(partial_path(table)), total)
    if earlier.changed:
        note(
            f"{partial_path(table)} was changed after it was written; its rows from number "
            f"{earlier.rows + 1:,} on are computed again"
        )
    if earlier.done:
        note(
            f"resuming: {earlier.done:,} of {counted(total, 'image')} done in {partial_path(table)}"
        )
    return earlier


def _conclude(
    good: int,
    bad: int,
    noun: str,
    failed: str,
    args: argparse.Namespace,
    reporter: ProgressReporter,
    device: str,
) -> int:
    from napari_cellclf.io.csv_tables import mark_for_excel

    reporter.hide()
    table: Path | None = args.out
    if table is not None and args.excel:
        mark_for_excel(table, bad_files_path(table))
    if bad:
        unlisted = "" if args.json or bad == 1 else "; --out lists them"
        where = unlisted if table is None else f", listed in {bad_files_path(table)}"
        reporter.note(f"{counted(bad, failed)} could not be classified{where}")
    if table is not None or not args.json:
        where = "" if table is None else f", in {table}"
        reporter.note(f"{counted(good, noun)} classified on {device}{where}")
    return ExitCode.SOME_FAILED if bad else ExitCode.OK


def _table_path(text: str) -> Path:
    path = Path(text)
    if path.suffix.lower() != ".csv":
        raise argparse.ArgumentTypeError(f"{text!r} does not end in .csv, the only kind of table")
    return path


def collect(args: argparse.Namespace) -> tuple[list[ImageSource], list[str]]:
    """List what is to be classified, with notes, and refuse a model that is not there."""
    from napari_cellclf.bundles.bundle import read_spec
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
    sources = collect_sources(args.inputs, naming, on_note=notes.append)
    if args.scheduler is not None:
        absolute = collect_sources(_absolute(args.inputs), naming)
        sources = [
            replace(source, read=same.read) for source, same in zip(sources, absolute, strict=True)
        ]
    if is_server(args.model):
        return sources, notes
    spec = read_spec(find_model(args.model))
    return with_objects(sources, spec, args, notes.append), notes


def with_objects(
    sources: list[ImageSource],
    spec: BundleSpec,
    args: argparse.Namespace,
    note: Callable[[str], None],
) -> list[ImageSource]:
    """Find the objects of the images, if the model is one for objects."""
    from napari_cellclf.io.masks import find_objects, refuse_objects

    masks: str | None = args.objects
    if spec.input.preprocessing.object_crop is not None:
        if masks is not None and args.scheduler is not None:
            masks = str(Path(masks).absolute())
        try:
            return find_objects(sources, masks, inputs=args.inputs, on_note=note)
        except NoImagesError as error:
            if masks is not None:
                raise
            raise NoImagesError(f"this model classifies objects, but {error} (--objects)") from None
    if masks is not None:
        raise InputError(
            f"--objects names masks, but {spec.name} classifies whole images; use a model that was "
            "trained on objects"
        )
    refuse_objects(sources, spec.name)
    return sources


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
