"""Folders of submissions, on a disk and in an object store."""

from __future__ import annotations

import contextlib
import re
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk import task
from airflow.sdk.io import attach
from fsspec.implementations.memory import MemoryFileSystem
from hypothesis import given
from hypothesis import strategies as st
from workbench import Workbench

from airflow_claude_batch._airflow import results_folder
from airflow_claude_batch._airflow.compat import TASK_STATE_SURVIVES_CLEAR
from airflow_claude_batch._airflow.results_folder import (
    check_below_roots,
    folder_at,
    folder_of_file,
    results_root,
    submission_folder,
    submission_id,
)
from airflow_claude_batch._airflow.shared_results import check_results_shared, other_machines
from airflow_claude_batch.batch import storage
from airflow_claude_batch.batch.storage import LocalFolder, ObjectFolder
from airflow_claude_batch.exceptions import ConfigurationError, InputError
from airflow_claude_batch.operators import SendMessageBatchOperator
from airflow_claude_batch.rows import read_rows
from airflow_claude_batch.sensors import MessageBatchSensor


@dataclass
class TaskInstance:
    """The ids of a task instance."""

    dag_id: str = "dag"
    run_id: str = "manual__2026-11-22T09:00:00+00:00"
    task_id: str = "send"
    map_index: int | None = -1


@pytest.fixture
def memory() -> Iterator[MemoryFileSystem]:
    """An object store in this process, as ``memory://``."""
    store = MemoryFileSystem()
    attach(protocol="memory", fs=store)
    store.store.clear()
    yield store
    store.store.clear()


# ---------------------------------------------------------------- which folder


@pytest.mark.parametrize(
    ("ti", "path"),
    [
        pytest.param(TaskInstance(), "dag/manual__2026-11-22T09:00:00+00:00/send", id="plain"),
        pytest.param(TaskInstance(map_index=None), "dag/manual__2026-11-22T09:00:00+00:00/send", id="no map index"),
        pytest.param(TaskInstance(map_index=0), "dag/manual__2026-11-22T09:00:00+00:00/send/0", id="mapped"),
        pytest.param(
            TaskInstance(task_id="group.send"), "dag/manual__2026-11-22T09:00:00+00:00/group.send", id="group"
        ),
        pytest.param(TaskInstance(run_id="../../etc"), "dag/..%2F..%2Fetc/send", id="climbing"),
        pytest.param(TaskInstance(run_id=".."), "dag/%2E%2E/send", id="parent"),
        pytest.param(TaskInstance(dag_id="."), "%2E/manual__2026-11-22T09:00:00+00:00/send", id="itself"),
        pytest.param(TaskInstance(run_id="a b?#%"), "dag/a%20b%3F%23%25/send", id="odd characters"),
    ],
)
def test_folder_of_a_task_instance_is_named_after_it(ti: TaskInstance, path: str, tmp_path: Path) -> None:
    folder = submission_folder(f"{tmp_path}/", ti)

    assert isinstance(folder, LocalFolder)
    assert folder.path == tmp_path / path


NAMES = st.text(min_size=1, max_size=20) | st.text("ä漢😀", min_size=30, max_size=250)


@given(
    first=st.tuples(NAMES, NAMES, NAMES, st.integers(-1, 5)), second=st.tuples(NAMES, NAMES, NAMES, st.integers(-1, 5))
)
def test_folders_never_leave_the_root_and_no_two_tasks_share_one(first: Any, second: Any) -> None:
    folders = [submission_folder("/root", TaskInstance(*names)) for names in (first, second)]

    for folder, names in zip(folders, (first, second), strict=True):
        assert isinstance(folder, LocalFolder)
        parts = folder.path.relative_to("/root").parts
        assert len(parts) == 3 + (names[3] >= 0)
        assert not {"..", "."}.intersection(parts)
        assert max(map(len, parts)) <= 255
    if first != second:
        assert folders[0].uri("") != folders[1].uri("") or first[3] != second[3]
        assert submission_id(TaskInstance(*first)) != submission_id(TaskInstance(*second))


def test_folder_of_ids_in_another_script_can_be_created(tmp_path: Path) -> None:
    """Airflow takes 250 letters of any script, disks take 255 bytes."""
    folders = [submission_folder(str(tmp_path), TaskInstance(dag_id="漢" * 249 + last)) for last in "字語"]
    for folder in folders:
        folder.check_writable()

    assert len({folder.uri("") for folder in folders}) == 2


def test_iterations_of_a_loop_have_submissions_and_folders_of_their_own(tmp_path: Path) -> None:
    """In Airflow 3.4 their map index is -1."""
    loops = [None, "loop-0-aa", "loop-1-aa", "loop-0-bb"]

    assert len({submission_id(TaskInstance(), loop) for loop in loops}) == 4
    folders = [submission_folder(str(tmp_path), TaskInstance(), loop).uri("").rstrip("/") for loop in loops]
    assert [folder.removeprefix(folders[0]) for folder in folders] == ["", "/loop-0-aa", "/loop-1-aa", "/loop-0-bb"]


def test_identity_outside_of_loops_is_that_of_earlier_versions() -> None:
    assert submission_id(TaskInstance()) == "3aa9dd29d4d60675"
    assert submission_id(TaskInstance(map_index=3)) == "939612933c8d0d8a"


def test_submission_is_the_same_for_every_try() -> None:
    assert submission_id(TaskInstance()) == submission_id(TaskInstance())
    assert re.fullmatch("[0-9a-f]{16}", submission_id(TaskInstance()))


def test_root_is_of_the_task_else_the_deployment_else_airflow_home(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("AIRFLOW_HOME", str(tmp_path))
    assert results_root(None) == str(tmp_path / "claude_batch")

    monkeypatch.setenv("AIRFLOW__CLAUDE_BATCH__RESULTS_PATH", "s3://bucket/batches")
    assert results_root(None) == "s3://bucket/batches"
    assert results_root("/mine") == "/mine"


def test_tilde_is_expanded() -> None:
    folder = folder_at("~/batches")

    assert isinstance(folder, LocalFolder)
    assert folder.path == Path.home() / "batches"


@pytest.mark.parametrize(
    ("setting", "expected"),
    [
        pytest.param("", "600", id="empty"),
        pytest.param("0600", "600", id="owner"),
        pytest.param("660", "660", id="group"),
        pytest.param("0o640", "640", id="group reads"),
    ],
)
@pytest.mark.parametrize("form", ["{}", "file://{}"], ids=["path", "URI"])
def test_files_on_a_disk_have_the_mode_that_the_deployment_sets(
    setting: str, expected: str, form: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW__CLAUDE_BATCH__RESULTS_MODE", setting)
    storage.write(folder_at(form.format(tmp_path / "run")), "a.json", b"x")

    assert f"{stat.S_IMODE((tmp_path / 'run' / 'a.json').stat().st_mode):o}" == expected


@pytest.mark.parametrize("setting", ["group", "0400", "0700", "0661", "06600", "-0660", "0b110", "0600.5", "٠٦٠٠"])
def test_mode_that_no_file_can_have_is_refused(setting: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW__CLAUDE_BATCH__RESULTS_MODE", setting)

    with pytest.raises(ConfigurationError, match=r"results_mode is .*\nNothing was sent\.\nSet 0600"):
        folder_at(str(tmp_path))


# ---------------------------------------------------------------- which storage


@pytest.mark.parametrize("uri", ["/data/x", "file:///data/x", "local:///data/x"])
def test_local_uris_are_folders_on_the_disk(uri: str) -> None:
    folder = folder_at(uri)

    assert isinstance(folder, LocalFolder)
    assert folder.uri("a") == "/data/x/a"


def test_other_uris_are_folders_in_an_object_store(memory: MemoryFileSystem) -> None:
    folder = folder_at("memory://bucket/batches/")

    assert isinstance(folder, ObjectFolder)
    assert folder.uri("a.json") == "memory://bucket/batches/a.json"
    with folder.replace_file("a.json") as file:
        file.write(b"x")
    again, name = folder_of_file("memory://bucket/batches/a.json")
    found = again.open(name)
    assert found is not None
    with found:
        assert found.read() == b"x"


def test_folder_of_a_file_is_its_parent() -> None:
    assert folder_of_file("/data/x/results.jsonl")[1] == "results.jsonl"
    assert folder_of_file("/data/x/results.jsonl")[0].uri("b") == "/data/x/b"
    assert folder_of_file("results.jsonl")[0].uri("b") == "b"
    assert folder_of_file("/x.jsonl")[0].uri("b") == "/b"
    assert folder_of_file("../x.jsonl")[0].uri("b") == "../b"


# ---------------------------------------------------------------- paths that cannot be right

WRONG_PATHS = {
    "data/batches": "relative path",
    "./batches": "relative path",
    "..": "relative path",
    "$HOME/batches": "relative path",
    "None": "relative path",
    " /data": "relative path",
    "s3:/typo": "after s3: there must be //",
    "s3:bucket/batches": "after s3: there must be //",
    "S3:/typo": "after S3: there must be //",
    "file:relative": "after file: there must be //",
    "file:/data": "after file: there must be //",
    "file://relative/x": "after file:// there must be an absolute path",
    "local://relative": "after local:// there must be an absolute path",
    "s3:///batches": "after s3:// there must be a bucket",
    "s3://aws_default@/batches": "after s3:// there must be a bucket",
    "gs://": "after gs:// there must be a bucket",
    "C:\\data": "Windows",
    "C:/data": "Windows",
    "c:data": "after c: there must be //",
    "\\\\server\\share": "Windows",
}


@pytest.mark.parametrize(("path", "reason"), WRONG_PATHS.items(), ids=WRONG_PATHS)
def test_path_that_cannot_be_right_is_refused(path: str, reason: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigurationError, match=re.escape(reason)) as refused:
        results_root(path)
    assert "Give an absolute path that all workers share, or a URI" in str(refused.value)

    monkeypatch.setenv("AIRFLOW__CLAUDE_BATCH__RESULTS_PATH", path.replace("$HOME", "home"))
    with pytest.raises(ConfigurationError, match=r"^\[claude_batch\] results_path is "):
        results_root(None)


@pytest.mark.parametrize("path", WRONG_PATHS)
@pytest.mark.parametrize(
    "make",
    [
        lambda path: SendMessageBatchOperator(task_id="ask", messages=["a"], results_path=path),
        lambda path: MessageBatchSensor(task_id="ask", batch="msgbatch_1", results_path=path),
    ],
    ids=["operator", "sensor"],
)
def test_path_that_cannot_be_right_is_refused_when_the_dag_is_parsed(make: Any, path: str) -> None:
    with pytest.raises(ConfigurationError, match=r"^ask: results_path is "):
        make(path)


@pytest.mark.parametrize(
    "path",
    [
        "/data",
        "~/data",
        "~",
        "/",
        "/data/a:b",
        "file:///data",
        "s3://aws_default@bucket",
        "S3://bucket/x",
        "abfss://container@account/x",
        "memory://x",
        "hdfs:///x",
        "{{ var.value.results }}",
    ],
)
def test_other_paths_are_taken(path: str) -> None:
    SendMessageBatchOperator(task_id="ask", messages=["a"], results_path=path)
    if "{" not in path:
        assert results_root(path) == path


def test_relative_home_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW_HOME", "airflow")

    with pytest.raises(ConfigurationError, match=r"^AIRFLOW_HOME is 'airflow': it is a relative path"):
        results_root(None)


# ---------------------------------------------------------------- folders that came by XCom


@pytest.mark.parametrize(
    ("folder", "is_accepted"),
    [
        pytest.param("{home}/claude_batch/dag/run/task", True, id="deployment's"),
        pytest.param("{home}/mine/dag/run/task", True, id="sensor's own"),
        pytest.param("file://{home}/mine/dag/run/task", True, id="as a URI"),
        pytest.param("{home}/claude_batch", False, id="the root itself"),
        pytest.param("{home}/other/dag/run/task", False, id="elsewhere"),
        pytest.param("{home}/claude_batch_2/dag/run/task", False, id="name that begins with the root's"),
        pytest.param("{home}/mine/../other/dag", False, id="climbing"),
        pytest.param("{home}/mine/link/dag", False, id="through a symbolic link"),
        pytest.param("{home}/link_to_mine/dag", True, id="symbolic link into it"),
        pytest.param("dag/run/task", False, id="relative"),
        pytest.param("memory://bucket/dag/run/task", False, id="another store"),
    ],
)
def test_only_folders_below_a_results_path_are_accepted(
    folder: str, is_accepted: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, memory: MemoryFileSystem
) -> None:
    monkeypatch.setenv("AIRFLOW_HOME", str(tmp_path))
    monkeypatch.delenv("AIRFLOW__CLAUDE_BATCH__RESULTS_PATH", raising=False)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "link").symlink_to(tmp_path / "other")
    (tmp_path / "link_to_mine").symlink_to(tmp_path / "mine")

    expected = contextlib.nullcontext() if is_accepted else pytest.raises(InputError, match="not below the results")
    with expected:
        check_below_roots(folder_at(folder.format(home=tmp_path)), [str(tmp_path / "mine"), None])


@pytest.mark.parametrize(
    ("folder", "is_accepted"),
    [
        pytest.param("memory://bucket/batches/dag/run/task", True, id="below"),
        pytest.param("memory://bucket/batches", False, id="the root itself"),
        pytest.param("memory://bucket/batches2/dag", False, id="name that begins with the root's"),
        pytest.param("memory://bucket/batches/../other", False, id="climbing"),
        pytest.param("memory://bucket/batches//dag", False, id="empty segment"),
        pytest.param("/bucket/batches/dag", False, id="disk"),
    ],
)
def test_only_objects_below_a_results_path_are_accepted(
    folder: str, is_accepted: bool, memory: MemoryFileSystem
) -> None:
    expected = contextlib.nullcontext() if is_accepted else pytest.raises(InputError, match="not below the results")
    with expected:
        check_below_roots(folder_at(folder), ["memory://bucket/batches/"])


@pytest.mark.airflow
@pytest.mark.parametrize(
    ("of_operator", "of_sensor", "is_accepted"),
    [
        pytest.param({}, {}, True, id="deployment's"),
        pytest.param({"results_path": "{mine}/{{{{ dag.dag_id }}}}"}, {}, True, id="upstream operator's"),
        pytest.param(None, {"results_path": "{mine}"}, True, id="sensor's own"),
        pytest.param(None, {}, False, id="nobody's"),
    ],
)
def test_sensor_lands_only_below_a_results_path_that_an_author_gave(
    of_operator: dict[str, str] | None,
    of_sensor: dict[str, str],
    is_accepted: bool,
    bench: Workbench,
    claude_default: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Without an operator, the manifest comes from a task that could have written anything."""
    monkeypatch.setenv("AIRFLOW_HOME", str(tmp_path))
    mine = tmp_path / "mine"

    def arguments(given: dict[str, str]) -> Any:
        return {"results_path": None} | {name: path.format(mine=mine) for name, path in given.items()}

    with bench.dag("sent") as dag:
        SendMessageBatchOperator(task_id="send", messages=["a"], results_path=str(mine))
    sent = bench.run(dag)

    @task
    def forged() -> Any:
        return sent.xcom("send")

    with bench.dag("sensed") as dag:
        if of_operator is None:
            batch = forged()
        else:
            batch = SendMessageBatchOperator(task_id="send", messages=["a"], **arguments(of_operator)).output
        MessageBatchSensor(task_id="wait", batch=batch, deferrable=False, **arguments(of_sensor))
    run = bench.run(dag)

    assert run.states["wait"] == ("success" if is_accepted else "failed")
    if not is_accepted:
        assert "batch names a folder that is not below the results_path" in run.error("wait")
        assert "give the sensor the same one" in run.error("wait")
        assert not sent.folder("send").joinpath("results.jsonl").exists()


# ---------------------------------------------------------------- folders that workers share


@pytest.mark.parametrize(
    ("configured", "names"),
    [
        ("LocalExecutor", []),
        ("SequentialExecutor", []),
        ("airflow.executors.local_executor.LocalExecutor", []),
        ("local:LocalExecutor", []),
        ("CeleryExecutor", ["CeleryExecutor"]),
        ("LocalExecutor, CeleryExecutor", ["CeleryExecutor"]),
        ("LocalExecutor,far:my_company.executors.FarExecutor", ["FarExecutor"]),
        ("LocalExecutor;team1=CeleryExecutor;team2=KubernetesExecutor", ["CeleryExecutor", "KubernetesExecutor"]),
    ],
)
def test_executors_that_run_on_other_machines(configured: str, names: list[str]) -> None:
    assert other_machines(configured) == names


def test_pods_of_the_kubernetes_executor_are_configured_as_if_local(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW_IS_K8S_EXECUTOR_POD", "True")

    assert other_machines("LocalExecutor") == ["KubernetesExecutor"]


@pytest.mark.parametrize(
    ("executor", "results_path", "required", "is_refused", "is_warned"),
    [
        pytest.param("CeleryExecutor", None, False, False, True, id="warning"),
        pytest.param("CeleryExecutor", None, True, True, False, id="refused"),
        pytest.param("CeleryExecutor", "/data", True, False, False, id="folder named by the task"),
        pytest.param("LocalExecutor", None, True, False, False, id="one machine"),
    ],
)
def test_default_folder_is_warned_of_or_refused_if_workers_may_not_share_it(
    executor: str,
    results_path: str | None,
    required: bool,
    is_refused: bool,
    is_warned: bool,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setenv("AIRFLOW__CORE__EXECUTOR", executor)
    monkeypatch.setenv("AIRFLOW__CLAUDE_BATCH__REQUIRE_SHARED_RESULTS", str(required))
    monkeypatch.delenv("AIRFLOW__CLAUDE_BATCH__RESULTS_PATH", raising=False)

    with pytest.raises(ConfigurationError, match="Nothing was sent") if is_refused else contextlib.nullcontext():
        check_results_shared(results_path)
    # On 3.3, the ledger is in Airflow's database.
    assert ("pay for everything again" in caplog.text) == (is_warned and not TASK_STATE_SURVIVES_CLEAR)


@pytest.mark.parametrize(
    ("uri", "remedy"),
    [
        ("s3://bucket/x", "Install apache-airflow-providers-amazon[s3fs] on every worker."),
        ("s3a://aws_default@bucket/x", "Install apache-airflow-providers-amazon[s3fs] on every worker."),
        ("gs://bucket/x", "Install apache-airflow-providers-google on every worker."),
        ("gcs://bucket/x", "Install apache-airflow-providers-google on every worker."),
        ("abfs://container/x", "Install apache-airflow-providers-microsoft-azure on every worker."),
        ("adl://container/x", "Install apache-airflow-providers-microsoft-azure on every worker."),
        ("sftp://host/x", "Install apache-airflow-providers-sftp[sshfs] on every worker."),
        (
            "wasb://c/x",
            "Write abfs:// instead of wasb://, and install apache-airflow-providers-microsoft-azure on every ",
        ),
        ("wasbs://c/x", "Write abfss:// instead of wasbs://, and install apache-airflow-providers-microsoft-azure on "),
        ("az://c/x", "Write abfs:// instead of az://, and install apache-airflow-providers-microsoft-azure on every "),
        ("S3://bucket/x", "Write s3:// in small letters, and install apache-airflow-providers-amazon[s3fs] on every "),
        ("hdfs://host/x", "Install the Airflow provider that serves hdfs:// on every worker, or use s3://, gs:// or "),
    ],
)
@pytest.mark.filterwarnings("ignore:UPath")
def test_scheme_without_a_provider_is_refused_with_the_package_to_install(uri: str, remedy: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        folder_at(uri)

    first, money, last = str(caught.value).split("\n")
    assert first.startswith(f"{uri} cannot be reached: ")
    assert len(first) <= 120
    assert money == "Nothing was sent or landed now."
    assert last.startswith(remedy)


def test_password_in_a_uri_is_not_shown() -> None:
    with pytest.raises(ConfigurationError) as caught:
        folder_at("sftp://user:hidden@host/x")

    assert str(caught.value).startswith("sftp://***@host/x cannot be reached")
    assert "hidden" not in str(caught.value)


def test_storage_whose_connection_does_not_exist_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    from airflow_claude_batch._airflow.compat import AirflowNotFoundException

    class Store:
        def __init__(self, uri: str) -> None:
            self.uri = uri

        @property
        def fs(self) -> None:
            raise AirflowNotFoundException("The conn_id `gcp` isn't defined")

    monkeypatch.setattr(results_folder, "ObjectStoragePath", Store)

    with pytest.raises(
        ConfigurationError, match=r"gs://gcp@b/x cannot be reached: The conn_id.*\n.*\nCreate that conn"
    ):
        folder_at("gs://gcp@b/x")


def test_storage_whose_client_raises_an_error_of_its_own_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    class Store:
        def __init__(self, uri: str) -> None:
            self.uri = uri

        @property
        def fs(self) -> None:
            raise RuntimeError("the vault is sealed")

    monkeypatch.setattr(results_folder, "ObjectStoragePath", Store)

    with pytest.raises(ConfigurationError, match=r"s3://c@b/x cannot be reached: the vault is sealed\.\n"):
        folder_at("s3://c@b/x")


# ---------------------------------------------------------------- on Airflow


@pytest.mark.airflow
def test_submissions_are_stored_in_an_object_store(
    bench: Workbench, claude_default: str, simulator: Any, memory: MemoryFileSystem
) -> None:
    @task
    def ids(manifest: dict[str, Any]) -> list[str]:
        return list(manifest["batch_ids"])

    def dag(*messages: str) -> Any:
        with bench.dag("stored") as dag:
            root = {"results_path": "memory://bucket/batches"}
            ask = SendMessageBatchOperator(task_id="ask", messages=list(messages), wait_for_completion=True, **root)
            sent = SendMessageBatchOperator(task_id="send", messages=list(messages), **root)
            MessageBatchSensor(task_id="wait", batch=sent.output, deferrable=False)
            MessageBatchSensor(task_id="foreign", batch=ids(sent.output), deferrable=False, **root)
            ask >> sent
        return dag

    run = bench.run(dag("a", "b"))
    assert set(run.states.values()) == {"success"}
    for task_id, folder in {"ask": "ask", "wait": "send", "foreign": "foreign"}.items():
        manifest = run.xcom(task_id)
        assert manifest["results_path"].startswith("memory://bucket/batches/stored/manual__")
        assert manifest["results_path"].endswith(f"/{folder}/results.jsonl")
        assert len(list(read_rows(manifest))) == 2
    assert not bench.results.exists()
    assert not any(path.endswith((".writable", ".tmp")) for path in memory.store)

    run = run.again(dag("b", "c"), "ask", "send", "wait")
    assert set(run.states.values()) == {"success"}
    assert simulator.books()["billed_requests"] == 6
    assert [row.status for row in read_rows(run.xcom("wait"))] == ["succeeded", "succeeded"]


@pytest.mark.airflow
def test_unwritable_store_is_refused_before_anything_is_sent(
    bench: Workbench, claude_default: str, simulator: Any, memory: MemoryFileSystem, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*args: Any, **options: Any) -> None:
        raise RuntimeError("no credentials for this bucket")

    monkeypatch.setattr(memory, "put_file", refuse)
    with bench.dag("refusing_store") as dag:
        SendMessageBatchOperator(task_id="send", messages=["a"], results_path="memory://bucket/batches")
    run = bench.run(dag)

    assert "memory://bucket/batches/refusing_store/" in run.error("send")
    assert re.search(r"cannot be written \(.*no credentials for this bucket\)\.\nNothing was sent", run.error("send"))
    assert simulator.books()["batches"] == []
