"""The embedded demo scene, its dataparser, and the checks of a dataset before training."""
