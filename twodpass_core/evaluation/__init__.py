"""How good the labels are: metrics as the benchmarks define them, and the files that benchmarks take."""
