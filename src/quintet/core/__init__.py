"""What every other floor speaks: spaces, families, codecs, settings, likelihoods, errors, random rows."""
