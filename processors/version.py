"""The version of the package, of the image, and of what a process says it is."""

VERSION = "0.1.0"
