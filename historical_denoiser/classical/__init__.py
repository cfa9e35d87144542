"""Restoration without a network: clicks cut out and bridged, noise lowered bin by bin."""
