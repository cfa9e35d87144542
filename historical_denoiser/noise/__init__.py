"""The noise of old carriers: generated, learned from recordings, and found in them."""
