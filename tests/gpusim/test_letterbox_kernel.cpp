// The letterbox kernel against ops::Letterbox, which tests/python/test_letterbox.py holds against OpenCV.
#include <cuda_fp16.h>
#include <doctest/doctest.h>

#include <algorithm>
#include <bit>
#include <cstring>
#include <fstream>
#include <iterator>
#include <memory>
#include <vector>

#include "device.hpp"
#include "ops/nv12_formulas.hpp"
#include "random.hpp"
#include "swiftdet/base/error.hpp"
#include "swiftdet/ops/cuda/letterbox.hpp"

using namespace swiftdet;           // NOLINT(google-build-using-namespace): a test
using namespace swiftdet::testing;  // NOLINT(google-build-using-namespace): a test
using ops::cuda::PixelFormat;
using ops::cuda::TensorType;

namespace {

int channels_of(PixelFormat format) {
  switch (format) {
    case PixelFormat::kBgr:
    case PixelFormat::kRgb: return 3;
    case PixelFormat::kBgra:
    case PixelFormat::kRgba: return 4;
    default: return 1;
  }
}

/// An image in "device" memory, rows `pitch` apart, with the same pixels as the CPU takes them.
struct Picture {
  Size size;
  PixelFormat format;
  std::int64_t pitch;
  DeviceMemory memory;
  std::vector<std::uint8_t> rgb;  ///< kNv12: its pixels as RGB

  Picture(Random& random, Size size_, PixelFormat format_)
      : size(size_),
        format(format_),
        pitch(std::int64_t{channels_of(format_)} * size_.width + (random.chance(50) ? random.between(1, 9) : 0)),
        memory(bytes()) {
    auto* const pixels = memory.as<std::uint8_t>();
    for (std::size_t i = 0; i < bytes(); ++i) pixels[i] = static_cast<std::uint8_t>(random.between(0, 255));
    if (format != PixelFormat::kNv12) return;
    for (int y = 0; y < size.height; ++y) {
      for (int x = 0; x < size.width; ++x) {
        const std::uint8_t* const pair = chroma() + (y / 2) * pitch + x / 2 * 2;
        const ops::Rgb pixel = ops::rgb_from_ycbcr(pixels[y * pitch + x], pair[0], pair[1]);
        for (const int value : {pixel.r, pixel.g, pixel.b}) rgb.push_back(static_cast<std::uint8_t>(value));
      }
    }
  }

  /// Up to the last pixel, so that a read past it is one past the memory.
  [[nodiscard]] std::size_t bytes() const {
    const int rows = format == PixelFormat::kNv12 ? size.height + size.height / 2 : size.height;
    return static_cast<std::size_t>(pitch * (rows - 1) + std::int64_t{channels_of(format)} * size.width);
  }
  [[nodiscard]] const std::uint8_t* chroma() const {
    return format == PixelFormat::kNv12 ? memory.as<std::uint8_t>() + pitch * size.height : nullptr;
  }
  [[nodiscard]] ops::cuda::DeviceImage device() const {
    return {memory.as<std::uint8_t>(), pitch, chroma(), pitch, size, format};
  }
  [[nodiscard]] ImageView view() const {
    if (format == PixelFormat::kNv12) return {rgb.data(), size, 3, std::ptrdiff_t{3} * size.width, 3, 1};
    const int channels = channels_of(format);
    return {memory.as<std::uint8_t>(), size, channels, static_cast<std::ptrdiff_t>(pitch), channels, 1};
  }
  [[nodiscard]] ChannelOrder order() const {
    const bool blue_first = format == PixelFormat::kBgr || format == PixelFormat::kBgra;
    return blue_first ? ChannelOrder::kBgr : ChannelOrder::kRgb;
  }
};

/// Sizes of every rule: copy, halve, whole factors, shrinking, enlarging, one pixel.
Size random_source(Random& random, Size target) {
  switch (random.between(0, 6)) {
    case 0: return target;
    case 1: return {2 * target.height, 2 * target.width};
    case 2: return {3 * target.height, 3 * target.width};
    case 3: return {random.between(1, 8), random.between(1, 8)};
    case 4: return {random.between(1, 200), random.between(1, 12)};
    default: return {random.between(1, 90), random.between(1, 250)};
  }
}

/// What the kernel gets beside the images.
struct Batch {
  Size target{};
  ops::Preprocess preprocess{};
  TensorType type = TensorType::kFloat32;
};

std::uint32_t bits(float value) { return std::bit_cast<std::uint32_t>(value); }

/// Compares the kernel's whole tensor with the CPU's, in every schedule. A null picture is a place that is not used.
void compare(const Batch& batch, const std::vector<const Picture*>& pictures) {
  const ops::Preprocess& preprocess = batch.preprocess;
  const auto plane = static_cast<std::size_t>(batch.target.height) * static_cast<std::size_t>(batch.target.width);
  const std::size_t volume = 3 * plane;
  std::vector<ops::cuda::LetterboxImage> images;
  std::vector<float> expected(volume * pictures.size());
  for (std::size_t i = 0; i < pictures.size(); ++i) {
    float* const values = expected.data() + i * volume;
    if (pictures[i] == nullptr) {
      images.emplace_back();
      for (std::size_t p = 0; p < 3; ++p) {
        const float pad = static_cast<float>(preprocess.pad_value) / preprocess.divisor;
        std::fill_n(values + p * plane, plane, (pad - preprocess.mean[p]) / preprocess.std[p]);
      }
      continue;
    }
    const auto described = ops::cuda::describe_letterbox(pictures[i]->device(), preprocess, batch.target);
    images.push_back(described.image);
    const ops::LetterboxMeta meta =
        ops::Letterbox().run(pictures[i]->view(), pictures[i]->order(), preprocess, batch.target, values);
    CHECK(described.meta == meta);
  }
  const DeviceMemory device_images = to_device(images);
  const std::size_t value_bytes = batch.type == TensorType::kFloat16 ? sizeof(__half) : sizeof(float);
  for (int schedule = 0; schedule < schedules(); ++schedule) {
    use_schedule(schedule);
    const DeviceMemory tensor(expected.size() * value_bytes);
    const auto target = ops::cuda::letterbox_target(tensor.get(), batch.type, static_cast<std::int32_t>(images.size()),
                                                    batch.target, preprocess);
    REQUIRE(ops::cuda::launch_letterbox(device_images.as<ops::cuda::LetterboxImage>(), target, nullptr) == cudaSuccess);
    REQUIRE(finish());
    std::size_t differing = 0;
    for (std::size_t i = 0; i < expected.size(); ++i) {
      const bool equal = batch.type == TensorType::kFloat16 ? __half_as_ushort(tensor.as<__half>()[i]) ==
                                                                  __half_as_ushort(__float2half_rn(expected[i]))
                                                            : bits(tensor.as<float>()[i]) == bits(expected[i]);
      differing += equal ? 0 : 1;
    }
    CHECK(differing == 0);
  }
}

/// Returns how many pictures there were.
std::size_t check_random_batch(int seed) {
  Random random(static_cast<unsigned>(seed));
  Batch batch;
  batch.target = {random.between(1, 40), random.chance(70) ? 4 * random.between(1, 45) : random.between(1, 170)};
  ops::Preprocess& preprocess = batch.preprocess;
  preprocess.mode =
      random.one_of({ops::ResizeMode::kLetterbox, ops::ResizeMode::kLetterboxTopLeft, ops::ResizeMode::kStretch});
  preprocess.interpolation = random.one_of({ops::Interpolation::kLinear, ops::Interpolation::kArea});
  preprocess.pad_value = static_cast<std::uint8_t>(random.between(0, 255));
  preprocess.divisor = random.one_of({255.0F, 1.0F, 128.0F});
  if (random.chance(30)) {
    preprocess.mean = {0.485F, 0.456F, 0.406F};
    preprocess.std = {0.229F, 0.224F, 0.225F};
  }
  batch.type = random.one_of({TensorType::kFloat32, TensorType::kFloat16});
  std::vector<std::unique_ptr<Picture>> pictures;
  std::vector<const Picture*> places;
  const int images = random.between(1, 3);
  for (int i = 0; i < images; ++i) {
    if (i > 0 && random.chance(10)) {
      places.push_back(nullptr);
      continue;
    }
    const auto format = static_cast<PixelFormat>(random.between(0, 5));
    Size source = random_source(random, batch.target);
    if (format == PixelFormat::kNv12) source = {(source.height + 1) / 2 * 2, (source.width + 1) / 2 * 2};
    pictures.push_back(std::make_unique<Picture>(random, source, format));
    places.push_back(pictures.back().get());
  }
  compare(batch, places);
  return pictures.size();
}

#if defined(SWIFTDET_TEST_CASES)
constexpr int kCases = SWIFTDET_TEST_CASES;
#else
constexpr int kCases = 200;
#endif

}  // namespace

TEST_CASE("values equal the CPU's bit for bit: formats, modes, interpolations, element types, pitches, batches") {
  std::size_t pictures = 0;
  for (int seed = 0; seed < kCases; ++seed) {
    CAPTURE(seed);
    pictures += check_random_batch(seed);
  }
  CHECK(pictures > static_cast<std::size_t>(kCases));
}

TEST_CASE("two tiles in either direction, with the taps of both interpolations") {
  Random random(2);
  const Picture picture(random, {50, 200}, PixelFormat::kBgr);
  for (const auto interpolation : {ops::Interpolation::kLinear, ops::Interpolation::kArea}) {
    Batch batch{.target = {12, 140}};
    batch.preprocess.interpolation = interpolation;
    batch.preprocess.mode = ops::ResizeMode::kStretch;
    compare(batch, {&picture});
  }
}

TEST_CASE("frames of cameras at the size of a network (large)") {
  Random random(1);
  const Picture hd(random, {720, 1280}, PixelFormat::kBgr);
  const Picture full_hd(random, {1080, 1920}, PixelFormat::kNv12);
  const Picture small(random, {375, 500}, PixelFormat::kRgba);
  for (const auto interpolation : {ops::Interpolation::kLinear, ops::Interpolation::kArea}) {
    Batch batch{.target = {640, 640}};
    batch.preprocess.interpolation = interpolation;
    compare(batch, {&hd, &full_hd, &small});
  }
}

TEST_CASE("NV12 is converted as OpenCV does it") {
  // Made by tests/data/make_nv12.py with cv2.cvtColor: every luma, chroma in steps that reach both ends.
  std::ifstream file(SWIFTDET_NV12_FIXTURE, std::ios::binary);
  const std::vector<char> bytes((std::istreambuf_iterator<char>(file)), {});
  constexpr Size kSize{64, 96};
  constexpr std::size_t kPixels = std::size_t{kSize.height} * kSize.width;
  REQUIRE(bytes.size() == kPixels * 3 / 2 + kPixels * 3);
  const DeviceMemory memory(kPixels * 3 / 2);
  std::memcpy(memory.get(), bytes.data(), kPixels * 3 / 2);
  const auto* const planes = memory.as<std::uint8_t>();
  ops::Preprocess preprocess;
  preprocess.divisor = 1.0F;
  const auto described = ops::cuda::describe_letterbox(
      {planes, kSize.width, planes + kPixels, kSize.width, kSize, PixelFormat::kNv12}, preprocess, kSize);
  const DeviceMemory images = to_device(std::vector{described.image});
  const DeviceMemory tensor(kPixels * 3 * sizeof(float));
  const auto target = ops::cuda::letterbox_target(tensor.get(), TensorType::kFloat32, 1, kSize, preprocess);
  REQUIRE(ops::cuda::launch_letterbox(images.as<ops::cuda::LetterboxImage>(), target, nullptr) == cudaSuccess);
  REQUIRE(finish());
  std::size_t differing = 0;
  for (std::size_t i = 0; i < kPixels; ++i) {
    for (std::size_t plane = 0; plane < 3; ++plane) {
      const auto rgb = static_cast<std::uint8_t>(bytes[kPixels * 3 / 2 + 3 * i + plane]);
      differing += tensor.as<float>()[plane * kPixels + i] == static_cast<float>(rgb) ? 0 : 1;
    }
  }
  CHECK(differing == 0);
}

TEST_CASE("what does not fit the contract is refused with a reason") {
  const DeviceMemory memory(4096);
  const auto* const pixels = memory.as<std::uint8_t>();
  const auto describe = [](const ops::cuda::DeviceImage& image) {
    return ops::cuda::describe_letterbox(image, {}, {32, 32});
  };
  const ops::cuda::DeviceImage good{pixels, 30, nullptr, 0, {10, 10}, PixelFormat::kBgr};
  CHECK(describe(good).image.resized == Size{32, 32});
  auto bad = good;
  bad.pixels = nullptr;
  CHECK_THROWS_AS(describe(bad), InvalidArgument);
  bad = good;
  bad.pitch = 29;
  CHECK_THROWS_WITH_AS(describe(bad), "letterbox: pixel plane: expected a pitch of at least the row's 30 bytes, got 29",
                       InvalidArgument);
  bad = good;
  bad.size.width = 0;
  CHECK_THROWS_AS(describe(bad), InvalidArgument);
  bad = good;
  bad.format = static_cast<PixelFormat>(99);
  CHECK_THROWS_AS(describe(bad), InvalidArgument);
  const ops::cuda::DeviceImage nv12{pixels, 10, pixels + 100, 10, {10, 10}, PixelFormat::kNv12};
  CHECK(describe(nv12).image.source.chroma == pixels + 100);
  bad = nv12;
  bad.chroma = nullptr;
  CHECK_THROWS_AS(describe(bad), InvalidArgument);
  bad = nv12;
  bad.size.height = 9;
  CHECK_THROWS_AS(describe(bad), InvalidArgument);

  const auto target = [&](void* tensor, int batch, const ops::Preprocess& preprocess) {
    return ops::cuda::letterbox_target(tensor, TensorType::kFloat32, batch, {8, 8}, preprocess);
  };
  CHECK(target(memory.get(), 1, {}).batch == 1);
  CHECK_THROWS_AS(target(nullptr, 1, {}), InvalidArgument);
  CHECK_THROWS_AS(target(memory.as<std::uint8_t>() + 4, 1, {}), InvalidArgument);
  CHECK_THROWS_AS(target(memory.get(), 0, {}), InvalidArgument);
  CHECK_THROWS_AS(target(memory.get(), 65536, {}), InvalidArgument);
  CHECK_THROWS_AS(target(memory.get(), 1, {.divisor = 0.0F}), InvalidArgument);
}
