"""The same net served by others, each as its own documentation says it is served best; see `benchmarks.serving`."""
