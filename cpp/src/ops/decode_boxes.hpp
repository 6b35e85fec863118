// Boxes of the candidates that stay, for every layout.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "ops/decode_formulas.hpp"
#include "ops/decode_geometry.hpp"
#include "ops/decode_kernels.hpp"
#include "swiftdet/base/tensor_view.hpp"
#include "swiftdet/ops/head.hpp"

namespace swiftdet::ops {

class BoxDecoder {
 public:
  explicit BoxDecoder(const cpu::DecodeKernels& kernels) : kernels_(&kernels) {}

  /// boxes[i] = the box of prediction anchors[i] of batch item `image`; the shapes have been checked.
  void decode(std::span<const TensorView> outputs, std::int64_t image, const HeadSpec& head,
              const HeadGeometry& geometry, std::span<const std::int32_t> anchors, std::span<Box> boxes);

 private:
  void decode_distributions(std::span<const TensorView> outputs, std::int64_t image, const HeadSpec& head,
                            const HeadGeometry& geometry, std::span<const std::int32_t> anchors, std::span<Box> boxes);

  const cpu::DecodeKernels* kernels_;
  std::vector<std::int32_t> members_;  ///< candidates of one level
  std::vector<std::int32_t> offsets_;  ///< their four distributions
  std::vector<float> distances_;
};

}  // namespace swiftdet::ops
