// Decode and NMS kernels against the CPU's bodies: candidates, order, detections and counts, bit for bit.
#include <doctest/doctest.h>

#include <bit>
#include <cstring>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "device.hpp"
#include "head_cases.hpp"
#include "ops/letterbox_formulas.hpp"
#include "swiftdet/base/error.hpp"
#include "swiftdet/ops/cuda/decode.hpp"
#include "swiftdet/ops/cuda/nms.hpp"
#include "swiftdet/ops/decode.hpp"
#include "swiftdet/ops/nms.hpp"

using namespace swiftdet;           // NOLINT(google-build-using-namespace): a test
using namespace swiftdet::testing;  // NOLINT(google-build-using-namespace): a test
using ops::Candidates;
using ops::cuda::TensorType;

namespace {

/// What a call may ask of one image.
struct Request {
  float conf = 0.25F;
  float iou = 0.5F;
  int max_candidates = ops::kMaxCandidates;
  int max_det = 300;
  bool multi_label = false;
  bool class_agnostic = false;
  std::vector<std::uint8_t> classes;  ///< empty: all
  ops::LetterboxMeta meta{};
  Size source{480, 640};

  [[nodiscard]] ops::DecodeOptions decode() const {
    return {.conf_threshold = conf, .multi_label = multi_label, .classes = classes, .max_candidates = max_candidates};
  }
  [[nodiscard]] ops::NmsOptions nms() const {
    return {.iou_threshold = iou, .class_agnostic = class_agnostic, .max_det = max_det};
  }
};

Request random_request(Random& random, int num_classes) {
  Request request;
  request.conf = random.chance(20) ? random.one_of({0.0F, 1.0F, 0.001F}) : random.real(0.0F, 0.6F);
  request.iou = random.chance(20) ? random.one_of({0.0F, 1.0F}) : random.real(0.1F, 0.9F);
  request.multi_label = random.chance(40);
  request.class_agnostic = random.chance(30);
  if (random.chance(30)) request.max_candidates = random.between(1, 60);
  if (random.chance(40)) request.max_det = random.between(1, 20);
  if (random.chance(30)) {
    for (int i = 0; i < num_classes; ++i) request.classes.push_back(random.chance(60) ? 1 : 0);
  }
  request.meta = {.scale_x = 0.37,
                  .scale_y = random.chance(50) ? 0.37 : 1.25,
                  .pad_left = random.between(0, 9),
                  .pad_top = random.between(0, 9)};
  return request;
}

struct Detections {
  std::vector<float> xyxy;
  std::vector<float> conf;
  std::vector<std::int32_t> cls;
  std::int64_t truncated = 0;
};

struct ImageResult {
  Candidates candidates;
  Detections detections;
};

/// The CPU's steps, in the order of Detector.
ImageResult on_cpu(const HeadCase& c, int image, const Request& request) {
  ImageResult result;
  ops::Decoder(c.head).run(c.views(), image, request.decode(), result.candidates);
  const Candidates& candidates = result.candidates;
  std::vector<std::int32_t> keep;
  std::int64_t unseen = 0;
  if (c.head.layout == ops::HeadLayout::kDetections) {
    for (std::size_t i = 0; i < candidates.size() && std::cmp_less(i, request.max_det); ++i) {
      keep.push_back(static_cast<std::int32_t>(i));
    }
    unseen = static_cast<std::int64_t>(candidates.size() - keep.size());
  } else {
    ops::Nms nms;
    const auto kept = nms.run(candidates, request.nms());
    keep.assign(kept.begin(), kept.end());
    unseen = static_cast<std::int64_t>(nms.truncated());
  }
  result.detections.truncated = candidates.dropped + unseen;
  const ops::LetterboxMeta& meta = request.meta;
  for (const std::int32_t index : keep) {
    const auto k = static_cast<std::size_t>(index);
    const auto x = [&](float value) {
      return ops::to_source(value, static_cast<float>(meta.pad_left), static_cast<float>(meta.scale_x),
                            static_cast<float>(request.source.width));
    };
    const auto y = [&](float value) {
      return ops::to_source(value, static_cast<float>(meta.pad_top), static_cast<float>(meta.scale_y),
                            static_cast<float>(request.source.height));
    };
    const float box[] = {x(candidates.x1[k]), y(candidates.y1[k]), x(candidates.x2[k]), y(candidates.y2[k])};
    result.detections.xyxy.insert(result.detections.xyxy.end(), box, box + 4);
    result.detections.conf.push_back(candidates.score[k]);
    result.detections.cls.push_back(candidates.cls[k]);
  }
  return result;
}

DeviceMemory upload(const std::vector<float>& values, TensorType type) {
  if (type == TensorType::kFloat32) return to_device(values);
  std::vector<__half> halves;
  for (const float value : values) halves.push_back(__float2half_rn(value));
  return to_device(halves);
}

/// The kernels, over the whole batch; an image without a request is a place in the batch that is not used.
std::vector<ImageResult> on_device(const HeadCase& c, TensorType type,
                                   const std::vector<std::optional<Request>>& requests, int max_candidates,
                                   int max_det) {
  std::vector<DeviceMemory> memories;
  std::vector<ops::cuda::DeviceTensor> outputs;
  for (std::size_t i = 0; i < c.shapes.size(); ++i) {
    memories.push_back(upload(c.values[i], type));
    outputs.push_back({memories.back().get(), type, c.shapes[i]});
  }
  const ops::cuda::DecodeHead head = ops::cuda::describe_head(outputs, c.head);
  std::vector<ops::cuda::PostprocessItem> items;
  for (const auto& request : requests) {
    if (!request) {
      items.emplace_back();
      continue;
    }
    const std::uint8_t* classes = nullptr;
    if (!request->classes.empty()) {
      memories.push_back(to_device(request->classes));
      classes = memories.back().as<std::uint8_t>();
    }
    items.push_back(
        ops::cuda::postprocess_item(request->decode(), request->nms(), classes, request->meta, request->source));
  }
  const DeviceMemory device_items = to_device(items);
  const DeviceMemory memory(ops::cuda::decode_workspace_bytes(head, max_candidates));
  const ops::cuda::DecodeWorkspace workspace = ops::cuda::decode_workspace(head, max_candidates, memory.get());
  const ops::cuda::PackedLayout layout{max_det};
  const DeviceMemory scratch(ops::cuda::nms_workspace_bytes(head.batch, layout));
  const DeviceMemory packed(layout.image_bytes() * items.size());
  const auto* const device = device_items.as<ops::cuda::PostprocessItem>();
  REQUIRE(ops::cuda::launch_decode(head, device, workspace, nullptr) == cudaSuccess);
  REQUIRE(ops::cuda::launch_nms(head, device, workspace.candidates, layout, scratch.get(), packed.get(), nullptr) ==
          cudaSuccess);
  REQUIRE(finish());

  std::vector<ImageResult> results(items.size());
  for (std::size_t image = 0; image < items.size(); ++image) {
    Candidates& candidates = results[image].candidates;
    const ops::cuda::DeviceCandidates& found = workspace.candidates;
    const ops::cuda::DecodeCounts counts = found.counts[image];
    candidates.dropped = static_cast<std::int64_t>(counts.found) - counts.places;
    for (std::int32_t i = 0; i < counts.places; ++i) {
      const std::size_t at = image * static_cast<std::size_t>(found.capacity) + static_cast<std::size_t>(i);
      if (found.classes[at] < 0) continue;
      candidates.x1.push_back(found.boxes[at].x);
      candidates.y1.push_back(found.boxes[at].y);
      candidates.x2.push_back(found.boxes[at].z);
      candidates.y2.push_back(found.boxes[at].w);
      candidates.score.push_back(found.scores[at]);
      candidates.cls.push_back(found.classes[at]);
      candidates.anchor.push_back(found.anchors[at]);
    }
    CHECK(static_cast<std::size_t>(counts.finite) == candidates.size());
    const auto* const base = packed.as<unsigned char>() + image * layout.image_bytes();
    ops::cuda::PackedHeader header;
    std::memcpy(&header, base, sizeof header);
    CHECK(header.capacity == max_det);
    REQUIRE(header.count >= 0);
    REQUIRE(header.count <= max_det);
    const auto count = static_cast<std::size_t>(header.count);
    Detections& detections = results[image].detections;
    detections.truncated = header.truncated;
    const auto read = [&](auto& values, std::size_t offset, std::size_t length) {
      values.resize(length);
      if (length > 0) std::memcpy(values.data(), base + offset, length * sizeof values[0]);
    };
    read(detections.xyxy, layout.xyxy_offset(), 4 * count);
    read(detections.conf, layout.conf_offset(), count);
    read(detections.cls, layout.cls_offset(), count);
  }
  return results;
}

std::vector<std::uint32_t> bits(const std::vector<float>& values) {
  std::vector<std::uint32_t> result;
  result.reserve(values.size());
  for (const float value : values) result.push_back(std::bit_cast<std::uint32_t>(value));
  return result;
}

void check_equal(const ImageResult& device, const ImageResult& cpu) {
  CHECK(device.candidates.cls == cpu.candidates.cls);
  CHECK(device.candidates.anchor == cpu.candidates.anchor);
  CHECK(bits(device.candidates.score) == bits(cpu.candidates.score));
  CHECK(bits(device.candidates.x1) == bits(cpu.candidates.x1));
  CHECK(bits(device.candidates.y1) == bits(cpu.candidates.y1));
  CHECK(bits(device.candidates.x2) == bits(cpu.candidates.x2));
  CHECK(bits(device.candidates.y2) == bits(cpu.candidates.y2));
  CHECK(device.candidates.dropped == cpu.candidates.dropped);
  CHECK(bits(device.detections.xyxy) == bits(cpu.detections.xyxy));
  CHECK(bits(device.detections.conf) == bits(cpu.detections.conf));
  CHECK(device.detections.cls == cpu.detections.cls);
  CHECK(device.detections.truncated == cpu.detections.truncated);
}

/// Compares every image of a case, in every schedule.
void compare(const HeadCase& c, TensorType type, const std::vector<std::optional<Request>>& requests,
             int max_candidates, int max_det) {
  std::vector<ImageResult> expected;
  for (std::size_t image = 0; image < requests.size(); ++image) {
    expected.push_back(requests[image] ? on_cpu(c, static_cast<int>(image), *requests[image]) : ImageResult{});
  }
  for (int schedule = 0; schedule < schedules(); ++schedule) {
    CAPTURE(schedule);
    use_schedule(schedule);
    const std::vector<ImageResult> results = on_device(c, type, requests, max_candidates, max_det);
    for (std::size_t image = 0; image < results.size(); ++image) {
      CAPTURE(image);
      check_equal(results[image], expected[image]);
    }
  }
}

#if defined(SWIFTDET_TEST_CASES)
constexpr int kCases = SWIFTDET_TEST_CASES;
#else
constexpr int kCases = 200;
#endif

}  // namespace

TEST_CASE("candidates and detections equal the CPU's bit for bit, for every head") {
  for (const HeadForm form : kAllForms) {
    CAPTURE(name_of(form));
    std::size_t candidates = 0;
    std::size_t detections = 0;
    for (int seed = 0; seed < kCases; ++seed) {
      CAPTURE(seed);
      Random random(static_cast<unsigned>(seed) * 31U + static_cast<unsigned>(form));
      HeadCase c = random_head(form, random);
      const TensorType type = random.one_of({TensorType::kFloat32, TensorType::kFloat16});
      if (type == TensorType::kFloat16) round_to_half(c);
      std::vector<std::optional<Request>> requests;
      int most_candidates = 1;
      int most_detections = 1;
      for (std::int64_t i = 0; i < c.shapes[0][0]; ++i) {
        requests.emplace_back();
        if (i > 0 && random.chance(10)) continue;
        requests.back() = random_request(random, c.head.num_classes);
        most_candidates = std::max(most_candidates, requests.back()->max_candidates);
        most_detections = std::max(most_detections, requests.back()->max_det);
        const ImageResult result = on_cpu(c, static_cast<int>(i), *requests.back());
        candidates += result.candidates.size();
        detections += result.detections.conf.size();
      }
      compare(c, type, requests, most_candidates, most_detections);
    }
    MESSAGE(std::string(name_of(form)), ": ", candidates, " candidates, ", detections, " detections");
    CHECK(candidates > static_cast<std::size_t>(kCases));
    CHECK(detections > static_cast<std::size_t>(kCases));
  }
}

TEST_CASE("with more candidates than places the best stay, whatever room the list of keys has (large)") {
  // 80 classes of 400 predictions, nearly all over the threshold: the list of keys holds a part of them, so the scores
  // are read again; with a larger limit it holds all.
  for (const int max_candidates : {100, 3000, 30000}) {
    CAPTURE(max_candidates);
    Random random(static_cast<unsigned>(max_candidates));
    HeadCase c;
    c.head.layout = ops::HeadLayout::kColumns;
    c.head.num_classes = 80;
    c.head.outputs = {"output"};
    c.shapes = {Shape{1, 84, 400}};
    c.values.emplace_back(84 * 400);
    for (std::size_t i = 0; i < c.values[0].size(); ++i) {
      c.values[0][i] = i < 4 * 400 ? random.real(10.0F, 90.0F) : static_cast<float>(random.between(1, 4096)) / 4096.0F;
    }
    Request request;
    request.conf = 0.001F;
    request.multi_label = true;
    request.max_candidates = max_candidates;
    const ImageResult expected = on_cpu(c, 0, request);
    CHECK(expected.candidates.size() == static_cast<std::size_t>(max_candidates));
    CHECK(expected.candidates.dropped > 0);
    compare(c, TensorType::kFloat32, {request}, max_candidates, request.max_det);
  }
}

TEST_CASE("where places are few, the scores are read again to choose") {
  // 70 predictions, three tiles of a class-major head; 140 candidates are more than the list of keys holds.
  Random random(5);
  HeadCase c;
  c.head.layout = ops::HeadLayout::kColumns;
  c.head.num_classes = 2;
  c.head.outputs = {"output"};
  c.shapes = {Shape{1, 6, 70}};
  c.values.emplace_back(6 * 70);
  for (std::size_t i = 0; i < c.values[0].size(); ++i) {
    c.values[0][i] = i < 4 * 70 ? random.real(40.0F, 120.0F) : random.real(0.3F, 1.0F);
  }
  for (const bool multi_label : {false, true}) {
    for (const int max_candidates : {1, 2, 3}) {
      CAPTURE(multi_label);
      CAPTURE(max_candidates);
      Request request;
      request.multi_label = multi_label;
      request.max_candidates = max_candidates;
      const ImageResult expected = on_cpu(c, 0, request);
      REQUIRE(expected.candidates.dropped == (multi_label ? 140 : 70) - max_candidates);
      compare(c, TensorType::kFloat32, {request}, max_candidates, request.max_det);
    }
  }
}

TEST_CASE("an item that asks for more than the session's capacity gets the capacity") {
  Random random(7);
  Request asked;
  asked.conf = 0.0F;
  HeadCase c = random_head(HeadForm::kColumns, random);
  while (on_cpu(c, 0, asked).detections.conf.size() < 4) c = random_head(HeadForm::kColumns, random);
  Request given = asked;
  given.max_candidates = 3;
  given.max_det = 2;
  const ImageResult expected = on_cpu(c, 0, given);
  std::vector<std::optional<Request>> requests(static_cast<std::size_t>(c.shapes[0][0]));
  requests[0] = asked;
  const std::vector<ImageResult> results = on_device(c, TensorType::kFloat32, requests, 3, 2);
  check_equal(results[0], expected);
}

TEST_CASE("survivors fill the list exactly, or one candidate is left unseen (large)") {
  // Boxes far apart: all survive, so max_det alone ends the walk; 600 of them are more than one chunk of the kernel.
  HeadCase c;
  c.head.layout = ops::HeadLayout::kRows;
  c.head.num_classes = 1;
  c.head.box_format = ops::BoxFormat::kXyxy;
  c.head.outputs = {"output"};
  c.shapes = {Shape{1, 600, 5}};
  c.values.resize(1);
  for (int i = 0; i < 600; ++i) {
    const auto x = static_cast<float>(10 * i);
    c.values[0].insert(c.values[0].end(), {x, 0.0F, x + 5.0F, 5.0F, 0.5F});
  }
  for (const int max_det : {1, 31, 32, 33, 511, 512, 513, 599, 600, 601}) {
    CAPTURE(max_det);
    Request request;
    request.max_det = max_det;
    const ImageResult expected = on_cpu(c, 0, request);
    CHECK(expected.detections.truncated == std::max(0, 600 - max_det));
    compare(c, TensorType::kFloat32, {request}, ops::kMaxCandidates, max_det);
  }
}

TEST_CASE("128 overlapping boxes of two classes") {
  Random random(3);
  HeadCase c;
  c.head.layout = ops::HeadLayout::kColumns;
  c.head.num_classes = 2;
  c.head.outputs = {"output"};
  c.shapes = {Shape{1, 6, 128}};
  c.values.emplace_back(6 * 128);
  for (std::size_t i = 0; i < c.values[0].size(); ++i) {
    c.values[0][i] = i < 4 * 128 ? random.real(40.0F, 120.0F) : random.real(0.3F, 1.0F);
  }
  Request request;
  request.iou = 0.6F;
  CHECK(on_cpu(c, 0, request).detections.conf.size() > 32);
  compare(c, TensorType::kFloat32, {request}, ops::kMaxCandidates, request.max_det);
}

TEST_CASE("one workspace serves call after call") {
  Random random(11);
  HeadCase c = random_head(HeadForm::kRowsWithObjectness, random, {.predictions = 100, .classes = 5, .batch = 1});
  for (const float conf : {0.0F, 0.9F, 0.2F}) {
    Request request;
    request.conf = conf;
    compare(c, TensorType::kFloat32, {request}, ops::kMaxCandidates, 300);
  }
}

TEST_CASE("what does not fit the contract is refused with a reason") {
  const DeviceMemory memory(4 * 6 * 10);
  ops::HeadSpec head;
  head.layout = ops::HeadLayout::kDetections;
  head.num_classes = 2;
  head.outputs = {"detections"};
  const Shape shape{1, 10, 6};
  using ops::cuda::describe_head;
  using ops::cuda::DeviceTensor;
  const DeviceTensor tensor{memory.get(), TensorType::kFloat32, shape};
  const ops::cuda::DecodeHead described = describe_head(std::vector{tensor}, head);
  CHECK(described.predictions == 10);
  const auto refused = [](const std::vector<DeviceTensor>& outputs, const ops::HeadSpec& spec) {
    static_cast<void>(describe_head(outputs, spec));
  };
  CHECK_THROWS_AS(refused({{nullptr, TensorType::kFloat32, shape}}, head), InvalidArgument);
  CHECK_THROWS_AS(refused({{memory.get(), TensorType::kFloat32, Shape{1, 10, 7}}}, head), ModelError);
  head.layout = ops::HeadLayout::kScoresBoxes;
  head.outputs = {"scores", "boxes"};
  const std::vector<DeviceTensor> mixed{{memory.get(), TensorType::kFloat32, Shape{1, 4, 2}},
                                        {memory.get(), TensorType::kFloat16, Shape{1, 4, 4}}};
  CHECK_THROWS_WITH_AS(refused(mixed, head),
                       "output 'boxes' has another element type than 'scores'; on the GPU all raw outputs must be "
                       "float32, or all float16",
                       ModelError);
  head = {};
  head.layout = ops::HeadLayout::kAnchorMaps;
  head.num_classes = 1;
  head.outputs = {"map"};
  head.strides = {8};
  head.anchors.assign(65, {1.0F, 1.0F});
  const std::vector<DeviceTensor> map{{memory.get(), TensorType::kFloat32, Shape{1, 65 * 6, 1, 1}}};
  CHECK_THROWS_WITH_AS(refused(map, head), "expected at most 64 anchors on the GPU, got 65", ModelError);

  const auto item = [](const ops::DecodeOptions& decode, const ops::NmsOptions& nms) {
    return ops::cuda::postprocess_item(decode, nms, nullptr, {}, {1, 1});
  };
  const ops::NmsOptions nms{.max_det = 1};
  CHECK(item({}, nms).active == 1);
  CHECK_THROWS_AS(item({.conf_threshold = 1.5F}, nms), InvalidArgument);
  CHECK_THROWS_AS(item({.max_candidates = 0}, nms), InvalidArgument);
  CHECK_THROWS_AS(item({}, {.iou_threshold = -0.5F, .max_det = 1}), InvalidArgument);
  CHECK_THROWS_AS(item({}, {.max_det = 0}), InvalidArgument);
  const auto place = [&](void* at) { static_cast<void>(ops::cuda::decode_workspace(described, 10, at)); };
  CHECK_THROWS_AS(place(nullptr), InvalidArgument);
  CHECK_THROWS_AS(place(memory.as<unsigned char>() + 16), InvalidArgument);
}
