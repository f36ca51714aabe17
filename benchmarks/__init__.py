"""Host side: how fast do models run, and why? Measurements, a planner for boards, and studies behind the documents."""
