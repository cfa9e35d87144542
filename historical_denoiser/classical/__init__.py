"""Restoration without a network: removal of hum and clicks, and noise reduction bin by bin."""
