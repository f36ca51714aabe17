"""How is a trained network trained further, so that its INT8 file keeps its accuracy?"""
