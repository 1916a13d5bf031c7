"""Raw file formats: pure functions from one file to recordings, and back."""
