// Times of the CUDA kernels and of the whole graph, each after its answer was compared with the CPU's. One table.
//
//   gpu_benchmark           on a GPU: medians by CUDA events
//   gpu_benchmark --check   each once, smaller, for the answers alone (this is what runs on the stand-in runtime)
#include <cuda_runtime_api.h>

#include <algorithm>
#include <bit>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <random>
#include <set>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#include "ops/resize_formulas.hpp"
#include "stand_in_network.hpp"
#include "swiftdet/cuda/device.hpp"
#include "swiftdet/cuda/event.hpp"
#include "swiftdet/cuda/memory.hpp"
#include "swiftdet/cuda/stream.hpp"
#include "swiftdet/detector.hpp"
#include "swiftdet/gpu_detector.hpp"
#include "swiftdet/ops/cuda/decode.hpp"
#include "swiftdet/ops/cuda/letterbox.hpp"
#include "swiftdet/ops/cuda/nms.hpp"
#include "swiftdet/ops/decode.hpp"
#include "swiftdet/ops/letterbox.hpp"
#include "swiftdet/ops/nms.hpp"

namespace swiftdet::bench {
namespace {

constexpr int kDevice = 0;
constexpr std::size_t kBeyondCaches = std::size_t{160}
                                      << 20U;  // more than the largest L2, so that inputs come from far

struct Effort {
  int rounds = 200;    ///< times that are taken
  int launches = 10;   ///< between the two events of one time
  bool check = false;  ///< answers alone
};

void expect(cudaError_t status, const char* what) {
  if (status != cudaSuccess) throw std::runtime_error(std::string(what) + ": " + cudaGetErrorString(status));
}

double median(std::vector<double> values) {
  const auto middle = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
  std::nth_element(values.begin(), middle, values.end());
  return *middle;
}

/// Device memory with what it shall hold. Copies wait: nothing here is timed.
template <typename T>
cuda::DeviceBuffer upload(const cuda::Stream& stream, std::span<const T> values) {
  cuda::DeviceBuffer buffer(kDevice, std::max<std::size_t>(values.size_bytes(), 256));
  stream.copy_to_device(buffer.d_data(), values.data(), values.size_bytes());
  stream.synchronize();
  return buffer;
}

template <typename T>
std::vector<T> download(const cuda::Stream& stream, const std::byte* d_data, std::size_t count) {
  std::vector<T> values(count);
  stream.copy_to_host(values.data(), d_data, count * sizeof(T));
  stream.synchronize();
  return values;
}

/// Median microseconds of one call of `queue`, which gets the number of the call; by events on `stream`.
double time_us(const cuda::Stream& stream, const Effort& effort, const std::function<void(int)>& queue) {
  int turn = 0;
  for (int i = 0; i < 3 * effort.launches; ++i) queue(turn++);
  const cuda::Event begin(kDevice, cuda::Event::Purpose::kTiming);
  const cuda::Event end(kDevice, cuda::Event::Purpose::kTiming);
  std::vector<double> times;
  for (int round = 0; round < effort.rounds; ++round) {
    begin.record(stream.handle());
    for (int i = 0; i < effort.launches; ++i) queue(turn++);
    end.record(stream.handle());
    stream.synchronize();
    times.push_back(1000.0 * static_cast<double>(end.milliseconds_since(begin)) / effort.launches);
  }
  return median(times);
}

class Table {
 public:
  explicit Table(double copy_gb_per_s) : copy_gb_per_s_(copy_gb_per_s) {
    std::printf("%-12s %-34s %12s %12s %12s %8s  %s\n", "kernel", "size", "median us", "moved MB", "copy us", "ratio",
                "equal to the CPU");
  }

  /// @param bytes  that must be read or written; 0: their time is not the point.
  void add(const char* kernel, const std::string& size, double us, double bytes, bool equal) {
    const double floor_us = bytes / copy_gb_per_s_ / 1000.0;
    if (bytes > 0) {
      std::printf("%-12s %-34s %12.2f %12.3f %12.2f %8.2f  %s\n", kernel, size.c_str(), us, bytes / 1e6, floor_us,
                  us / floor_us, equal ? "yes" : "NO");
    } else {
      std::printf("%-12s %-34s %12.2f %12s %12s %8s  %s\n", kernel, size.c_str(), us, "", "", "", equal ? "yes" : "NO");
    }
    std::fflush(stdout);
    all_equal_ = all_equal_ && equal;
  }

  [[nodiscard]] bool all_equal() const { return all_equal_; }

 private:
  double copy_gb_per_s_;
  bool all_equal_ = true;
};

/// Bytes read and written per second by a copy within the device, in GB/s: what kernels are held against.
double copy_bandwidth(const cuda::Stream& stream, const Effort& effort) {
  const std::size_t bytes = effort.check ? std::size_t{1} << 20U : std::size_t{512} << 20U;
  const cuda::DeviceBuffer from(kDevice, bytes);
  const cuda::DeviceBuffer to(kDevice, bytes);
  const double us = time_us(stream, {effort.rounds / 4 + 1, 2, effort.check}, [&](int) {
    expect(cudaMemcpyAsync(to.d_data(), from.d_data(), bytes, cudaMemcpyDeviceToDevice, stream.handle()), "copy");
  });
  return 2.0 * static_cast<double>(bytes) / us / 1000.0;
}

std::vector<std::uint8_t> noise(Size size, unsigned seed) {
  std::mt19937 random(seed);
  std::vector<std::uint8_t> pixels(static_cast<std::size_t>(size.height) * static_cast<std::size_t>(size.width) * 3);
  for (std::uint8_t& pixel : pixels) pixel = static_cast<std::uint8_t>(random() >> 24U);
  return pixels;
}

ImageView view_of(const std::vector<std::uint8_t>& pixels, Size size) {
  return {pixels.data(), size, 3, std::ptrdiff_t{3} * size.width, 3, 1};
}

std::string name_of(Size size) { return std::to_string(size.width) + "x" + std::to_string(size.height); }

bool same_bits(const std::vector<float>& a, const std::vector<float>& b) {
  return a.size() == b.size() && (a.empty() || std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0);
}

/// Rows of the source that the result depends on: under a tap with a weight. Each is needed whole, as sectors of memory
/// hold more pixels than lie between two taps.
std::size_t rows_needed(const ops::cuda::LetterboxImage& image) {
  const int height = image.source.size.height;
  if (image.rule != ops::ResizeRule::kLinear) return static_cast<std::size_t>(height);
  std::set<int> rows;
  for (int d = 0; d < image.resized.height; ++d) {
    const ops::LinearTap tap = ops::linear_tap(d, image.scale_y);
    if (ops::linear_weight(1.0F - tap.fraction) > 0) rows.insert(std::clamp(tap.first, 0, height - 1));
    if (ops::linear_weight(tap.fraction) > 0) rows.insert(std::clamp(tap.first + 1, 0, height - 1));
  }
  return rows.size();
}

void bench_letterbox(const cuda::Stream& stream, const Effort& effort, Size source, Table& table) {
  namespace device = ops::cuda;
  constexpr Size kTarget{640, 640};
  constexpr std::size_t kValuesOut = std::size_t{3} * 640 * 640;
  const ops::Preprocess preprocess;
  const std::vector<std::uint8_t> pixels = noise(source, 1);
  std::vector<float> expected(kValuesOut);
  ops::Letterbox().run(view_of(pixels, source), ChannelOrder::kBgr, preprocess, kTarget, expected.data());

  const std::size_t moved = pixels.size() + kValuesOut * sizeof(float);
  const std::size_t copies = effort.check ? 1 : kBeyondCaches / moved + 1;
  std::vector<cuda::DeviceBuffer> memory;
  std::vector<device::LetterboxTarget> targets;
  std::vector<const device::LetterboxImage*> images;
  double read = 0.0;
  for (std::size_t i = 0; i < copies; ++i) {
    const cuda::DeviceBuffer& d_pixels = memory.emplace_back(upload<std::uint8_t>(stream, pixels));
    const auto described =
        device::describe_letterbox({reinterpret_cast<const std::uint8_t*>(d_pixels.d_data()),
                                    std::int64_t{3} * source.width, nullptr, 0, source, device::PixelFormat::kBgr},
                                   preprocess, kTarget);
    read = static_cast<double>(rows_needed(described.image)) * 3 * source.width;
    const cuda::DeviceBuffer& d_image =
        memory.emplace_back(upload<device::LetterboxImage>(stream, std::span(&described.image, 1)));
    images.push_back(reinterpret_cast<const device::LetterboxImage*>(d_image.d_data()));
    const cuda::DeviceBuffer& d_tensor = memory.emplace_back(kDevice, kValuesOut * sizeof(float));
    targets.push_back(
        device::letterbox_target(d_tensor.d_data(), device::TensorType::kFloat32, 1, kTarget, preprocess));
  }
  const double us = time_us(stream, effort, [&](int turn) {
    const auto i = static_cast<std::size_t>(turn) % copies;
    expect(device::launch_letterbox(images[i], targets[i], stream.handle()), "letterbox");
  });
  const auto values = download<float>(stream, static_cast<const std::byte*>(targets.front().tensor), kValuesOut);
  table.add("letterbox", name_of(source) + " -> 640x640 float32", us, read + kValuesOut * sizeof(float),
            same_bits(values, expected));
}

/// A head with about `hits` predictions over a threshold of 0.25, and boxes in a picture of 640x640.
struct Head {
  ops::HeadSpec spec;
  Shape shape;
  std::vector<float> values;
};

Head make_head(bool rows, int predictions, int hits) {
  Head head;
  const int width = kClasses + (rows ? 5 : 4);
  head.spec.layout = rows ? ops::HeadLayout::kRows : ops::HeadLayout::kColumns;
  head.spec.num_classes = kClasses;
  head.spec.has_objectness = rows;
  head.spec.outputs = {"output"};
  head.shape = rows ? Shape{1, predictions, width} : Shape{1, width, predictions};
  head.values.resize(static_cast<std::size_t>(head.shape.volume()));
  std::mt19937 random(7);
  const auto real = [&] { return static_cast<float>(random() >> 8U) / 16777216.0F; };
  for (int p = 0; p < predictions; ++p) {
    const bool hit =
        static_cast<std::int64_t>(p) * hits / predictions != (static_cast<std::int64_t>(p) + 1) * hits / predictions;
    const int chosen = static_cast<int>(random() % kClasses);
    for (int v = 0; v < width; ++v) {
      float value = 0.0F;
      if (v < 2) {
        value = 640.0F * real();
      } else if (v < 4) {
        value = 16.0F + 100.0F * real();
      } else if (rows && v == 4) {
        value = hit ? 0.9F + 0.1F * real() : 0.2F * real();
      } else {
        const bool over = hit && v - (rows ? 5 : 4) == chosen;
        value = over ? 0.4F + 0.6F * real() : 0.2F * real();
      }
      const auto at =
          rows ? static_cast<std::size_t>(p) * static_cast<std::size_t>(width) + static_cast<std::size_t>(v)
               : static_cast<std::size_t>(v) * static_cast<std::size_t>(predictions) + static_cast<std::size_t>(p);
      head.values[at] = value;
    }
  }
  return head;
}

/// Decode and NMS of one head in device memory.
struct Postprocess {
  ops::cuda::DecodeHead head;
  ops::cuda::DecodeWorkspace workspace;
  ops::cuda::PackedLayout layout{300};
  std::vector<cuda::DeviceBuffer> memory;
  const ops::cuda::PostprocessItem* items = nullptr;
  std::byte* scratch = nullptr;
  std::byte* results = nullptr;

  Postprocess(const cuda::Stream& stream, const Head& given, const ops::NmsOptions& nms) {
    namespace device = ops::cuda;
    const cuda::DeviceBuffer& d_values = memory.emplace_back(upload<float>(stream, given.values));
    const device::DeviceTensor tensor{d_values.d_data(), device::TensorType::kFloat32, given.shape};
    head = device::describe_head(std::span(&tensor, 1), given.spec);
    const auto item = device::postprocess_item({}, nms, nullptr, {}, {640, 640});
    items = reinterpret_cast<const device::PostprocessItem*>(
        memory.emplace_back(upload<device::PostprocessItem>(stream, std::span(&item, 1))).d_data());
    const std::size_t bytes = device::decode_workspace_bytes(head, ops::kMaxCandidates);
    workspace = device::decode_workspace(head, ops::kMaxCandidates, memory.emplace_back(kDevice, bytes).d_data());
    scratch = memory.emplace_back(kDevice, device::nms_workspace_bytes(1, layout)).d_data();
    results = memory.emplace_back(kDevice, layout.image_bytes()).d_data();
  }

  void decode(const cuda::Stream& stream) const {
    expect(ops::cuda::launch_decode(head, items, workspace, stream.handle()), "decode");
  }
  void suppress(const cuda::Stream& stream) const {
    expect(ops::cuda::launch_nms(head, items, workspace.candidates, layout, scratch, results, stream.handle()), "nms");
  }
};

ops::Candidates candidates_of(const Head& head) {
  const TensorView view{head.values.data(), head.shape};
  ops::Candidates candidates;
  ops::Decoder(head.spec).run(std::span(&view, 1), 0, {}, candidates);
  return candidates;
}

bool equal_candidates(const cuda::Stream& stream, const Postprocess& post, const ops::Candidates& expected) {
  const auto bytes_of = [](const auto* pointer) { return reinterpret_cast<const std::byte*>(pointer); };
  const ops::cuda::DeviceCandidates& found = post.workspace.candidates;
  const auto counts = download<ops::cuda::DecodeCounts>(stream, bytes_of(found.counts), 1);
  if (static_cast<std::size_t>(counts[0].places) != expected.size()) return false;
  const auto boxes = download<float4>(stream, bytes_of(found.boxes), expected.size());
  const auto anchors = download<std::int32_t>(stream, bytes_of(found.anchors), expected.size());
  bool equal = same_bits(download<float>(stream, bytes_of(found.scores), expected.size()), expected.score) &&
               download<std::int32_t>(stream, bytes_of(found.classes), expected.size()) == expected.cls &&
               anchors == expected.anchor;
  const auto bits = [](float value) { return std::bit_cast<std::uint32_t>(value); };
  for (std::size_t i = 0; equal && i < expected.size(); ++i) {
    equal = bits(boxes[i].x) == bits(expected.x1[i]) && bits(boxes[i].y) == bits(expected.y1[i]) &&
            bits(boxes[i].z) == bits(expected.x2[i]) && bits(boxes[i].w) == bits(expected.y2[i]);
  }
  return equal;
}

void bench_decode(const cuda::Stream& stream, const Effort& effort, bool rows, int predictions, Table& table) {
  constexpr int kHits = 300;
  const Head head = make_head(rows, predictions, kHits);
  const std::size_t copies = effort.check ? 1 : kBeyondCaches / (head.values.size() * sizeof(float)) + 1;
  std::vector<Postprocess> posts;
  posts.reserve(copies);
  for (std::size_t i = 0; i < copies; ++i) posts.emplace_back(stream, head, ops::NmsOptions{.max_det = 300});
  const double us =
      time_us(stream, effort, [&](int turn) { posts[static_cast<std::size_t>(turn) % copies].decode(stream); });
  // Scores in columns are read whole. In rows the objectness alone, which is one sector of 32 bytes, and the hits.
  const double bytes =
      rows ? 32.0 * predictions + 4.0 * kHits * (kClasses + 5) : 4.0 * predictions * kClasses + 4.0 * 32.0 * kHits;
  const Shape& shape = head.shape;
  table.add("decode", std::to_string(shape[1]) + "x" + std::to_string(shape[2]) + ", 300 candidates", us, bytes,
            equal_candidates(stream, posts.front(), candidates_of(head)));
}

void bench_nms(const cuda::Stream& stream, const Effort& effort, int count, Table& table) {
  const Head head = make_head(false, count, count);
  const ops::NmsOptions options{.iou_threshold = 0.7F, .max_det = 300};
  const Postprocess post(stream, head, options);
  post.decode(stream);
  const double us = time_us(stream, effort, [&](int) { post.suppress(stream); });

  const ops::Candidates candidates = candidates_of(head);
  ops::Nms nms;
  const auto kept = nms.run(candidates, options);
  const auto packed = download<std::byte>(stream, post.results, post.layout.image_bytes());
  ops::cuda::PackedHeader header;
  std::memcpy(&header, packed.data(), sizeof(header));
  bool equal =
      static_cast<std::size_t>(header.count) == kept.size() && candidates.size() == static_cast<std::size_t>(count);
  for (std::size_t i = 0; equal && i < kept.size(); ++i) {
    float score = 0.0F;
    std::memcpy(&score, packed.data() + post.layout.conf_offset() + i * sizeof(float), sizeof(score));
    std::int32_t label = 0;
    std::memcpy(&label, packed.data() + post.layout.cls_offset() + i * sizeof(label), sizeof(label));
    const auto k = static_cast<std::size_t>(kept[i]);
    equal = std::bit_cast<std::uint32_t>(score) == std::bit_cast<std::uint32_t>(candidates.score[k]) &&
            label == candidates.cls[k];
  }
  const double bytes = 20.0 * count + 28.0 * static_cast<double>(kept.size());
  table.add("nms", std::to_string(count) + " candidates, max_det 300", us, bytes, equal);
}

bool same_detections(const DetectionsBuffer& a, const DetectionsBuffer& b) {
  return same_bits(a.xyxy, b.xyxy) && same_bits(a.conf, b.conf) && a.cls == b.cls && a.truncated == b.truncated;
}

/// Pixels that another stream brings to the GPU, and what a detector is told of them.
struct ResidentImages {
  cuda::Stream producer{kDevice};
  cuda::PinnedBuffer zeros;
  std::vector<cuda::PinnedBuffer> staged;
  std::vector<cuda::DeviceBuffer> pixels;
  std::vector<GpuSourceImage> images;

  explicit ResidentImages(std::span<const GpuSourceImage> on_host) {
    for (const GpuSourceImage& image : on_host) {
      const auto bytes =
          static_cast<std::size_t>(image.view.row_stride) * static_cast<std::size_t>(image.view.size.height);
      if (zeros.bytes() == 0) zeros = cuda::PinnedBuffer(kDevice, bytes);
      std::memset(zeros.data(), 0, bytes);
      std::memcpy(staged.emplace_back(kDevice, bytes).data(), image.view.data, bytes);
      GpuSourceImage resident = image;
      resident.view.data = reinterpret_cast<const std::uint8_t*>(pixels.emplace_back(kDevice, bytes).d_data());
      resident.on_device = true;
      resident.producer = producer.handle();
      images.push_back(resident);
    }
  }

  /// Queues the pixels behind zeros, so that who does not wait for them sees something else.
  void produce() const {
    for (std::size_t i = 0; i < pixels.size(); ++i) {
      producer.copy_to_device(pixels[i].d_data(), zeros.data(), pixels[i].bytes());
      producer.copy_to_device(pixels[i].d_data(), staged[i].data(), pixels[i].bytes());
    }
  }
};

/// The product's own pipeline with the stand-in network: pixels on the host, or on the GPU already, to detections on
/// the host.
void bench_pipeline(const Effort& effort, Size source, int batch, Table& table) {
  constexpr NetworkSize kNetwork{640, 640};
  constexpr std::size_t kStages = 7;
  const GpuDetector::Config config{.engine = gpu_network(kDevice, kNetwork),
                                   .preprocess = {},
                                   .head = network_head(),
                                   .network_size = {kNetwork.height, kNetwork.width}};
  const GpuDetector gpu(config);
  const Detector cpu({cpu_network(kNetwork), config.preprocess, config.head, config.network_size, 1});
  std::vector<std::vector<std::uint8_t>> pixels;
  std::vector<GpuSourceImage> images;
  std::vector<SourceImage> cpu_images;
  for (int i = 0; i < batch; ++i) pixels.push_back(noise(source, static_cast<unsigned>(i) + 3));
  for (const auto& each : pixels) {
    images.push_back({.view = view_of(each, source)});
    cpu_images.push_back({view_of(each, source)});
  }
  std::vector<DetectionsBuffer> results(images.size());
  std::vector<DetectionsBuffer> timed_results(images.size());
  std::vector<DetectionsBuffer> expected(images.size());
  std::vector<DetectionsBuffer> resident_results(images.size());
  const ResidentImages resident(images);
  const CallOptions options;
  const CallOptions timed{.timed = true};
  cpu.detect(cpu_images, options, expected);

  std::vector<double> wall;
  std::vector<double> resident_wall;
  bool in_order = true;
  std::vector<double> stages[kStages];
  for (int round = -3; round < effort.rounds; ++round) {
    const auto begin = std::chrono::steady_clock::now();
    gpu.detect(images, options, results);
    const std::chrono::duration<double, std::micro> took = std::chrono::steady_clock::now() - begin;
    gpu.detect(images, timed, timed_results);
    resident.produce();
    gpu.detect(resident.images, options, resident_results);  // on the GPU it waits for the pixels; the host does not
    for (std::size_t i = 0; i < expected.size(); ++i) in_order &= same_detections(resident_results[i], expected[i]);
    const auto there = std::chrono::steady_clock::now();
    gpu.detect(resident.images, options, resident_results);
    const std::chrono::duration<double, std::micro> took_there = std::chrono::steady_clock::now() - there;
    if (round < 0) continue;
    wall.push_back(took.count() / batch);
    resident_wall.push_back(took_there.count() / batch);
    const StageTimes& times = timed_results.front().times;
    const StageTimes::Transfers& around = times.transfers.value();
    const double each[kStages] = {around.pack_ms,       around.copy_in_ms,  times.preprocess_ms, times.inference_ms,
                                  times.postprocess_ms, around.copy_out_ms, around.unpack_ms};
    for (std::size_t i = 0; i < kStages; ++i) stages[i].push_back(1000.0 * each[i]);
  }
  bool equal = gpu.capture_refusal().empty() && !expected.front().conf.empty();
  for (std::size_t i = 0; i < expected.size(); ++i) {
    equal = equal && same_detections(results[i], expected[i]) && same_detections(timed_results[i], expected[i]);
  }
  const std::string size = name_of(source) + ", batch " + std::to_string(batch);
  table.add("call", size + ", wall, per image", median(wall), 0.0, equal);
  table.add("call", size + ", the same, pixels on the GPU", median(resident_wall), 0.0, in_order);
  const char* const names[kStages] = {" pack on the host", " copy in",  " letterbox",         " stand-in network",
                                      " decode and NMS",   " copy out", " unpack on the host"};
  for (std::size_t i = 0; i < kStages; ++i) table.add(" of it", size + names[i], median(stages[i]), 0.0, equal);
  if (!gpu.capture_refusal().empty()) std::printf("not captured: %s\n", gpu.capture_refusal().c_str());
}

int run(const Effort& effort) {
  const cuda::DeviceInfo info = cuda::device_info(kDevice);
  const cuda::Versions versions = cuda::versions();
  const cuda::DeviceGuard guard(kDevice);
  const cuda::Stream stream(kDevice);
  const double bandwidth = copy_bandwidth(stream, effort);
  std::printf("%s, SM %d.%d, driver for CUDA %d.%d, built with CUDA %d.%d; a copy within the device moves %.0f GB/s\n",
              info.name.c_str(), info.compute_major, info.compute_minor, versions.driver / 1000,
              versions.driver % 1000 / 10, versions.runtime / 1000, versions.runtime % 1000 / 10, bandwidth);
  Table table(bandwidth);
  for (const Size source : {Size{720, 1280}, Size{1080, 1920}, Size{2160, 3840}}) {
    bench_letterbox(stream, effort, source, table);
  }
  bench_decode(stream, effort, false, 8400, table);
  bench_decode(stream, effort, true, 25200, table);
  for (const int count : {300, 1000, effort.check ? 3000 : 30000}) bench_nms(stream, effort, count, table);
  bench_pipeline(effort, {720, 1280}, 1, table);
  bench_pipeline(effort, {1080, 1920}, effort.check ? 2 : 8, table);
  return table.all_equal() ? EXIT_SUCCESS : EXIT_FAILURE;
}

}  // namespace
}  // namespace swiftdet::bench

int main(int argc, char** argv) {
  constexpr int kSkipped = 77;
  const bool check = argc > 1 && std::string_view(argv[1]) == "--check";
  if (argc > 2 || (argc == 2 && !check)) {
    std::fprintf(stderr, "usage: gpu_benchmark [--check]\n");
    return 2;
  }
  try {
    static_cast<void>(swiftdet::cuda::device_count());
  } catch (const std::exception& e) {
    std::printf("no GPU: %s\n", e.what());
    return std::getenv("SWIFTDET_REQUIRE_GPU") != nullptr ? EXIT_FAILURE : kSkipped;
  }
  try {
    using swiftdet::bench::Effort;
    return swiftdet::bench::run(check ? Effort{.rounds = 1, .launches = 1, .check = true} : Effort{});
  } catch (const std::exception& e) {
    std::fprintf(stderr, "gpu_benchmark: %s\n", e.what());
    return EXIT_FAILURE;
  }
}
