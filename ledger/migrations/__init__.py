"""Alembic's scripts, and their SQL."""
