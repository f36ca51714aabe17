"""Labels in five minutes: the most telling pictures of a scene, and a page to correct the model's boxes on."""
