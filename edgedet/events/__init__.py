"""What happened before a camera, and who is told? Zones, events, their clips, their store, MQTT."""
