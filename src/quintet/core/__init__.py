"""The protocol of families and codecs, spaces, likelihoods, settings, errors and randomness."""
