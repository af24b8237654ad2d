"""Configurations of the methods, one module for each family."""
