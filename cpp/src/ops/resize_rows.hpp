// Resizing row by row, so that a consumer can use each row while it is in the first-level cache.
#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "ops/resize_axis.hpp"
#include "ops/resize_kernels.hpp"
#include "swiftdet/base/image_view.hpp"
#include "swiftdet/ops/resize.hpp"

namespace swiftdet::ops::cpu {

/// Copies row `y` of `image` to `packed`, pixels and channels back to back, reading only what the view describes.
void pack_row(const ImageView& image, int y, std::uint8_t* packed);

/// Makes the rows of a resized image, from the top, keeping its tables and buffers from image to image.
class RowResizer {
 public:
  explicit RowResizer(const ResizeKernels& kernels) : kernels_(&kernels) {}

  /// Sets source and target. Borrows the source's pixels until the last row() call; arguments are taken as checked.
  /// Allocates only where sizes, channels or interpolation differ from the image before.
  void start(const ImageView& source, Size target, Interpolation interpolation);

  /// Lane row `y` of the result (resize_kernels.hpp says what that is), valid until the next call.
  /// To be asked for in ascending order.
  [[nodiscard]] const std::uint8_t* row(int y);

  [[nodiscard]] int lanes() const noexcept { return lane_count(source_.channels); }

 private:
  struct Plan {
    Size source{};
    Size target{};
    int channels = 0;
    Interpolation interpolation = Interpolation::kLinear;
    friend bool operator==(const Plan&, const Plan&) = default;
  };
  /// A source row after the horizontal pass.
  struct LinearRow {
    int index = kNoRow;
    std::vector<std::int16_t> lanes;
  };
  static constexpr int kNoRow = -1;

  void make_plan(const Plan& plan);
  [[nodiscard]] const std::uint8_t* pixels(int y);
  [[nodiscard]] const std::int16_t* linear_source_row(int y, int next_y);
  void halve_row(int y);
  void linear_row(int y);
  void whole_shrink_row(int y);
  void area_row(int y);

  const ResizeKernels* kernels_;
  ImageView source_{};
  Plan plan_{};
  ResizeRule rule_ = ResizeRule::kCopy;

  LinearAxis linear_x_, linear_y_;
  std::vector<std::uint8_t> linear_plan_;  ///< the kernels' own, for linear_x_
  LinearColumns linear_columns_;           ///< views of linear_x_ and linear_plan_
  AreaAxis area_x_, area_y_;
  Size factor_{};  ///< kWholeShrink

  std::vector<std::uint8_t> packed_;  ///< two pixel rows of a source whose pixels do not lie back to back
  std::array<LinearRow, 2> linear_rows_;
  std::vector<std::uint32_t> byte_sums_;  ///< kWholeShrink: column sums of a pixel row
  std::vector<float> area_columns_;       ///< kArea: one source row after the horizontal pass
  int area_columns_index_ = kNoRow;
  std::vector<float> area_sums_;
  std::vector<std::uint8_t> out_;
};

}  // namespace swiftdet::ops::cpu
