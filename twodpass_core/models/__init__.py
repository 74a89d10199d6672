"""Networks: the student that is deployed, and what trains it."""
