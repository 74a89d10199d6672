"""Cameras: how they project, and what ROS says of them."""
