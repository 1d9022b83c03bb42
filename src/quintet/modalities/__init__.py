"""Kinds of data: how each is read, encoded, drawn and written."""
