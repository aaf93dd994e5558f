"""Many people draw at once: latency of the server under load, and whether anything fails.

    pip install -e ".[dev]"
    python benchmarks/serving.py --index=indices/mine                # 50 clients, 2,000 queries

Starts `launch.py serve` on a free port of this machine. Every client sends strokes of its own,
waits for the answer, and sends the next; one query in five asks for photos like one it was shown.
The clients take processor time from the server, as they run beside it. Results:
benchmarks/README.md.
"""

from __future__ import annotations

import argparse
import asyncio
import collections
import json
import pathlib
import platform
import socket
import subprocess
import sys
import time

import httpx2
import numpy as np

ROOT = pathlib.Path(__file__).resolve().parents[1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--index", required=True)
    parser.add_argument("--clients", type=int, default=50)
    parser.add_argument("--queries", type=int, default=2000, help="of all clients together")
    parser.add_argument("--top", type=int, default=24)
    args = parser.parse_args()
    port = _free_port()
    command = [sys.executable, str(ROOT / "launch.py"), "serve", f"--index={args.index}"]
    with subprocess.Popen([*command, f"--port={port}", "--rate=0"]) as server:
        try:
            asyncio.run(_measure(args, f"http://127.0.0.1:{port}", server))
        finally:
            server.terminate()


async def _measure(args: argparse.Namespace, address: str, server: subprocess.Popen) -> None:
    limits = httpx2.Limits(max_connections=args.clients, max_keepalive_connections=args.clients)
    async with httpx2.AsyncClient(base_url=address, limits=limits, timeout=60) as client:
        served = await _ready(client, server)
        statuses: collections.Counter[int] = collections.Counter()
        times: list[float] = []
        shares = np.diff(np.linspace(0, args.queries, args.clients + 1).astype(int))
        started = time.perf_counter()
        await asyncio.gather(
            *(
                _client(client, seed, int(share), args.top, statuses, times)
                for seed, share in enumerate(shares)
            )
        )
        seconds = time.perf_counter() - started
        text = (await client.get("/api/metrics")).text
    counters = dict(line.rsplit(" ", 1) for line in text.splitlines() if line[0] != "#")
    batches = float(counters["sbir_batches_total"])
    ms = 1000 * np.array(times)
    print(
        json.dumps(
            {
                "photos": served["photos"],
                "clients": args.clients,
                "queries": len(times),
                "statuses": dict(statuses),
                "queries_per_s": round(len(times) / seconds, 1),
                "ms": {f"p{q}": round(float(np.percentile(ms, q)), 1) for q in (50, 95, 99, 100)},
                "queries_a_batch": round(float(counters["sbir_queries_total"]) / batches, 2),
                "python": platform.python_version(),
            },
            indent=1,
        )
    )
    if set(statuses) != {200}:
        sys.exit("some queries were not answered")


async def _client(client, seed: int, queries: int, top: int, statuses, times) -> None:
    rng = np.random.default_rng(seed)
    shown: list[str] = []
    for number in range(queries):
        if number % 5 == 4 and shown:
            asked = client.get(f"/api/photos/{rng.choice(shown)}/similar?top={top}")
        else:
            strokes = rng.uniform(0, 1000, (rng.integers(1, 12), 2, 20)).round(1).tolist()
            asked = client.post("/api/search", json={"strokes": strokes, "top": top})
        started = time.perf_counter()
        answer = await asked
        times.append(time.perf_counter() - started)
        statuses[answer.status_code] += 1
        if answer.status_code == 200:
            shown = [result["id"] for result in answer.json()["results"]]


async def _ready(client, server: subprocess.Popen) -> dict:
    while server.poll() is None:
        try:
            return (await client.get("/api/health")).json()
        except httpx2.TransportError:
            await asyncio.sleep(0.2)
    sys.exit("the server has stopped")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


if __name__ == "__main__":
    main()
