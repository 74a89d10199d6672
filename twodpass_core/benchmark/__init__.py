"""How fast the network runs here: a table by stage, agreement between precisions, and a peer beside it."""

from twodpass_core.benchmark.run import run_benchmark

__all__ = ["run_benchmark"]
