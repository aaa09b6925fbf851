"""Names the Airflow provider that serves a URI of object storage.

The schemes are those of the providers' own ``fs`` modules, 2026-11: amazon 9.39, google 22.8, microsoft-azure 15.2 and
sftp 7.0. S3 and SFTP need an extra of their provider as well.
"""

from __future__ import annotations

from typing import Final

_PROVIDERS: Final = {
    "apache-airflow-providers-amazon[s3fs]": ("s3", "s3a", "s3n"),
    "apache-airflow-providers-google": ("gs", "gcs"),
    "apache-airflow-providers-microsoft-azure": ("abfs", "abfss", "adl", "msgraph", "sharepoint", "onedrive", "msgd"),
    "apache-airflow-providers-sftp[sshfs]": ("sftp", "ssh"),
}
_PROVIDER_OF: Final = {scheme: provider for provider, schemes in _PROVIDERS.items() for scheme in schemes}
#: Schemes of other tools, for which Airflow has another one.
_OTHER_NAMES: Final = {
    "wasb": "abfs",
    "wasbs": "abfss",
    "az": "abfs",
    "azure": "abfs",
    "aws": "s3",
    "google": "gs",
    "storage": "gs",
}


def install_remedy(uri: str) -> str:
    """Return the sentence that says what to install, or to write, so that Airflow reaches a URI.

    >>> install_remedy("s3://bucket/folder")
    'Install apache-airflow-providers-amazon[s3fs] on every worker.'
    """
    written = uri.partition("://")[0]
    scheme = written.lower()
    if name := _OTHER_NAMES.get(scheme):
        return f"Write {name}:// instead of {written}://, and install {_PROVIDER_OF[name]} on every worker."
    if (provider := _PROVIDER_OF.get(scheme)) is None:
        return f"Install the Airflow provider that serves {written}:// on every worker, or use s3://, gs:// or abfs://."
    if scheme != written:
        return f"Write {scheme}:// in small letters, and install {provider} on every worker."
    return f"Install {provider} on every worker."
