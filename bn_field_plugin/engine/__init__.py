"""The parts that train a method: trainer, pipeline, optimizers, schedules, checkpoints."""
