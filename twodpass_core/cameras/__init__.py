"""Cameras: how they project, what ROS says of them, and images without their distortion."""
