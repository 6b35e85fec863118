// doctest's main, for tests that need a GPU: without one they are skipped (exit code 77), or fail where one is
// promised.
#define DOCTEST_CONFIG_IMPLEMENT
#include <cuda_runtime_api.h>
#include <doctest/doctest.h>

#include <cstdio>
#include <cstdlib>

int main(int argc, char** argv) {
  constexpr int kSkipped = 77;
  int devices = 0;
  const cudaError_t status = cudaGetDeviceCount(&devices);
  if (status != cudaSuccess || devices == 0) {
    std::printf("no GPU: %s\n", status == cudaSuccess ? "the driver shows none" : cudaGetErrorString(status));
    return std::getenv("SWIFTDET_REQUIRE_GPU") != nullptr ? EXIT_FAILURE : kSkipped;
  }
  return doctest::Context(argc, argv).run();
}
