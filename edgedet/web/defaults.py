"""The live page's constants that options and help texts name, without what serves the page."""

DEFAULT_PLACE = "127.0.0.1:8080"
TOKEN_VARIABLE = "EDGEDET_TOKEN"  # of the environment: a command line can be read by every user of the machine
VIEWER_TOKEN_VARIABLE = "EDGEDET_VIEWER_TOKEN"
UNHEALTHY_S = 30.0  # three of the timeouts after which a camera is opened again
HEALTHY_IF = ("any", "all")
