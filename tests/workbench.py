"""Run DAGs under test: their task states, their errors, and clears of their tasks."""

from __future__ import annotations

import os
from collections import defaultdict
from pathlib import Path
from typing import Any

from airflow.listeners import hookimpl
from airflow.sdk import DAG

from airflow_claude_batch._airflow.compat import AIRFLOW_VERSION


class Workbench:
    """Builds and runs DAGs, and keeps the errors of their tasks."""

    def __init__(self, path: Path) -> None:
        self.results = path / "results"
        self.errors: dict[str, list[BaseException]] = defaultdict(list)

    def dag(self, dag_id: str, **options: Any) -> DAG:
        """Return a DAG whose tasks have no retries and land under ``results``, unless they override it."""
        return DAG(dag_id, default_args={"retries": 0, "results_path": str(self.results)}, **options)

    def run(self, dag: DAG, **options: Any) -> Run:
        sync_dag(dag)
        return Run(self, dag, dag.test(**options))

    @hookimpl
    def on_task_instance_failed(self, task_instance: Any, error: BaseException) -> None:
        """Keep the error. The callbacks of ``dag.test()`` get it on Airflow 3.3 only, listeners always."""
        self.errors[task_instance.task_id].append(error)


class Run:
    """One run of a DAG."""

    def __init__(self, bench: Workbench, dag: DAG, run: Any) -> None:
        self.bench = bench
        self.dag = dag
        self.run = run

    @property
    def states(self) -> dict[str, str]:
        """The states of the tasks; mapped ones as ``send[0]``."""
        return {
            ti.task_id if ti.map_index < 0 else f"{ti.task_id}[{ti.map_index}]": str(ti.state)
            for ti in self.run.get_task_instances()
        }

    def tries(self, task_id: str, map_index: int = -1) -> int:
        count: int = self.run.get_task_instance(task_id, map_index=map_index).try_number
        return count

    def xcom(self, task_id: str, map_index: int = -1) -> Any:
        """Return what a task returned."""
        ti = self.run.get_task_instance(task_id, map_index=map_index)
        return ti.xcom_pull(task_ids=task_id, map_indexes=map_index)

    def error(self, task_id: str) -> str:
        """Return the last error of a task that failed."""
        return str(self.bench.errors[task_id][-1])

    def folder(self, task_id: str) -> Path:
        """Return the folder of a task's files."""
        return self.bench.results / self.dag.dag_id / self.run.run_id / task_id

    def again(self, dag: DAG, *task_ids: str) -> Run:
        """Clear tasks and run them, with the DAG as it is now."""
        from airflow import settings
        from airflow.models.taskinstance import clear_task_instances

        sync_dag(dag)
        session = settings.Session()
        run = session.merge(self.run, load=True)
        run.dag = self.run.dag
        clear_task_instances([ti for ti in run.get_task_instances(session=session) if ti.task_id in task_ids], session)
        if AIRFLOW_VERSION >= (3, 4):
            _discard_task_state(session, self.dag.dag_id)
        run.state = "running"
        session.commit()
        while run.state == "running":
            session.expire_all()
            ready, _ = run.update_state(session=session)
            for ti in ready:
                if AIRFLOW_VERSION < (3, 4):  # from then on, the clear itself counts the try
                    ti.try_number += 1
                ti.state = "scheduled"
            session.commit()
            # On Airflow 3.0, a trigger that ran within the task leaves it scheduled.
            scheduled = [ti for ti in run.get_task_instances(session=session) if ti.state == "scheduled"]
            assert scheduled or run.state != "running", f"no task can run: {Run(self.bench, dag, run).states}"
            for ti in scheduled:
                _run_task(ti, dag)
        return Run(self.bench, dag, run)


def _discard_task_state(session: Any, dag_id: str) -> None:
    """Do what a clear by the UI or the REST API does from Airflow 3.4 on. It discards that of the cleared tasks."""
    from airflow.models.task_state_store import TaskStateStoreModel

    session.query(TaskStateStoreModel).filter_by(dag_id=dag_id).delete(synchronize_session=False)


def _run_task(ti: Any, dag: DAG) -> None:
    """Run one task, as ``dag.test()`` does."""
    from airflow.sdk.definitions import dag as dags

    task = dag.task_dict[ti.task_id]
    if AIRFLOW_VERSION < (3, 1):
        ti.task = task
        dags._run_task(ti=ti, run_triggerer=True)
    else:
        dags._run_task(ti=ti, task=task, run_triggerer=True)


def sync_dag(dag: DAG) -> None:
    """Write a test's DAG to the database, where ``dag.test()`` reads it from Airflow 3.1 on."""
    if AIRFLOW_VERSION < (3, 1):
        return
    if AIRFLOW_VERSION >= (3, 2):
        from airflow.dag_processing.dagbag import DagBag, sync_bag_to_db
    else:
        from airflow.models.dagbag import DagBag, sync_bag_to_db
    from airflow.models.dagbundle import DagBundleModel
    from airflow.utils.session import create_session

    with create_session() as session:
        session.merge(DagBundleModel(name="testing"))
    bag = DagBag(os.devnull)
    bag.bag_dag(dag)
    sync_bag_to_db(bag, "testing", None)
