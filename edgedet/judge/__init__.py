"""Whether a model finds what it should: agreement of two models, average precision, labels, the accuracy gate."""
