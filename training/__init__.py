"""From a folder of pictures to a published classifier."""
