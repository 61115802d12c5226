"""`python -S -m deploy.health`: is a service well? For containers' health checks, so it imports as little as it can.

    python -S -m deploy.health triton yolo12n yolo12m     Triton and the ensembles of these tiers are ready
    python -S -m deploy.health streams                    the fleet answers, and its Triton answers it
    python -S -m deploy.health page --port 8089           a web page is there

The exit code is 0 when it is well, 1 when not; one line then says why.
"""

from __future__ import annotations

import http.client
import re
import sys
from collections.abc import Sequence

_TIMEOUT_S = 4.0
_HTTP_PORT, _METRICS_PORT = 8000, 9400


def main(arguments: Sequence[str]) -> int:
    """Exit code as above, 2 for a wrong command line. `--port N` goes before what else is said."""
    words = list(arguments)
    port = int(words.pop(words.index("--port") + 1)) if "--port" in words[:-1] else None
    names = [word for word in words if word != "--port"]
    match names:
        case ["triton", *tiers]:
            problem = triton_problem(tiers, port or _HTTP_PORT)
        case ["streams"]:
            problem = streams_problem(port or _METRICS_PORT)
        case ["page"] if port is not None:
            problem = None if _asked(port, "/")[0] == 200 else "the page is not there"
        case _:
            print("expected `triton TIER…`, `streams` or `page`, and --port N", file=sys.stderr)
            return 2
    if problem is not None:
        print(problem, file=sys.stderr)
    return int(problem is not None)


def triton_problem(tiers: Sequence[str], port: int) -> str | None:
    """Why Triton's HTTP port on this host is not what is wanted; None when it is."""
    if _asked(port, "/v2/health/ready")[0] != 200:
        return "Triton is not ready"
    missing = [tier for tier in tiers if _asked(port, f"/v2/models/{tier}/ready")[0] != 200]
    return f"not ready: {', '.join(missing)}" if missing else None


def streams_problem(port: int) -> str | None:
    """Why the fleet's metrics on this host are not those of a fleet that works; None when they are."""
    status, body = _asked(port, "/metrics")
    if status != 200:
        return "the fleet does not answer"
    up = re.search(r"^y12_server_up (\S+)$", body, re.MULTILINE)
    return None if up is not None and float(up[1]) == 1 else "the fleet runs, its Triton does not answer"


def _asked(port: int, path: str) -> tuple[int, str]:
    """Status and body; status 0 where nobody answers."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=_TIMEOUT_S)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, answer.read().decode(errors="replace")
    except (OSError, http.client.HTTPException):
        return 0, ""
    finally:
        connection.close()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
