"""What trains a method: trainer, pipeline, optimizers, schedules, checkpoints."""
