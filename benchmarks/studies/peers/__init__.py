"""The same checkpoint through other tools, to compare with; needs packages that are no part of edgedet."""
