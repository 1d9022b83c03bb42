"""What every model of a data set is measured with."""
