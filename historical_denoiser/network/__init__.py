"""Below the network's layers: operations on tensors of any Keras backend, settings, weights."""
