"""Methods side by side on the same sound: what they gain, what they lose, and how it sounds."""
