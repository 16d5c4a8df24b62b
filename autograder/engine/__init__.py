"""Grader, zygote, worker: who trusts whom is drawn in ARCHITECTURE.md."""
