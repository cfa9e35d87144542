"""From a waveform to a restored waveform. `chain` holds the order of the stages."""
