"""The front door: the `expunge` command, the embedded stack and the demo."""

__all__: list[str] = []
