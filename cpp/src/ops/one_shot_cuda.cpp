#include "swiftdet/ops/cuda/one_shot.hpp"

#include <cuda_runtime_api.h>

#include <algorithm>
#include <bit>
#include <cstddef>
#include <string>

#include "cuda/check.hpp"
#include "ops/decode_checks.hpp"
#include "ops/decode_geometry.hpp"
#include "ops/image_checks.hpp"
#include "ops/nms_order.hpp"
#include "ops/resize_rows.hpp"
#include "swiftdet/base/error.hpp"
#include "swiftdet/cuda/device.hpp"
#include "swiftdet/cuda/memory.hpp"
#include "swiftdet/cuda/stream.hpp"
#include "swiftdet/ops/cuda/decode.hpp"
#include "swiftdet/ops/cuda/letterbox.hpp"
#include "swiftdet/ops/cuda/nms.hpp"

namespace swiftdet::ops::cuda {
namespace {

/// A stream and device memory for one call; the last work is waited for before anything is freed. What is uploaded from
/// and fetched to must outlive it.
class Errand {
 public:
  explicit Errand(int device) : guard_(checked(device)), stream_(device) {}
  ~Errand() { stream_.synchronize_no_throw(); }
  Errand(const Errand&) = delete;
  Errand& operator=(const Errand&) = delete;

  /// Never null.
  std::byte* reserve(std::size_t bytes) {
    return memory_.emplace_back(stream_.device(), std::max<std::size_t>(bytes, 1)).d_data();
  }
  template <typename T>
  T* upload(std::span<const T> values) {
    std::byte* const d_values = reserve(values.size_bytes());
    if (!values.empty()) stream_.copy_to_device(d_values, values.data(), values.size_bytes());
    return reinterpret_cast<T*>(d_values);
  }
  /// The values are there when it returns.
  template <typename T>
  void fetch(std::span<T> values, const void* d_values) {
    if (!values.empty()) stream_.copy_to_host(values.data(), d_values, values.size_bytes());
    stream_.synchronize();
  }
  [[nodiscard]] swiftdet::cuda::StreamHandle stream() const noexcept { return stream_.handle(); }

 private:
  static int checked(int device) {
    swiftdet::cuda::check_device(device);
    return device;
  }

  swiftdet::cuda::DeviceGuard guard_;
  std::vector<swiftdet::cuda::DeviceBuffer> memory_;
  swiftdet::cuda::Stream stream_;
};

template <typename T>
std::span<const T> one(const T& value) {
  return {&value, 1};
}

/// An image on its way to the device: rows back to back.
struct PackedPixels {
  std::vector<std::uint8_t> pixels;
  Size size{};
  int channels = 3;
  PixelFormat format = PixelFormat::kRgb;
};

PackedPixels packed(const ImageView& view, ChannelOrder order) {
  const std::size_t row = static_cast<std::size_t>(view.size.width) * static_cast<std::size_t>(view.channels);
  PackedPixels result{std::vector<std::uint8_t>(row * static_cast<std::size_t>(view.size.height)), view.size,
                      view.channels, pixel_format(view.channels, order)};
  for (int y = 0; y < view.size.height; ++y) {
    cpu::pack_row(view, y, result.pixels.data() + row * static_cast<std::size_t>(y));
  }
  return result;
}

/// The kernel's planes, float32 [images, 3, target.height, target.width]; the meta is the first image's.
LetterboxMeta run_letterbox(int device, std::span<const PackedPixels> images, const Preprocess& preprocess, Size target,
                            std::span<float> planes) {
  std::vector<LetterboxImage> descriptors;
  LetterboxMeta meta;
  Errand errand(device);
  for (const PackedPixels& image : images) {
    const DeviceImage source{.pixels = errand.upload<std::uint8_t>(image.pixels),
                             .pitch = std::int64_t{image.channels} * image.size.width,
                             .size = image.size,
                             .format = image.format};
    const DescribedImage described = describe_letterbox(source, preprocess, target);
    if (descriptors.empty()) meta = described.meta;
    descriptors.push_back(described.image);
  }
  std::byte* const d_planes = errand.reserve(planes.size_bytes());
  const LetterboxTarget described =
      letterbox_target(d_planes, TensorType::kFloat32, static_cast<std::int32_t>(images.size()), target, preprocess);
  SWIFTDET_CHECK_CUDA(launch_letterbox(errand.upload<LetterboxImage>(descriptors), described, errand.stream()));
  errand.fetch(planes, d_planes);
  return meta;
}

std::size_t plane_values(Size size) {
  return static_cast<std::size_t>(size.height) * static_cast<std::size_t>(size.width);
}

/// The kernel's values are bytes where nothing is scaled.
Preprocess unscaled(Preprocess preprocess) {
  preprocess.divisor = 1.0F;
  preprocess.mean = {0.0F, 0.0F, 0.0F};
  preprocess.std = {1.0F, 1.0F, 1.0F};
  return preprocess;
}

/// The part of a batch that is one image.
TensorView part_of(const TensorView& output, int image) {
  TensorView part;
  part.shape.push_back(1);
  for (std::size_t axis = 1; axis < output.shape.rank(); ++axis) part.shape.push_back(output.shape[axis]);
  part.data = output.data + image * part.shape.volume();
  return part;
}

/// So that no index, taken for a float, is a NaN, and no sum of an index and a step leaves int32.
constexpr std::size_t kMostBoxes = std::size_t{1} << 30U;

}  // namespace

std::vector<std::int64_t> nms_once(int device, std::span<const float> boxes_xyxy, std::span<const float> scores,
                                   std::span<const std::int32_t> classes, const NmsOptions& options) {
  check_nms_options(options);
  const Candidates ordered = in_nms_order(boxes_xyxy, scores, classes);
  if (ordered.size() > kMostBoxes) {
    // Not run in tests: 24 GiB of boxes.
    throw InvalidArgument("nms: expected at most 2^30 boxes on a GPU, got " + std::to_string(ordered.size()));
  }
  const auto count = static_cast<std::int32_t>(ordered.size());
  const std::int32_t most = options.max_det < 0 ? count : std::min(count, options.max_det);
  if (most == 0) return {};

  std::vector<float4> boxes(ordered.size());
  std::vector<float> carried(ordered.size());
  for (std::size_t i = 0; i < ordered.size(); ++i) {
    boxes[i] = {ordered.x1[i], ordered.y1[i], ordered.x2[i], ordered.y2[i]};
    // The kernel hands on a survivor's score without looking at it; wanted here is the survivor's index.
    carried[i] = std::bit_cast<float>(ordered.anchor[i]);
  }
  const DecodeCounts counts{static_cast<unsigned long long>(count), count, count};
  const PackedLayout layout{most};
  const PostprocessItem item =
      postprocess_item({}, {options.iou_threshold, options.class_agnostic, most}, nullptr, {}, {1, 1});
  DecodeHead head;
  head.batch = 1;
  PackedHeader header;
  std::vector<float> survivors;

  Errand errand(device);
  DeviceCandidates candidates;
  candidates.boxes = errand.upload<float4>(boxes);
  candidates.scores = errand.upload<float>(carried);
  candidates.classes = errand.upload<std::int32_t>(ordered.cls);
  candidates.counts = errand.upload(one(counts));
  candidates.capacity = count;
  std::byte* const d_results = errand.reserve(layout.image_bytes());
  SWIFTDET_CHECK_CUDA(launch_nms(head, errand.upload(one(item)), candidates, layout,
                                 errand.reserve(nms_workspace_bytes(1, layout)), d_results, errand.stream()));
  errand.fetch(std::span(&header, 1), d_results);
  survivors.resize(static_cast<std::size_t>(header.count));
  errand.fetch(std::span(survivors), d_results + layout.conf_offset());

  std::vector<std::int64_t> keep(survivors.size());
  std::transform(survivors.begin(), survivors.end(), keep.begin(),
                 [](float index) { return std::int64_t{std::bit_cast<std::int32_t>(index)}; });
  return keep;
}

LetterboxMeta letterbox_once(int device, const ImageView& source, ChannelOrder order, const Preprocess& preprocess,
                             Size target, float* tensor) {
  check_source(source, "letterbox");
  check_side_lengths(target, "letterbox", "target size");
  const PackedPixels image = packed(source, order);
  return run_letterbox(device, one(image), preprocess, target, {tensor, 3 * plane_values(target)});
}

LetterboxMeta letterbox_once(int device, const ImageView& source, ChannelOrder order, const Preprocess& preprocess,
                             Size target, std::uint8_t* tensor) {
  check_side_lengths(target, "letterbox", "target size");
  std::vector<float> values(3 * plane_values(target));
  const LetterboxMeta meta = letterbox_once(device, source, order, unscaled(preprocess), target, values.data());
  std::transform(values.begin(), values.end(), tensor, [](float value) { return static_cast<std::uint8_t>(value); });
  return meta;
}

void resize_once(int device, const ImageView& source, const MutableImageView& target, Interpolation interpolation) {
  check_resize(source, target);
  ImageView colours = source;
  colours.channels = std::min(source.channels, 3);
  std::vector<PackedPixels> images{packed(colours, ChannelOrder::kRgb)};
  if (source.channels == 4) {  // whose last one the kernel ignores: a grey image of its own
    ImageView alpha = source;
    alpha.data += 3 * source.channel_stride;
    alpha.channels = 1;
    images.push_back(packed(alpha, ChannelOrder::kRgb));
  }
  const std::size_t values = plane_values(target.size);
  std::vector<float> planes(images.size() * 3 * values);
  run_letterbox(device, images, unscaled({.mode = ResizeMode::kStretch, .interpolation = interpolation}), target.size,
                planes);
  const auto width = static_cast<std::size_t>(target.size.width);
  for (int y = 0; y < target.size.height; ++y) {
    std::uint8_t* value = target.row(y);
    const std::size_t row = static_cast<std::size_t>(y) * width;
    for (std::size_t x = 0; x < width; ++x) {
      for (int c = 0; c < target.channels; ++c) {
        *value++ = static_cast<std::uint8_t>(planes[static_cast<std::size_t>(c) * values + row + x]);
      }
    }
  }
}

void decode_once(int device, std::span<const TensorView> outputs, const HeadSpec& head, int image,
                 const DecodeOptions& options, Candidates& candidates) {
  check_spec(head);
  check_decode_options(options, head);
  check_image_index(image, measure_head(outputs, head));
  const NmsOptions no_nms{.max_det = 1};
  PostprocessItem item;
  std::vector<float4> boxes;
  DecodeCounts counts{};

  Errand errand(device);
  std::vector<DeviceTensor> tensors;
  for (const TensorView& output : outputs) {
    const TensorView part = part_of(output, image);
    const std::span values(part.data, static_cast<std::size_t>(part.shape.volume()));
    tensors.push_back({errand.upload<float>(values), TensorType::kFloat32, part.shape});
  }
  const DecodeHead described = describe_head(tensors, head);
  const std::uint8_t* const d_classes = options.classes.empty() ? nullptr : errand.upload(options.classes);
  item = postprocess_item(options, no_nms, d_classes, {}, {1, 1});
  const DecodeWorkspace workspace = decode_workspace(
      described, options.max_candidates, errand.reserve(decode_workspace_bytes(described, options.max_candidates)));
  SWIFTDET_CHECK_CUDA(launch_decode(described, errand.upload(one(item)), workspace, errand.stream()));
  const DeviceCandidates& found = workspace.candidates;
  errand.fetch(std::span(&counts, 1), found.counts);
  const auto places = static_cast<std::size_t>(counts.places);
  candidates.resize(places);
  boxes.resize(places);
  errand.fetch(std::span(boxes), found.boxes);
  errand.fetch(std::span(candidates.score), found.scores);
  errand.fetch(std::span(candidates.cls), found.classes);
  errand.fetch(std::span(candidates.anchor), found.anchors);

  std::size_t kept = 0;
  for (std::size_t i = 0; i < places; ++i) {
    if (candidates.cls[i] < 0) continue;  // its box is not finite
    candidates.x1[kept] = boxes[i].x;
    candidates.y1[kept] = boxes[i].y;
    candidates.x2[kept] = boxes[i].z;
    candidates.y2[kept] = boxes[i].w;
    candidates.score[kept] = candidates.score[i];
    candidates.cls[kept] = candidates.cls[i];
    candidates.anchor[kept] = candidates.anchor[i];
    ++kept;
  }
  candidates.resize(kept);
  candidates.dropped = static_cast<std::int64_t>(counts.found) - counts.places;
}

}  // namespace swiftdet::ops::cuda
