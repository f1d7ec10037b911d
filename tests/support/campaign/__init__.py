"""Random days: anything that may happen in any order, until everything ends and is judged."""
