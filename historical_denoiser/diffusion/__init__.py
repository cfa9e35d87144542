"""Restores by sampling from a diffusion model of clean sound."""
