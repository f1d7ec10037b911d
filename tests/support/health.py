"""Asking a process of ours how it is."""

import json
import urllib.error
import urllib.request
from http.client import HTTPException
from typing import Any

__all__ = ["page", "sample", "status"]


def page(port: int, path: str) -> tuple[int, str]:
    """Give HTTP status and text of a page; 0 when nobody answers."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()
    except (OSError, HTTPException):
        return 0, ""


def status(port: int, path: str) -> tuple[int, dict[str, Any]]:
    """Give HTTP status and record of `/livez` or `/readyz`."""
    code, text = page(port, path)
    return code, json.loads(text) if text else {}


def sample(port: int, name: str) -> float | None:
    """Give one sample of `/metrics` by its name and labels as they are written there."""
    for line in page(port, "/metrics")[1].splitlines():
        if line.startswith(f"{name} "):
            return float(line.rpartition(" ")[2])
    return None
