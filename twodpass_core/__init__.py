"""twodpass: LiDAR semantic segmentation, trained with camera images, deployed without a camera. No ROS below this package."""
