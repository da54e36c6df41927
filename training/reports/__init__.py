"""What a run leaves for a person to look at."""

import matplotlib

matplotlib.use("agg")
