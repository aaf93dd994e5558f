"""What stands around the application: limits of rate, hosts, headers, and counting.

An ASGI middleware of its own, as every answer passes through it, errors included.
"""

from __future__ import annotations

import collections
import json
import logging
import time
from collections.abc import Callable, Collection

HEADERS = {
    # The page loads nothing from elsewhere and runs nothing inline.
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), microphone=(), geolocation=()",
}
_BUCKETS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)  # seconds
_CLIENTS = 10_000  # addresses that are remembered


class Rate:
    """A token bucket for each address: `rate` a second, twice as many at once.

    Args:
      rate: 0 for no limit.
      clock: seconds that only grow.
    """

    def __init__(self, rate: float, clock: Callable[[], float] = time.monotonic):
        self.rate, self._clock = rate, clock
        self._left: collections.OrderedDict[str, tuple[float, float]] = collections.OrderedDict()

    def allows(self, client: str) -> bool:
        """Takes one token of an address, if it has one."""
        if not self.rate:
            return True
        now, burst = self._clock(), max(1.0, 2 * self.rate)
        left, since = self._left.pop(client, (burst, now))
        left = min(burst, left + (now - since) * self.rate)
        self._left[client] = (left - (left >= 1), now)
        if len(self._left) > _CLIENTS:
            self._left.popitem(last=False)  # the one that was idle for longest
        return left >= 1


class Counts:
    """Answers by route and status, and how long those of a route took, for `/api/metrics`."""

    def __init__(self) -> None:
        self.answers: collections.Counter[tuple[str, int]] = collections.Counter()
        self.seconds: dict[str, float] = collections.defaultdict(float)
        self.within: collections.Counter[tuple[str, float]] = collections.Counter()

    def add(self, route: str, status: int, seconds: float) -> None:
        self.answers[route, status] += 1
        self.seconds[route] += seconds
        for bucket in _BUCKETS:
            self.within[route, bucket] += seconds <= bucket

    def lines(self) -> list[str]:
        """In the text format of Prometheus."""
        lines = ["# TYPE sbir_requests_total counter"]
        for (route, status), count in sorted(self.answers.items()):
            lines.append(f'sbir_requests_total{{route="{route}",status="{status}"}} {count}')
        lines.append("# TYPE sbir_request_seconds histogram")
        for route, seconds in sorted(self.seconds.items()):
            total = sum(count for (of, _), count in self.answers.items() if of == route)
            for bucket in _BUCKETS:
                labels = f'route="{route}",le="{bucket:g}"'
                lines.append(
                    f"sbir_request_seconds_bucket{{{labels}}} {self.within[route, bucket]}"
                )
            lines.append(f'sbir_request_seconds_bucket{{route="{route}",le="+Inf"}} {total}')
            lines.append(f'sbir_request_seconds_sum{{route="{route}"}} {seconds:.6f}')
            lines.append(f'sbir_request_seconds_count{{route="{route}"}} {total}')
        return lines


class Guard:
    """The middleware.

    Args:
      app: what it stands around.
      counts: filled in.
      hosts: names that a request may be for, so that no page elsewhere can reach a server on this
        machine by a name of its own (DNS rebinding); empty for all.
    """

    def __init__(self, app: Callable, *, counts: Counts, hosts: Collection[str]):
        self.app, self.counts, self.hosts = app, counts, frozenset(hosts)

    async def __call__(self, scope: dict, receive: Callable, send: Callable) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started, status = time.perf_counter(), 0

        async def guarded(message: dict) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                own = [(name.encode(), value.encode()) for name, value in HEADERS.items()]
                message = message | {"headers": [*message["headers"], *own]}
            await send(message)

        try:
            if self.hosts and _host(scope) not in self.hosts:
                await _refuse(guarded, 400, "unknown host")
            else:
                await self.app(scope, receive, guarded)
        except Exception:
            logging.getLogger(__name__).exception("%s %s", scope["method"], scope["path"])
            if status:
                raise  # the answer has begun: the connection is closed
            await _refuse(guarded, 500, "an error of the server")
        finally:
            route = getattr(scope.get("endpoint"), "__name__", "none")
            self.counts.add(route, status, time.perf_counter() - started)


def _host(scope: dict) -> str:
    """The host that a request is for, without its port."""
    host = next((value for name, value in scope["headers"] if name == b"host"), b"")
    host = host.decode("latin-1").lower()
    return host.partition("]")[0] + "]" if host.startswith("[") else host.partition(":")[0]


async def _refuse(send: Callable, status: int, reason: str) -> None:
    body = json.dumps({"error": reason}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
