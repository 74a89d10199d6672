"""Rigid transforms, how they change over time, and trees of them."""
