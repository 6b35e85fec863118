#include "detector/gpu_session.hpp"

#include <cuda_runtime_api.h>

#include <algorithm>
#include <cstring>
#include <new>
#include <utility>

#include "cuda/check.hpp"
#include "swiftdet/base/error.hpp"

namespace swiftdet {
namespace {

namespace device = ops::cuda;

constexpr std::size_t kAlignment = 256;
/// Pixel memory grows in steps of this, so that a video whose frames differ little settles at once.
constexpr std::size_t kPixelStep = std::size_t{1} << 20U;

std::size_t round_up(std::size_t value, std::size_t unit) { return (value + unit - 1) / unit * unit; }

double milliseconds(std::chrono::steady_clock::duration duration) {
  return std::chrono::duration<double, std::milli>(duration).count();
}

device::TensorType tensor_type(GpuElement type) {
  return type == GpuElement::kFloat32 ? device::TensorType::kFloat32 : device::TensorType::kFloat16;
}

std::size_t row_bytes(const ImageView& view) {
  return static_cast<std::size_t>(view.size.width) * static_cast<std::size_t>(view.channels);
}

/// What an image takes in the block: rows back to back, so that most images are one memcpy.
std::size_t packed_bytes(const GpuSourceImage& image) {
  if (image.on_device) return 0;
  return round_up(row_bytes(image.view) * static_cast<std::size_t>(image.view.size.height), kAlignment);
}

void pack_pixels(const ImageView& view, std::byte* target) {
  const std::size_t bytes = row_bytes(view);
  const auto height = static_cast<std::size_t>(view.size.height);
  if (view.packed_rows() && view.row_stride == static_cast<std::ptrdiff_t>(bytes)) {
    std::memcpy(target, view.data, bytes * height);
    return;
  }
  for (int y = 0; y < view.size.height; ++y, target += bytes) {
    const std::uint8_t* pixel = view.row(y);
    if (view.packed_rows()) {
      std::memcpy(target, pixel, bytes);
      continue;
    }
    auto* out = reinterpret_cast<std::uint8_t*>(target);
    for (int x = 0; x < view.size.width; ++x, pixel += view.pixel_stride) {
      for (int c = 0; c < view.channels; ++c) *out++ = pixel[c * view.channel_stride];
    }
  }
}

template <typename T>
T* place(std::byte* block, std::size_t offset) {
  return reinterpret_cast<T*>(block + offset);
}

}  // namespace

GpuSession::GpuSession(const GpuDetector::Config& config, std::span<const std::size_t> outputs,
                       const GpuSessionKey& wanted)
    : key(wanted), config_(config), stream_(config.engine->device()) {
  const GpuEngine& engine = *config.engine;
  const Shape shape{key.batch, 3, key.size.height, key.size.width};
  context_ = engine.create_context(shape, stream_.handle());

  const auto add_tensor = [&](const Shape& dims, GpuElement type) {
    const auto bytes = static_cast<std::size_t>(dims.volume()) * element_bytes(type);
    return tensors_.emplace_back(engine.device(), std::max(bytes, kAlignment)).d_data();
  };
  void* const d_input = add_tensor(shape, engine.input().type);
  context_->set_input_address(d_input);
  target_ = device::letterbox_target(d_input, tensor_type(engine.input().type), static_cast<std::int32_t>(key.batch),
                                     key.size, config.preprocess);
  const std::vector<Shape>& shapes = context_->output_shapes();
  for (std::size_t i = 0; i < shapes.size(); ++i) {
    context_->set_output_address(i, add_tensor(shapes[i], engine.outputs()[i].type));
  }
  std::vector<device::DeviceTensor> head_tensors;
  for (const std::size_t i : outputs) {
    head_tensors.push_back({tensors_[1 + i].d_data(), tensor_type(engine.outputs()[i].type), shapes[i]});
  }
  head_ = device::describe_head(head_tensors, config.head);
  if (head_.batch != key.batch) {
    // Not run in tests: an engine that contradicts itself; OpenVINO cannot make one.
    throw ModelError("the outputs hold " + std::to_string(head_.batch) + " images for an input of " +
                     shape.to_string());
  }

  const auto batch = static_cast<std::size_t>(key.batch);
  items_offset_ = round_up(batch * sizeof(device::LetterboxImage), kAlignment);
  classes_offset_ = items_offset_ + round_up(batch * sizeof(device::PostprocessItem), kAlignment);
  pixels_offset_ = classes_offset_ + round_up(static_cast<std::size_t>(config.head.num_classes), kAlignment);
}

std::size_t GpuSession::estimated_bytes(const GpuDetector::Config& config, const GpuSessionKey& wanted) {
  // Pixels of a full HD image and more, candidates and what sorts them; outputs are smaller than the input.
  constexpr std::size_t kPerImage = std::size_t{16} << 20U;
  const Shape input{wanted.batch, 3, wanted.size.height, wanted.size.width};
  const std::size_t input_bytes = static_cast<std::size_t>(input.volume()) * element_bytes(config.engine->input().type);
  return config.engine->context_bytes() + 2 * input_bytes + static_cast<std::size_t>(wanted.batch) * kPerImage;
}

GpuSession::~GpuSession() { stream_.synchronize_no_throw(); }  // nothing may run on what is freed next

void GpuSession::reserve(std::size_t pixel_bytes, const CallOptions& options) {
  const int on = stream_.device();
  if (pixels_offset_ + pixel_bytes > block_.bytes() || block_.bytes() == 0) {
    replays_[0].current = replays_[1].current = false;
    const std::size_t bytes = pixels_offset_ + std::max(round_up(pixel_bytes, kPixelStep), kPixelStep);
    block_ = {};  // both generations at once need not fit
    d_block_ = {};
    block_ = cuda::PinnedBuffer(on, bytes);
    d_block_ = cuda::DeviceBuffer(on, bytes);
  }
  if (options.max_candidates > max_candidates_) {
    replays_[0].current = replays_[1].current = false;
    const std::int32_t most = std::max(options.max_candidates, ops::kMaxCandidates);
    max_candidates_ = 0;
    d_decode_ = {};
    d_decode_ = cuda::DeviceBuffer(on, device::decode_workspace_bytes(head_, most));
    max_candidates_ = most;
  }
  if (options.max_det > layout_.capacity) {
    replays_[0].current = replays_[1].current = false;
    const device::PackedLayout layout{options.max_det};
    const auto batch = static_cast<std::size_t>(key.batch);
    layout_ = {};
    results_ = {};
    d_results_ = {};
    d_nms_ = {};
    results_ = cuda::PinnedBuffer(on, batch * layout.image_bytes());
    d_results_ = cuda::DeviceBuffer(on, batch * layout.image_bytes());
    d_nms_ = cuda::DeviceBuffer(on, device::nms_workspace_bytes(head_.batch, layout));
    layout_ = layout;
  }
}

void GpuSession::mark(Mark which, bool timed) const {
  if (timed) marks_[which]->record(stream_.handle());
}

/// Milliseconds of one image of the run that has ended.
double GpuSession::between(Mark begin, Mark end) const {
  return static_cast<double>(marks_[end]->milliseconds_since(*marks_[begin])) / static_cast<double>(image_count_);
}

void GpuSession::queue_run(bool timed) const {
  const auto* const d_images = place<const device::LetterboxImage>(d_block_.d_data(), 0);
  const auto* const d_items = place<const device::PostprocessItem>(d_block_.d_data(), items_offset_);
  SWIFTDET_CHECK_CUDA(device::launch_letterbox(d_images, target_, stream_.handle()));
  mark(kPreprocessed, timed);
  context_->enqueue(stream_.handle());
  mark(kInferred, timed);
  const device::DecodeWorkspace workspace = device::decode_workspace(head_, max_candidates_, d_decode_.d_data());
  SWIFTDET_CHECK_CUDA(device::launch_decode(head_, d_items, workspace, stream_.handle()));
  SWIFTDET_CHECK_CUDA(device::launch_nms(head_, d_items, workspace.candidates, layout_, d_nms_.d_data(),
                                         d_results_.d_data(), stream_.handle()));
  mark(kPostprocessed, timed);
}

/// One run without images outside a capture: engines set themselves up in their first run of a shape.
void GpuSession::warm_up() {
  std::byte* const block = block_.data();
  std::fill_n(place<device::LetterboxImage>(block, 0), key.batch, device::LetterboxImage{});
  std::fill_n(place<device::PostprocessItem>(block, items_offset_), key.batch, device::PostprocessItem{});
  stream_.copy_to_device(d_block_.d_data(), block, pixels_offset_);
  queue_run(false);
  stream_.synchronize();
  warm_ = true;
}

void GpuSession::capture(Replay& replay, bool timed) {
  replay.graph = {};
  replay.current = true;
  if (!capture_refusal_.empty()) return;
  try {
    cuda::Capture capture(stream_);
    queue_run(timed);
    replay.graph = capture.finish();
  } catch (const BackendError& e) {  // the engine cannot be captured: loops, conditions, or a call that waits
    capture_refusal_ = e.what();
  } catch (const CudaError& e) {
    if (e.device_lost()) throw;
    capture_refusal_ = e.what();
  }
}

std::size_t GpuSession::write_block(std::span<const GpuSourceImage> images, const CallOptions& options) {
  std::byte* const block = block_.data();
  std::byte* const d_block = d_block_.d_data();
  auto* const descriptors = place<device::LetterboxImage>(block, 0);
  auto* const items = place<device::PostprocessItem>(block, items_offset_);
  const ops::DecodeOptions decode{.conf_threshold = options.conf,
                                  .multi_label = options.multi_label,
                                  .classes = {},
                                  .max_candidates = options.max_candidates};
  const ops::NmsOptions nms{
      .iou_threshold = options.iou, .class_agnostic = options.class_agnostic, .max_det = options.max_det};
  const std::uint8_t* d_classes = nullptr;
  if (!options.classes.empty()) {
    std::memcpy(block + classes_offset_, options.classes.data(), options.classes.size());
    d_classes = place<const std::uint8_t>(d_block, classes_offset_);
  }
  std::size_t end = pixels_offset_;
  for (std::size_t i = 0; i < images.size(); ++i) {
    const GpuSourceImage& image = images[i];
    device::DeviceImage source;
    source.size = image.view.size;
    source.format = device::pixel_format(image.view.channels, image.order);
    if (image.on_device) {
      source.pixels = image.view.data;
      source.pitch = image.view.row_stride;
    } else {
      pack_pixels(image.view, block + end);
      source.pixels = place<const std::uint8_t>(d_block, end);
      source.pitch = static_cast<std::int64_t>(row_bytes(image.view));
      end += packed_bytes(image);
    }
    const device::DescribedImage described = device::describe_letterbox(source, config_.preprocess, key.size);
    descriptors[i] = described.image;
    items[i] = device::postprocess_item(decode, nms, d_classes, described.meta, image.view.size);
  }
  const auto batch = static_cast<std::size_t>(key.batch);
  std::fill(descriptors + images.size(), descriptors + batch, device::LetterboxImage{});
  std::fill(items + images.size(), items + batch, device::PostprocessItem{});
  return end;
}

void GpuSession::start(std::span<const GpuSourceImage> images, const CallOptions& options) {
  const auto begin = Clock::now();
  std::size_t pixel_bytes = 0;
  for (const GpuSourceImage& image : images) pixel_bytes += packed_bytes(image);
  reserve(pixel_bytes, options);
  if (!warm_) warm_up();
  timed_ = options.timed;
  while (timed_ && marks_.size() < kMarks) {
    marks_.push_back(std::make_unique<cuda::Event>(stream_.device(), cuda::Event::Purpose::kTiming));
  }
  Replay& replay = replays_[timed_ ? 1 : 0];
  if (!replay.current) capture(replay, timed_);

  const std::size_t bytes = write_block(images, options);
  std::optional<cuda::StreamHandle> awaited;
  for (const GpuSourceImage& image : images) {
    if (!image.producer || image.producer == awaited) continue;
    awaited = image.producer;
    if (pixels_ready_ == nullptr) {
      pixels_ready_ = std::make_unique<cuda::Event>(stream_.device(), cuda::Event::Purpose::kOrder);
    }
    pixels_ready_->record(*image.producer);
    pixels_ready_->make_wait(stream_.handle());
  }
  image_count_ = images.size();
  queued_ = Clock::now();
  pack_ms_ = milliseconds(queued_ - begin);

  mark(kBegin, timed_);
  stream_.copy_to_device(d_block_.d_data(), block_.data(), bytes);
  mark(kCopiedIn, timed_);
  if (replay.graph) {
    replay.graph.launch(stream_);
  } else {
    queue_run(timed_);
  }
  stream_.copy_to_host(results_.data(), d_results_.d_data(), image_count_ * layout_.image_bytes());
  mark(kCopiedOut, timed_);
}

void GpuSession::finish(std::span<DetectionsBuffer> results) {
  stream_.synchronize();
  const auto arrived = Clock::now();
  const auto count = static_cast<double>(image_count_);
  StageTimes times{.preprocess_ms = pack_ms_ / count, .inference_ms = milliseconds(arrived - queued_) / count};
  if (timed_) {
    times = {.preprocess_ms = between(kCopiedIn, kPreprocessed),
             .inference_ms = between(kPreprocessed, kInferred),
             .postprocess_ms = between(kInferred, kPostprocessed),
             .transfers = StageTimes::Transfers{.pack_ms = pack_ms_ / count,
                                                .copy_in_ms = between(kBegin, kCopiedIn),
                                                .copy_out_ms = between(kPostprocessed, kCopiedOut)}};
  }
  for (std::size_t i = 0; i < image_count_; ++i) {
    const std::byte* const packed = results_.data() + i * layout_.image_bytes();
    device::PackedHeader header;
    std::memcpy(&header, packed, sizeof(header));
    if (header.count < 0 || header.count > layout_.capacity || header.capacity != layout_.capacity) {
      // Not run in tests: memory that something else has overwritten.
      throw BackendError("the GPU returned a damaged result (" + std::to_string(header.count) + " detections of " +
                         std::to_string(header.capacity) + "); report this");
    }
    const auto k = static_cast<std::size_t>(header.count);
    DetectionsBuffer& result = results[i];
    result.xyxy.resize(4 * k);
    result.conf.resize(k);
    result.cls.resize(k);
    if (k > 0) {  // memcpy takes no null pointers
      std::memcpy(result.xyxy.data(), packed + layout_.xyxy_offset(), 4 * k * sizeof(float));
      std::memcpy(result.conf.data(), packed + layout_.conf_offset(), k * sizeof(float));
      std::memcpy(result.cls.data(), packed + layout_.cls_offset(), k * sizeof(std::int32_t));
    }
    result.truncated = header.truncated;
    result.times = times;
  }
  const double unpacked_ms = milliseconds(Clock::now() - arrived) / count;
  for (std::size_t i = 0; i < image_count_; ++i) {
    StageTimes& known = results[i].times;
    (known.transfers ? known.transfers->unpack_ms : known.postprocess_ms) += unpacked_ms;
  }
}

}  // namespace swiftdet
