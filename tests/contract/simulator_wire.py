"""What a test says to the simulator without the product's client between."""

from typing import Any

import httpx

from memos_api.simulator import SimulatorProcess

__all__ = ["Wire"]

LISTS = (
    "memory_detail_list",
    "preference_detail_list",
    "tool_memory_detail_list",
    "skill_detail_list",
    "profile_detail_list",
    "event_detail_list",
)
KINDS = ("text_mem", "pref_mem", "tool_mem", "skill_mem")


class Wire:
    """Both dialects of one simulator; starts with nothing kept, and with no lies."""

    def __init__(self, simulator: SimulatorProcess) -> None:
        self.control = simulator.control
        self.control.reset()
        self.control.set_limit(None)
        self.control.set_settings(
            lies=[], backend="postgres", database_down=False, comes_back_s=60.0, soft_delete=False
        )
        self._cloud = simulator.base_url
        self._own = simulator.self_hosted_url
        self._http = httpx.Client(
            trust_env=False, headers={"Authorization": f"Token {simulator.api_key}"}
        )

    def close(self) -> None:
        """Close the connection."""
        self._http.close()

    def cloud(self, path: str, body: object = None) -> httpx.Response:
        """Ask the Cloud; without a body it is a GET."""
        method = "GET" if body is None else "POST"
        return self._http.request(method, self._cloud + path, json=body)

    def own(self, path: str, body: object = None) -> httpx.Response:
        """Ask the self-hosted server, without a key; without a body it is a GET."""
        method = "GET" if body is None else "POST"
        with httpx.Client(trust_env=False) as http:
            return http.request(method, self._own + path, json=body)

    def delete(self, dialect: str, **members: object) -> dict[str, Any]:
        """Delete in either dialect."""
        if dialect == "cloud":
            return dict(self.cloud("/delete/memory", members).json())
        return dict(self.own("/product/delete_memory", members).json())

    def listed(self, dialect: str, user: str, **members: object) -> list[str]:
        """Give the ids of one page, or of the whole default cube, each as often as it is there."""
        if dialect == "cloud":
            body = {"user_id": user, "size": 50, **members}
            data = self.cloud("/get/memory", body).json()["data"]
            return [item["id"] for name in LISTS for item in data[name]]
        body = {"mem_cube_id": "default", "user_id": user, **members}
        data = self.own("/product/get_memory", body).json()["data"]
        return [
            item["id"] for kind in KINDS for bucket in data[kind] for item in bucket["memories"]
        ]

    def read(self, dialect: str, memory_id: str) -> dict[str, Any] | None:
        """Give `data` of a by-id read."""
        if dialect == "cloud":
            data = self.cloud(f"/get/memory/{memory_id}").json()["data"]
        else:
            data = self.own(f"/product/get_memory/{memory_id}").json()["data"]
        return None if data is None else dict(data)

    def found(self, dialect: str, user: str) -> set[str]:
        """Give what a search without a threshold finds."""
        body = {"user_id": user, "query": "anything", "relativity": 0}
        if dialect == "cloud":
            data = self.cloud("/search/memory", body).json()["data"]
            return {item["id"] for name in LISTS for item in data[name]}
        data = self.own("/product/search", body).json()["data"]
        return {
            item["id"] for kind in KINDS for bucket in data[kind] for item in bucket["memories"]
        }
