// From a source image to the network's input tensor in one pass:
// resize, border, channel order, scaling, HWC -> CHW.
#pragma once

#include <array>
#include <cstdint>
#include <memory>

#include "swiftdet/base/image_view.hpp"
#include "swiftdet/base/size.hpp"
#include "swiftdet/ops/resize.hpp"

namespace swiftdet::ops {

/// How the source fills the network's rectangle.
enum class ResizeMode : std::uint8_t {
  kLetterbox,         ///< aspect kept, centred, odd pixel of padding at the bottom / right (YOLOv7, Ultralytics)
  kLetterboxTopLeft,  ///< aspect kept, image at the top left corner
  kStretch,           ///< aspect ignored (DAMO-YOLO)
};

/// What a model wants done to its input. Part of every ModelSpec.
struct Preprocess {
  ResizeMode mode = ResizeMode::kLetterbox;
  Interpolation interpolation = Interpolation::kLinear;
  std::uint8_t pad_value = 114;
  float divisor = 255.0F;                       ///< value = u8 / divisor, correctly rounded
  std::array<float, 3> mean{0.0F, 0.0F, 0.0F};  ///< then (value - mean[c]) / std[c], RGB order
  std::array<float, 3> std{1.0F, 1.0F, 1.0F};

  friend bool operator==(const Preprocess&, const Preprocess&) = default;
};

/// Where the source ended up in the network's rectangle: `x_net = x_source * scale_x + pad_left`.
struct LetterboxMeta {
  double scale_x = 1.0;  ///< letterbox modes: r = min(W / w, H / h) for both axes; stretch: W / w and H / h
  double scale_y = 1.0;
  int pad_left = 0;  ///< px of the network's input, as applied
  int pad_top = 0;

  friend bool operator==(const LetterboxMeta&, const LetterboxMeta&) = default;
};

/// Size of the resized image inside `target` and its placement. Pure geometry.
/// Letterbox: r = min(H / h, W / w), new size rounded half to even, never below 1 px; first-side padding
/// round(pad / 2 - 0.1), half to even. Source: letterbox() of the official YOLOv7 pipeline.
struct LetterboxGeometry {
  Size resized{};
  LetterboxMeta meta{};

  friend bool operator==(const LetterboxGeometry&, const LetterboxGeometry&) = default;
};
[[nodiscard]] LetterboxGeometry letterbox_geometry(Size source, Size target, ResizeMode mode);

/// Whether the padding round the image is to be written, or is there already.
enum class Border : std::uint8_t { kWrite, kInPlace };

/// Letterbox with its coefficient tables and row buffers kept between calls: one per session, one thread at a time.
/// A call with the sizes of the call before allocates nothing.
class Letterbox {
 public:
  Letterbox();
  ~Letterbox();
  Letterbox(Letterbox&&) noexcept;
  Letterbox& operator=(Letterbox&&) noexcept;

  /// Fills `tensor`, contiguous float32 [3, target.height, target.width], RGB planes.
  ///
  /// The pixels equal cv2.resize + copyMakeBorder; 1-channel sources are repeated, alpha is ignored. Where the resized
  /// size is the source's, nothing is resampled. Reads no byte outside the pixels that `source` describes.
  /// Does not keep `source`. Safe from several threads on different objects.
  /// @throw InvalidArgument  a side of source or target outside 1 to 65535 px, a channel count other than 1, 3, 4, a
  ///                         null pointer, a divisor or std that is 0 or not finite, a mean that is not finite.
  ///
  /// With Border::kInPlace only the image is written: the caller vouches that the tensor still holds the border that a
  /// run of the same geometry and preprocess wrote. Over a quarter of a letterboxed video frame's values are border.
  LetterboxMeta run(const ImageView& source, ChannelOrder order, const Preprocess& preprocess, Size target,
                    float* tensor, Border border = Border::kWrite);

  /// The same pixels before scaling, uint8 [3, target.height, target.width], RGB planes.
  /// Of `preprocess`, divisor, mean and std are not used.
  LetterboxMeta run(const ImageView& source, ChannelOrder order, const Preprocess& preprocess, Size target,
                    std::uint8_t* tensor);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace swiftdet::ops
