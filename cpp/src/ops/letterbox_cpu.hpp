// The fused letterbox on the CPU, with the instruction set as an argument.
#pragma once

#include <cstdint>
#include <optional>

#include "cpu/isa.hpp"
#include "ops/letterbox_kernels.hpp"
#include "ops/resize_rows.hpp"
#include "swiftdet/ops/letterbox.hpp"

namespace swiftdet::ops::cpu {

/// The body of ops::Letterbox: arguments taken as checked.
class Letterbox {
 public:
  explicit Letterbox(swiftdet::cpu::Isa isa);

  LetterboxMeta run(const ImageView& source, ChannelOrder order, const Preprocess& preprocess, Size target,
                    float* tensor, Border border = Border::kWrite);
  /// The same pixels before scaling; of `preprocess`, divisor, mean and std are not used.
  LetterboxMeta run(const ImageView& source, ChannelOrder order, const Preprocess& preprocess, Size target,
                    std::uint8_t* tensor);

 private:
  template <typename T, typename WriteRow>
  LetterboxMeta fill(const ImageView& source, ChannelOrder order, const Preprocess& preprocess, Size target, T* tensor,
                     Border border, const T (&border_values)[3], WriteRow write_row);

  const LetterboxKernels* kernels_;
  RowResizer rows_;
  std::optional<Preprocess> scaled_for_;  ///< what scaling_ was computed from
  PlaneScaling scaling_;
};

}  // namespace swiftdet::ops::cpu
