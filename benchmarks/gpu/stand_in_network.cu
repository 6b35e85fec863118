#include "stand_in_network.hpp"
#include "swiftdet/cuda/launch.hpp"

namespace swiftdet::bench {

__global__ void network_kernel(const float* images, float* outputs, NetworkSize size) {
  const int predictions = size.predictions();
  const int cell = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
  const int value = static_cast<int>(blockIdx.y);
  const int image = static_cast<int>(blockIdx.z);
  if (cell >= predictions) return;
  const float* const pixels = images + static_cast<std::int64_t>(image) * 3 * size.height * size.width;
  outputs[(static_cast<std::int64_t>(image) * kValues + value) * predictions + cell] =
      network_value(pixels, size, cell, value);
}

cudaError_t launch_network(const float* d_input, float* d_output, NetworkSize size, std::int32_t batch,
                           cudaStream_t stream) {
  constexpr unsigned kBlock = 256;
  const auto blocks = (static_cast<unsigned>(size.predictions()) + kBlock - 1) / kBlock;
  const cuda::LaunchShape shape{dim3(blocks, kValues, static_cast<unsigned>(batch)), dim3(kBlock)};
  return cuda::launch<network_kernel>(shape, stream, d_input, d_output, size);
}

}  // namespace swiftdet::bench
