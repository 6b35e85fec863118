// The network's kernel compiled for the CPU. A file of its own, as CMake gives a source one language in a folder.
#include "stand_in_network.cu"  // NOLINT(bugprone-suspicious-include)
