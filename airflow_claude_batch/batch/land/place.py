"""Name the task instance that a submission belongs to, and so its folder."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from urllib.parse import unquote


@dataclass(frozen=True, slots=True)
class Place:
    """The names that a submission's folder is made of, below the ``results_path``.

    :param loop: the iteration of a loop that the task instance belongs to.
    """

    dag_id: str
    run_id: str
    task_id: str
    map_index: int = -1
    loop: str | None = None


def id_of_names(*names: str) -> str:
    """Return the id of a submission: the same for each try of a task instance, and unique to the task instance.

    :param names: ids of the DAG, the run and the task, the map index, and the iteration of a loop if there is one.
    """
    # Names of folders may have bytes that are no text. No task has such a name.
    return hashlib.sha256("\0".join(names).encode(errors="surrogatepass")).hexdigest()[:16]


def find_place(folder: str, id_: str) -> tuple[str, Place] | None:
    """Return the folder above all submissions, and the names below it that belong to a submission's task instance.

    None if the folder's names do not have them: long names are shortened.

    :param folder: path or URI of the submission's folder.
    :param id_: the submission's id. It tells which of the folder's names are those of the task.
    """
    names = folder.rstrip("/").split("/")
    for depth in (3, 4, 5):
        if len(names) < depth:
            return None
        above, (dag, run, task, *below) = names[: len(names) - depth], map(unquote, names[len(names) - depth :])
        map_index = below[0] if below and below[0].isdecimal() else "-1"
        loop = [name for name in below if name != map_index]
        if len(loop) < 2 and id_of_names(dag, run, task, map_index, *loop) == id_:
            return "/".join(above), Place(dag, run, task, int(map_index), *loop)
    return None
