"""How fast the network runs here: a table by stage, agreement between precisions, and a peer beside it."""
