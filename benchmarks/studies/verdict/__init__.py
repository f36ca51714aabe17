"""Does the verdict without labels agree with the labels?"""
