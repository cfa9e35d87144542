"""The basis of the network's layers: tensor operations, settings, weights."""
