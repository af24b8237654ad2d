"""The embedded scenes, demo and capture, their dataparsers, and the checks of a dataset before training."""
