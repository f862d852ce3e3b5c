"""Throughput of the math grader, beside direct calls of math-verify."""
