"""Does the camera stand where the calibration says? A number and a picture of it, for every set of scan and image."""
