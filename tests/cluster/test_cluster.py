"""The same rows from a cluster as from this process, also when a worker is killed."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import dask
import distributed
import numpy as np
import pandas as pd
import pytest
import trustme

from napari_cellclf.bundles.bundle import REQUIRED, UNLIKE, ModelBundle, members_of, read_all
from napari_cellclf.bundles.write import write_bundle
from napari_cellclf.cli import main
from napari_cellclf.cluster import classifier as module
from napari_cellclf.cluster.classifier import ClusterClassifier, connect_cluster
from napari_cellclf.core.predictions import Predictions
from napari_cellclf.core.progress import Progress
from napari_cellclf.errors import BundleError, InputError, ServerError
from napari_cellclf.inference.batches import FinishedImages
from napari_cellclf.inference.classifier import Classifier
from napari_cellclf.io.sources import ImageSource, collect_sources

Rows = list[tuple[str, Any]]


@pytest.fixture
def remote(cluster: Any, model: Path, folder: Path) -> Iterator[ClusterClassifier]:
    with connect_cluster(cluster.scheduler_address, model, inputs=[folder]) as remote:
        yield remote


def _rows(stream: Iterator[FinishedImages]) -> Rows:
    rows: Rows = []
    for part in stream:
        answer = part.answer
        if isinstance(answer, Predictions):
            assert answer.unlike_scores is not None
            numbers = np.column_stack([answer.probabilities, answer.unlike_scores])
            rows += zip(answer.ids, numbers, strict=True)
        else:
            rows.append((answer.id, answer.reason))
    return rows


def _compare(found: Rows, wanted: Rows) -> None:
    assert [name for name, _ in found] == [name for name, _ in wanted]
    for (_, one), (_, other) in zip(found, wanted, strict=True):
        if isinstance(other, str):
            assert one == other
        else:
            np.testing.assert_allclose(one, other, atol=1e-6)


def test_the_rows_are_the_same_though_a_worker_is_killed(
    remote: ClusterClassifier, local: Classifier, folder: Path, cluster: Any
) -> None:
    sources = collect_sources([folder])
    told: list[Progress] = []
    stream = remote.stream(sources, batch_size=1, on_progress=told.append)
    first = next(stream)
    # Each worker has begun, or waits for, several chunks.
    victim = next(iter(cluster.workers.values())).pid
    os.kill(victim, signal.SIGKILL)
    found = _rows(iter([first, *stream]))
    _compare(found, _rows(local.stream(sources)))
    assert len(found) == 92
    assert sum(isinstance(answer, str) for _, answer in found) == 2
    assert told[-1] == Progress(90, 90, f"classified {sources[-1].id}")
    assert [one.done for one in told] == sorted(one.done for one in told)


def test_two_clients_do_not_take_away_the_models_of_each_other(
    remote: ClusterClassifier, cluster: Any, model: Path, folder: Path
) -> None:
    sources = collect_sources([folder])[:2]
    with connect_cluster(cluster.scheduler_address, model) as other:
        assert len(_rows(other.stream(sources))) == 2
    assert len(_rows(remote.stream(sources))) == 2


def test_a_stop_is_honoured(remote: ClusterClassifier, folder: Path) -> None:
    sources = collect_sources([folder])
    told: list[Progress] = []
    stopped = remote.stream(
        sources, batch_size=1, on_progress=told.append, should_stop=lambda: len(told) >= 3
    )
    assert 3 <= len(_rows(stopped)) < len(sources)


def test_an_image_that_ends_its_workers_does_not_lose_the_others(
    remote: ClusterClassifier, folder: Path
) -> None:
    sources = collect_sources([folder])[:4]
    sources[2] = ImageSource("deadly", read=partial(os._exit, 1))
    found = _rows(remote.stream(sources))
    assert [name for name, _ in found] == [source.id for source in sources]
    assert [isinstance(answer, str) for _, answer in found] == [False, False, True, False]
    assert found[2][1].startswith("deadly crashed every worker that tried it")


def test_channels_are_chosen_there_as_here(
    remote: ClusterClassifier, local: Classifier, folder: Path
) -> None:
    sources = collect_sources([folder])[:3]
    swapped = {"DNA": "actin", "actin": "DNA"}
    found = _rows(remote.stream(sources, mapping=swapped))
    _compare(found, _rows(local.stream(sources, mapping=swapped)))


def test_workers_without_the_images_say_so(cluster: Any, model: Path, folder: Path) -> None:
    elsewhere = folder / "elsewhere"
    with connect_cluster(cluster.scheduler_address, model, inputs=[elsewhere]) as remote:
        with pytest.raises(ServerError, match=r"does not see .*elsewhere; all workers need"):
            list(remote.stream(collect_sources([folder])))
        assert "worker" in remote.device


def test_workers_compute_with_the_engine_that_was_asked_for(
    cluster: Any, model: Path, folder: Path, tmp_path: Path
) -> None:
    members = members_of(model)
    files: Any = {member: read_all(members, member) for member in REQUIRED}
    files[UNLIKE] = read_all(members, UNLIKE)
    bare = write_bundle(tmp_path / "bare.cellclf", ModelBundle.load(model).spec, files).path
    sources = collect_sources([folder])[:1]
    with connect_cluster(cluster.scheduler_address, bare, engine="keras") as remote:
        assert len(_rows(remote.stream(sources))) == 1
    with (
        connect_cluster(cluster.scheduler_address, bare, engine="onnxruntime") as remote,
        pytest.raises(BundleError, match=r"has no model\.onnx"),
    ):
        _rows(remote.stream(sources))


def test_another_model_of_that_name_is_refused(
    cluster: Any, model: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = module.WantedModel

    def other(path: str, name: str, _: str, *rest: Any) -> Any:
        return real(path, name, "0" * 64, *rest)

    monkeypatch.setattr(module, "WantedModel", other)
    with (
        connect_cluster(cluster.scheduler_address, model) as remote,
        pytest.raises(ServerError, match="has another model named tiny"),
    ):
        list(remote.stream(collect_sources([folder])))


def test_another_version_is_refused(
    cluster: Any, model: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "version", lambda _: "0.0.1")
    with (
        connect_cluster(cluster.scheduler_address, model) as remote,
        pytest.raises(ServerError, match=r"and this is 0\.0\.1; install the same version"),
    ):
        list(remote.stream(collect_sources([folder])))


def test_no_scheduler_is_one_sentence(model: Path) -> None:
    with pytest.raises(ServerError, match="there is no dask scheduler at tcp://127"):
        connect_cluster("tcp://127.0.0.1:9", model, timeout=0.5)


def test_paths_may_be_called_otherwise_here(
    remote: ClusterClassifier, local: Classifier, folder: Path
) -> None:
    sources = [replace(one, id=Path(one.id).name) for one in collect_sources([folder])[:12]]
    _compare(_rows(remote.stream(sources)), _rows(local.stream(sources)))


def test_the_command_line_writes_the_same_table(
    cluster: Any,
    model: Path,
    folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(folder.parent)
    tables = [tmp_path / "cluster.csv", tmp_path / "here.csv"]
    for table, where in zip(tables, (["--scheduler", cluster.scheduler_address], []), strict=True):
        assert main(["predict", str(model), folder.name, "--out", str(table), *where]) == 3
        assert ("of tcp://127.0.0.1" in capsys.readouterr().err) == bool(where)
    found, wanted = (pd.read_csv(table) for table in tables)
    pd.testing.assert_frame_equal(found, wanted, atol=1e-6)
    assert found["image"][0] == f"{folder.name}/000.tif"
    bad = [pd.read_csv(tmp_path / f"{table.stem}.bad_files.csv") for table in tables]
    assert bad[0]["image"].tolist() == bad[1]["image"].tolist()


def test_a_server_is_no_model_for_workers(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["predict", "https://plates.example", str(model), "--scheduler", "tcp://x:1"]
    assert main(arguments) == 1
    assert "wants a model that its workers load" in capsys.readouterr().err


def test_without_distributed_it_says_what_to_install(
    model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(InputError, match=r"pip install .napari-cellclf\[distributed\]"):
        connect_cluster("tcp://127.0.0.1:9", model)


@pytest.mark.usefixtures("tls")
def test_tls_is_that_of_dasks_configuration(model: Path, folder: Path) -> None:
    with (
        distributed.LocalCluster(
            n_workers=1,
            processes=False,
            protocol="tls",
            security=distributed.Security(require_encryption=True),
            dashboard_address=":0",
        ) as encrypted,
        connect_cluster(encrypted.scheduler_address, model) as remote,
    ):
        assert remote.device.endswith(encrypted.scheduler_address)
        assert encrypted.scheduler_address.startswith("tls://")
        assert len(_rows(remote.stream(collect_sources([folder])[:2]))) == 2


@pytest.fixture
def tls(tmp_path: Path) -> Iterator[None]:
    """An authority, and a certificate that scheduler, worker and client share."""
    authority = trustme.CA()
    certificate = authority.issue_cert("127.0.0.1", "localhost")
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    certificate.private_key_and_cert_chain_pem.write_to_path(tmp_path / "node.pem")
    settings = {"distributed.comm.tls.ca-file": str(tmp_path / "ca.pem")}
    for role in ("scheduler", "worker", "client"):
        for part in ("cert", "key"):
            settings[f"distributed.comm.tls.{role}.{part}"] = str(tmp_path / "node.pem")
    with dask.config.set(settings):
        yield
