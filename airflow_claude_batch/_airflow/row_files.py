"""Reads the files that source rows name, from any storage that Airflow reaches."""

from __future__ import annotations

from airflow_claude_batch._airflow.results_folder import object_path


class AirflowFileStore:
    """Storage of files by path or URI. A URI names its connection: ``s3://my_conn@bucket/a.pdf``.

    Example::

        FileBlocks(["s3://my_conn@bucket/{name}.pdf"], AirflowFileStore())
    """

    def size(self, uri: str) -> int | None:
        """Return the bytes of a file, None if the storage does not know them.

        :raises OSError: there is no such file, it is a folder, or the storage failed.
        :raises ConfigurationError: no installed provider serves the URI, or its connection does not exist.
        """
        path = object_path(uri)
        info = path.fs.info(path.path)
        if info.get("type") == "directory":
            raise IsADirectoryError(uri)
        size = info.get("size")
        return None if size is None else int(size)

    def read(self, uri: str, most: int) -> bytes:
        """Read a file. No more than ``most`` bytes are read.

        :raises OSError: there is no such file, or the storage failed.
        """
        path = object_path(uri)
        return bytes(path.fs.cat_file(path.path, start=0, end=most))
