"""The reference of the vendor: a loop over `MemOSClient.delete_memory`, where it is installed.

    python -m bench.official [--latency-ms 20]

It comes with the package `MemoryOS`, which the project does not need; without it there is no row.
"""

import argparse
import importlib.util
import json
import subprocess
import sys
from typing import Any, Final

from bench.server import Server

WHO: Final = "MemOSClient, a loop"
_LOOP: Final = """
import json, sys, time
from memos.api.client import MemOSClient
client = MemOSClient(api_key="bench", base_url=sys.argv[1])
ids = [f"00000000-0000-4000-8000-{n:012d}" for n in range(100)]
client.delete_memory(memory_ids=ids)
calls, began, cpu = 0, time.monotonic(), time.process_time()
while time.monotonic() - began < float(sys.argv[2]):
    client.delete_memory(memory_ids=ids)
    calls += 1
took, used = time.monotonic() - began, time.process_time() - cpu
print(json.dumps({"per_s": calls / took, "cpu_ms": used / calls * 1000, "seconds": took}))
"""


def measure(server: Server, *, seconds: float) -> dict[str, Any]:
    """Give a row as `bench.calls` has them; one with a `note` when there is nothing to measure."""
    if importlib.util.find_spec("memos") is None:
        return {"who": WHO, "note": "skipped: the package MemoryOS is not installed"}
    command = [sys.executable, "-c", _LOOP, server.base_url, str(seconds)]
    done = subprocess.run(command, capture_output=True, check=False, text=True)
    if done.returncode:
        last = done.stderr.strip().splitlines()[-1] if done.stderr.strip() else "no message"
        return {"who": WHO, "note": f"failed: {last[:100]}"}
    return {"who": WHO, **json.loads(done.stdout.splitlines()[-1])}


def main() -> None:
    """Print the row."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--latency-ms", type=float, default=20.0)
    options = parser.parse_args()
    with Server(latency_ms=options.latency_ms) as server:
        print(measure(server, seconds=3.0))


if __name__ == "__main__":
    main()
