"""`expunge doctor`: what is wrong, and what to do about it."""

from expunge.doctor.findings import Finding, Grade
from expunge.doctor.run import examine

__all__ = ["Finding", "Grade", "examine"]
