"""Labels of recorded scans: kept beside the bag, exchanged with labelling tools, proposed by a network."""
