"""What calls to servers of this machine have in common: plain http, and no proxy of the user's environment."""

from __future__ import annotations

import ssl
from typing import Any, Final

#: Arguments of httpx. Without ``verify`` it would read all certificates of the system for each client, which takes
#: longer than most calls. This context has none, so it would trust no server.
LOOPBACK: Final[dict[str, Any]] = {"trust_env": False, "verify": ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)}
