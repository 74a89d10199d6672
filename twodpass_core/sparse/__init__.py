"""Sparse voxels: the pyramid of voxel grids over a scan, neighbour maps, submanifold convolution and pooling."""
