// Times of the kernels on a GPU, each beside the bytes that it has to move and the answer of the CPU's body.
//
// Prints one table: kernel, size, median time by CUDA events, the part of the measured copy bandwidth that the bytes
// below make of it, and whether the results equal the CPU's. Ends with 1 where one does not.
//
// Bytes are the floor of what must be moved: of a letterbox, the source rows under the taps and the tensor; of a
// decode, the scores (with an objectness: that, in sectors of 32 bytes); of NMS, the candidates and the result.
#include <cuda_fp16.h>
#include <cuda_runtime_api.h>

#include <algorithm>
#include <bit>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <random>
#include <string>
#include <vector>

#include "swiftdet/ops/cuda/decode.hpp"
#include "swiftdet/ops/cuda/letterbox.hpp"
#include "swiftdet/ops/cuda/nms.hpp"
#include "swiftdet/ops/decode.hpp"
#include "swiftdet/ops/nms.hpp"

namespace {

using namespace swiftdet;  // NOLINT(google-build-using-namespace): a program
namespace device = swiftdet::ops::cuda;

void check(cudaError_t status, const char* what) {
  if (status == cudaSuccess) return;
  std::fprintf(stderr, "%s: %s\n", what, cudaGetErrorString(status));
  std::exit(EXIT_FAILURE);
}

/// Memory of the device, freed with the process.
template <typename T>
T* allocate(std::size_t count) {
  void* memory = nullptr;
  check(cudaMalloc(&memory, std::max<std::size_t>(count, 1) * sizeof(T)), "cudaMalloc");
  return static_cast<T*>(memory);
}

template <typename T>
T* upload(const std::vector<T>& values) {
  T* const memory = allocate<T>(values.size());
  check(cudaMemcpy(memory, values.data(), values.size() * sizeof(T), cudaMemcpyHostToDevice), "upload");
  return memory;
}

template <typename T>
std::vector<T> download(const void* memory, std::size_t count) {
  std::vector<T> values(count);
  check(cudaMemcpy(values.data(), memory, count * sizeof(T), cudaMemcpyDeviceToHost), "download");
  return values;
}

/// Median of what `action` takes, in microseconds, by events; warm.
double median_us(cudaStream_t stream, const std::function<void()>& action) {
  constexpr int kWarm = 20;
  constexpr int kRuns = 200;
  cudaEvent_t begin = nullptr;
  cudaEvent_t end = nullptr;
  check(cudaEventCreate(&begin), "event");
  check(cudaEventCreate(&end), "event");
  std::vector<double> times;
  for (int i = 0; i < kWarm + kRuns; ++i) {
    check(cudaEventRecord(begin, stream), "record");
    action();
    check(cudaEventRecord(end, stream), "record");
    check(cudaEventSynchronize(end), "synchronise");
    float milliseconds = 0.0F;
    check(cudaEventElapsedTime(&milliseconds, begin, end), "elapsed");
    if (i >= kWarm) times.push_back(1000.0 * static_cast<double>(milliseconds));
  }
  check(cudaEventDestroy(begin), "event");
  check(cudaEventDestroy(end), "event");
  std::nth_element(times.begin(), times.begin() + kRuns / 2, times.end());
  return times[kRuns / 2];
}

/// Bytes in a microsecond, read and written, of a copy that no cache holds.
double copy_bandwidth(cudaStream_t stream) {
  constexpr std::size_t kBytes = std::size_t{256} << 20U;
  auto* const from = allocate<unsigned char>(kBytes);
  auto* const to = allocate<unsigned char>(kBytes);
  const double us =
      median_us(stream, [&] { check(cudaMemcpyAsync(to, from, kBytes, cudaMemcpyDeviceToDevice, stream), "copy"); });
  check(cudaFree(from), "free");
  check(cudaFree(to), "free");
  return 2.0 * static_cast<double>(kBytes) / us;
}

struct Table {
  cudaStream_t stream = nullptr;
  double bandwidth = 0.0;
  bool all_equal = true;

  void row(const std::string& kernel, const std::string& size, double bytes, bool equal,
           const std::function<void()>& action) {
    const double us = median_us(stream, action);
    std::printf("%-22s %-44s %10.1f %10.2f %8.0f%%  %s\n", kernel.c_str(), size.c_str(), us, bytes / 1e6,
                100.0 * bytes / us / bandwidth, equal ? "equal" : "DIFFERENT");
    std::fflush(stdout);
    all_equal = all_equal && equal;
  }
};

// --- Letterbox -------------------------------------------------------------------------------------------------------

void bench_letterbox(Table& table, Size source, device::PixelFormat format, int batch, device::TensorType type) {
  constexpr Size kTarget{640, 640};
  const bool nv12 = format == device::PixelFormat::kNv12;
  const std::size_t row = static_cast<std::size_t>(source.width) * (nv12 ? 1 : 3);
  const std::size_t rows = static_cast<std::size_t>(nv12 ? source.height * 3 / 2 : source.height);
  std::mt19937 random(1);
  std::vector<std::uint8_t> pixels(row * rows);
  for (auto& value : pixels) value = static_cast<std::uint8_t>(random());
  const std::uint8_t* const d_pixels = upload(pixels);
  const std::uint8_t* const d_chroma = nv12 ? d_pixels + row * static_cast<std::size_t>(source.height) : nullptr;
  const auto pitch = static_cast<std::int64_t>(row);
  const ops::Preprocess preprocess;
  const auto described =
      device::describe_letterbox({d_pixels, pitch, d_chroma, pitch, source, format}, preprocess, kTarget);
  const auto* const images =
      upload(std::vector<device::LetterboxImage>(static_cast<std::size_t>(batch), described.image));
  constexpr std::size_t kVolume = std::size_t{3} * kTarget.height * kTarget.width;
  const bool half = type == device::TensorType::kFloat16;
  const std::size_t value_bytes = half ? sizeof(__half) : sizeof(float);
  auto* const tensor = allocate<unsigned char>(kVolume * static_cast<std::size_t>(batch) * value_bytes);
  const auto target = device::letterbox_target(tensor, type, batch, kTarget, preprocess);
  const auto run = [&] { check(device::launch_letterbox(images, target, table.stream), "letterbox"); };
  run();
  check(cudaStreamSynchronize(table.stream), "letterbox");
  bool equal = true;
  if (!nv12) {  // the CPU's letterbox takes no NV12: tests/gpu compares that
    std::vector<float> expected(kVolume);
    const ImageView view{pixels.data(), source, 3, static_cast<std::ptrdiff_t>(row), 3, 1};
    ops::Letterbox().run(view, ChannelOrder::kBgr, preprocess, kTarget, expected.data());
    for (int i = 0; i < batch && equal; ++i) {
      const unsigned char* const item = tensor + kVolume * value_bytes * static_cast<std::size_t>(i);
      const auto values = half ? std::vector<float>{} : download<float>(item, kVolume);
      const auto halves = half ? download<__half>(item, kVolume) : std::vector<__half>{};
      for (std::size_t k = 0; k < kVolume && equal; ++k) {
        equal = half ? __half_as_ushort(halves[k]) == __half_as_ushort(__float2half_rn(expected[k]))
                     : std::bit_cast<std::uint32_t>(values[k]) == std::bit_cast<std::uint32_t>(expected[k]);
      }
    }
  }
  const int touched = std::min(source.height, 2 * described.image.resized.height);
  const double source_bytes = static_cast<double>(row * rows) * touched / source.height;
  const double bytes = batch * (source_bytes + static_cast<double>(kVolume * value_bytes));
  table.row("letterbox",
            std::to_string(batch) + " x " + std::to_string(source.width) + "x" + std::to_string(source.height) +
                (nv12 ? " NV12" : " BGR") + " -> 640x640 " + (half ? "float16" : "float32"),
            bytes, equal, run);
}

// --- Decode and NMS --------------------------------------------------------------------------------------------------

struct Head {
  std::string name;
  ops::HeadSpec spec;
  std::vector<Shape> shapes;
};

Head columns_head() {
  Head head{"columns 84 x 8400", {}, {Shape{1, 84, 8400}}};
  head.spec.layout = ops::HeadLayout::kColumns;
  head.spec.num_classes = 80;
  head.spec.outputs = {"output"};
  return head;
}

Head anchor_maps_head() {
  Head head{"anchor_maps 25200 x 85", {}, {}};
  head.spec.layout = ops::HeadLayout::kAnchorMaps;
  head.spec.num_classes = 80;
  head.spec.outputs = {"p3", "p4", "p5"};
  head.spec.strides = {8, 16, 32};
  for (const int stride : head.spec.strides) {
    head.shapes.push_back({1, 255, 640 / stride, 640 / stride});
    for (const float size : {1.5F, 3.0F, 5.0F}) {
      head.spec.anchors.push_back({size * static_cast<float>(stride), size * static_cast<float>(stride)});
    }
  }
  return head;
}

bool same(const std::vector<float>& a, const std::vector<float>& b) {
  return a.size() == b.size() && (a.empty() || std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0);
}

/// Decode and NMS of a head whose scores leave about `wanted` candidates.
void bench_postprocess(Table& table, const Head& head, int wanted, bool multi_label) {
  const bool logits = head.spec.layout == ops::HeadLayout::kAnchorMaps;
  std::mt19937 random(2);
  std::uniform_real_distribution<float> uniform(0.0F, 1.0F);
  std::vector<std::vector<float>> values;
  double predictions = 0.0;
  for (const Shape& shape : head.shapes) {
    predictions += static_cast<double>(shape.volume()) / (logits ? 85.0 : 84.0);
  }
  const double scores = predictions * (logits ? 1.0 : 80.0);
  const float share = static_cast<float>(std::min(1.0, wanted / scores));
  for (const Shape& shape : head.shapes) {
    values.emplace_back(static_cast<std::size_t>(shape.volume()));
    const auto cells = static_cast<std::size_t>(logits ? shape[2] * shape[3] : shape[2]);
    for (std::size_t i = 0; i < values.back().size(); ++i) {
      const std::size_t value = i / cells % (logits ? 85 : 84);
      float& x = values.back()[i];
      if (logits) {
        x = value == 4 ? (uniform(random) < share ? 2.0F : -8.0F) : 4.0F * uniform(random) - 1.0F;
      } else {
        x = value < 2                 ? 640.0F * uniform(random)
            : value < 4               ? 10.0F + 80.0F * uniform(random)
            : uniform(random) < share ? 0.3F + 0.7F * uniform(random)
                                      : 0.2F * uniform(random);
      }
    }
  }
  std::vector<TensorView> views;
  std::vector<device::DeviceTensor> tensors;
  for (std::size_t i = 0; i < values.size(); ++i) {
    views.push_back({values[i].data(), head.shapes[i]});
    tensors.push_back({upload(values[i]), device::TensorType::kFloat32, head.shapes[i]});
  }
  const ops::DecodeOptions decode{.conf_threshold = 0.25F, .multi_label = multi_label};
  const ops::NmsOptions nms{.iou_threshold = 0.7F, .max_det = 300};
  const device::DecodeHead described = device::describe_head(tensors, head.spec);
  const auto item = device::postprocess_item(decode, nms, nullptr, {}, {640, 640});
  const auto* const items = upload(std::vector{item});
  auto* const memory = allocate<unsigned char>(device::decode_workspace_bytes(described, ops::kMaxCandidates));
  const auto workspace = device::decode_workspace(described, ops::kMaxCandidates, memory);
  const device::PackedLayout layout{nms.max_det};
  auto* const scratch = allocate<unsigned char>(device::nms_workspace_bytes(1, layout));
  auto* const packed = allocate<unsigned char>(layout.image_bytes());
  const auto run_decode = [&] { check(device::launch_decode(described, items, workspace, table.stream), "decode"); };
  const auto run_nms = [&] {
    check(device::launch_nms(described, items, workspace.candidates, layout, scratch, packed, table.stream), "nms");
  };
  run_decode();
  run_nms();
  check(cudaStreamSynchronize(table.stream), "postprocess");

  ops::Candidates expected;
  ops::Decoder(head.spec).run(views, 0, decode, expected);
  const auto counts = download<device::DecodeCounts>(workspace.candidates.counts, 1)[0];
  const auto places = static_cast<std::size_t>(counts.places);
  const bool equal_candidates = places == expected.size() &&
                                same(download<float>(workspace.candidates.scores, places), expected.score) &&
                                download<std::int32_t>(workspace.candidates.anchors, places) == expected.anchor;
  ops::Nms cpu_nms;
  std::vector<float> confidences;
  for (const std::int32_t kept : cpu_nms.run(expected, nms)) {
    confidences.push_back(expected.score[static_cast<std::size_t>(kept)]);
  }
  const auto header = download<device::PackedHeader>(packed, 1)[0];
  const auto kept = static_cast<std::size_t>(header.count);
  const bool equal_detections = kept == confidences.size() &&
                                header.truncated == static_cast<std::int64_t>(cpu_nms.truncated()) + expected.dropped &&
                                same(download<float>(packed + layout.conf_offset(), kept), confidences);

  const double score_bytes = logits ? predictions * 4.0 : scores * 4.0;
  const std::string candidates = ", " + std::to_string(places) + " candidates";
  table.row("decode", head.name + candidates, score_bytes, equal_candidates, run_decode);
  table.row("nms", std::to_string(places) + " candidates, " + std::to_string(kept) + " kept",
            20.0 * static_cast<double>(places) + static_cast<double>(layout.image_bytes()), equal_detections, run_nms);
}

}  // namespace

int main() {
  int devices = 0;
  check(cudaGetDeviceCount(&devices), "no GPU");
  cudaDeviceProp properties{};
  check(cudaGetDeviceProperties(&properties, 0), "properties");
  int driver = 0;
  int runtime = 0;
  check(cudaDriverGetVersion(&driver), "driver version");
  check(cudaRuntimeGetVersion(&runtime), "runtime version");
  Table table;
  check(cudaStreamCreate(&table.stream), "stream");
  table.bandwidth = copy_bandwidth(table.stream);
  std::printf("%s, sm_%d%d, driver %d, runtime %d, copy bandwidth %.0f GB/s\n\n", properties.name, properties.major,
              properties.minor, driver, runtime, table.bandwidth / 1e3);
  std::printf("%-22s %-44s %10s %10s %9s  %s\n", "kernel", "size", "median us", "MB", "of copy", "CPU's answer");

  using device::PixelFormat;
  using device::TensorType;
  bench_letterbox(table, {720, 1280}, PixelFormat::kBgr, 1, TensorType::kFloat32);
  bench_letterbox(table, {1080, 1920}, PixelFormat::kBgr, 1, TensorType::kFloat32);
  bench_letterbox(table, {1080, 1920}, PixelFormat::kBgr, 1, TensorType::kFloat16);
  bench_letterbox(table, {1080, 1920}, PixelFormat::kNv12, 1, TensorType::kFloat32);
  bench_letterbox(table, {2160, 3840}, PixelFormat::kBgr, 1, TensorType::kFloat32);
  bench_letterbox(table, {1080, 1920}, PixelFormat::kBgr, 8, TensorType::kFloat32);
  bench_postprocess(table, columns_head(), 300, false);
  bench_postprocess(table, anchor_maps_head(), 300, false);
  bench_postprocess(table, columns_head(), 4000, true);
  bench_postprocess(table, columns_head(), 29000, true);
  bench_postprocess(table, columns_head(), 60000, true);
  return table.all_equal ? EXIT_SUCCESS : EXIT_FAILURE;
}
