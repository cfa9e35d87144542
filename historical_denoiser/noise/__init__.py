"""Noise of old carriers: generated, learned from recordings, found in them."""
