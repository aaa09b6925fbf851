"""Load the certificates that a server's certificate is checked with."""

from __future__ import annotations

import functools
import ssl
from pathlib import Path

import httpx

from airflow_claude_batch.api.config import ClientConfig
from airflow_claude_batch.exceptions import ConfigurationError


def ssl_context(config: ClientConfig) -> ssl.SSLContext:
    """Load the certificates. This takes about 50 ms, so call it in a thread, not on an event loop.

    :raises ConfigurationError: the CA file or folder cannot be used.
    """
    if config.base_url.startswith("http:") and config.proxy is None:
        return _unused_context()
    if isinstance(config.verify, bool):
        return httpx.create_ssl_context(verify=config.verify)
    is_folder = Path(config.verify).is_dir()
    try:
        return ssl.create_default_context(
            capath=config.verify if is_folder else None, cafile=None if is_folder else config.verify
        )
    except OSError as error:
        raise ConfigurationError(
            f"The CA file {config.verify} cannot be used: {error.strerror}.",
            "Name a PEM file or a folder of certificates that exists on every worker and triggerer.",
        ) from error


@functools.cache
def _unused_context() -> ssl.SSLContext:
    """Return what httpx asks for although there is no TLS. It has no certificates, so it would trust no server."""
    return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
