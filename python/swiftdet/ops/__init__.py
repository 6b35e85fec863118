"""The pipeline's operations, one by one, for arrays: what the detector does inside, to test or to build on."""
