"""From a waveform to a restored waveform: `chain` has the order of the stages."""
