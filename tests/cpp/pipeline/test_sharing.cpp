// One detector, many threads, fewer sessions than threads, and an engine that fails now and then: every call either
// gives what a detector of its own gives, bit for bit, or says that the engine failed.
//
// SWIFTDET_SHARING_CALLS sets the number of calls; the preset tsan runs this under ThreadSanitizer.
#include <doctest/doctest.h>

#include <algorithm>
#include <atomic>
#include <bit>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <random>
#include <span>
#include <string>
#include <thread>
#include <vector>

#include "swiftdet/base/error.hpp"
#include "swiftdet/detector.hpp"

using namespace swiftdet;

namespace {

constexpr int kThreads = 16;
constexpr int kSessions = 5;
constexpr std::int64_t kRows = 12;
constexpr std::int64_t kClasses = 3;
constexpr Size kSize{32, 64};
constexpr Size kOtherSize{64, 32};

long wanted_calls() {
  const char* const text = std::getenv("SWIFTDET_SHARING_CALLS");  // NOLINT(concurrency-mt-unsafe): nobody sets it
  return text == nullptr ? 4000 : std::strtol(text, nullptr, 10);
}

/// Head "rows" without objectness [N, 12, 4 + 3]. All it says hangs on every value of that image's input: one pixel
/// of another image there, and nothing is as it was.
class HashingBackend final : public Backend {
 public:
  explicit HashingBackend(std::int64_t batch) : input_{"images", {batch, 3, -1, -1}} {}

  [[nodiscard]] const Port& input() const noexcept override { return input_; }
  [[nodiscard]] const std::vector<Port>& outputs() const noexcept override { return outputs_; }
  [[nodiscard]] int preferred_sessions() const noexcept override { return 2; }
  [[nodiscard]] std::string description() const override { return "hashing"; }
  [[nodiscard]] std::unique_ptr<BackendSession> create_session(const Shape& shape) const override {
    maybe_fail("creation refused");
    return std::make_unique<Session>(*this, shape);
  }

  /// Every that many steps one fails; 0: none.
  std::atomic<int> fail_period{0};
  mutable std::atomic<int> failures{0};

 private:
  void maybe_fail(const char* why) const {
    if (fail_period == 0 || ++steps_ % fail_period != 0) return;
    ++failures;
    throw BackendError(why);
  }

  class Session final : public BackendSession {
   public:
    Session(const HashingBackend& owner, const Shape& shape)
        : owner_(owner),
          input_values_(static_cast<std::size_t>(shape.volume())),
          output_values_(static_cast<std::size_t>(shape[0] * kRows * (4 + kClasses))),
          input_{input_values_.data(), shape} {
      output_.push_back({output_values_.data(), {shape[0], kRows, 4 + kClasses}});
    }
    [[nodiscard]] MutableTensorView input() override { return input_; }
    void start() override { owner_.maybe_fail("start refused"); }
    void wait() override {
      const auto volume = static_cast<std::size_t>(input_.shape.volume() / input_.shape[0]);
      for (std::int64_t n = 0; n < input_.shape[0]; ++n) {
        std::uint32_t hash = 2166136261U;
        for (const float value : std::span(input_values_).subspan(static_cast<std::size_t>(n) * volume, volume)) {
          hash = (hash ^ std::bit_cast<std::uint32_t>(value)) * 16777619U;
        }
        std::minstd_rand random(hash % 2147483646U + 1);
        const auto fraction = [&random] { return static_cast<float>(random() % 4096) / 4096.0F; };
        float* row = output_values_.data() + n * kRows * (4 + kClasses);
        for (std::int64_t i = 0; i < kRows; ++i, row += 4 + kClasses) {
          row[0] = (0.3F + 0.4F * fraction()) * static_cast<float>(input_.shape[3]);
          row[1] = (0.3F + 0.4F * fraction()) * static_cast<float>(input_.shape[2]);
          row[2] = (0.3F + 0.3F * fraction()) * static_cast<float>(input_.shape[3]);
          row[3] = (0.3F + 0.3F * fraction()) * static_cast<float>(input_.shape[2]);
          for (std::int64_t c = 0; c < kClasses; ++c) row[4 + c] = fraction();
        }
      }
      std::this_thread::yield();
      owner_.maybe_fail("inference refused");
    }
    [[nodiscard]] std::span<const TensorView> outputs() const override { return output_; }

   private:
    const HashingBackend& owner_;
    std::vector<float> input_values_;
    std::vector<float> output_values_;
    MutableTensorView input_;
    std::vector<TensorView> output_;
  };

  mutable std::atomic<int> steps_{0};
  Port input_;
  std::vector<Port> outputs_{{"output", {-1, kRows, 4 + kClasses}}};
};

Detector::Config config_for(std::shared_ptr<const Backend> backend, int max_sessions) {
  ops::HeadSpec head;
  head.layout = ops::HeadLayout::kRows;
  head.num_classes = static_cast<int>(kClasses);
  head.outputs = {"output"};
  return {.backend = std::move(backend),
          .preprocess = {},
          .head = head,
          .network_size = kSize,
          .max_sessions = max_sessions};
}

/// Images of many shapes, and calls of many kinds.
struct Cases {
  Cases() {
    std::mt19937 random(5);
    for (int i = 0; i < 10; ++i) {
      const Size size{1 + static_cast<int>(random() % 70), 1 + static_cast<int>(random() % 90)};
      std::vector<std::uint8_t>& image = pixels.emplace_back();
      image.resize(static_cast<std::size_t>(size.height) * static_cast<std::size_t>(size.width) * 3);
      for (std::uint8_t& value : image) value = static_cast<std::uint8_t>(random());
      images.push_back({.view = {.data = image.data(),
                                 .size = size,
                                 .channels = 3,
                                 .row_stride = size.width * 3,
                                 .pixel_stride = 3,
                                 .channel_stride = 1},
                        .order = i % 2 == 0 ? ChannelOrder::kBgr : ChannelOrder::kRgb});
    }
    for (int i = 0; i < 12; ++i) {
      CallOptions& call = options.emplace_back();
      call.conf = static_cast<float>(i % 6) * 0.15F;
      call.iou = i % 3 == 0 ? 0.3F : 0.7F;
      call.max_det = i % 4 == 0 ? 3 : 300;
      call.class_agnostic = i % 2 == 0;
      call.multi_label = i % 5 < 2;
      if (i % 3 == 1) call.classes = {1, 0, static_cast<std::uint8_t>(i % 2)};
      if (i % 4 == 3) call.network_size = kOtherSize;
    }
  }
  std::vector<std::vector<std::uint8_t>> pixels;
  std::vector<SourceImage> images;
  std::vector<CallOptions> options;
};

bool same(const DetectionsBuffer& a, const DetectionsBuffer& b) {
  return a.xyxy == b.xyxy && a.conf == b.conf && a.cls == b.cls && a.truncated == b.truncated;
}

}  // namespace

TEST_CASE("16 threads, mixed options, sizes and batches, failures: no call gets what is another's") {
  const Cases cases;
  for (const std::int64_t engine_batch : {1, 3}) {
    // The serial twins: alone, in a detector that nobody else uses.
    std::vector<std::vector<DetectionsBuffer>> expected;
    std::size_t found = 0;
    for (const CallOptions& options : cases.options) {
      std::vector<DetectionsBuffer>& row = expected.emplace_back(cases.images.size());
      const Detector alone(config_for(std::make_shared<HashingBackend>(engine_batch), 1));
      for (std::size_t i = 0; i < row.size(); ++i) {
        alone.detect({&cases.images[i], 1}, options, {&row[i], 1});
        found += row[i].size();
      }
    }
    REQUIRE(found > 200);

    const auto backend = std::make_shared<HashingBackend>(engine_batch);
    backend->fail_period = 97;
    const Detector shared(config_for(backend, kSessions));
    std::atomic<long> calls{0};
    std::atomic<long> crossings{0};
    std::atomic<long> failed{0};
    const long wanted = wanted_calls() / 2;
    std::vector<std::thread> threads;
    for (int t = 0; t < kThreads; ++t) {
      threads.emplace_back([&, t] {
        std::mt19937 random(static_cast<std::mt19937::result_type>(1000 * engine_batch + t));
        std::vector<SourceImage> images;
        std::vector<std::size_t> which;
        std::vector<DetectionsBuffer> results;
        while (calls++ < wanted) {
          const std::size_t o = random() % cases.options.size();
          const std::size_t count = random() % 3 == 0 ? 1 + random() % 7 : 1;
          images.clear();
          which.clear();
          for (std::size_t k = 0; k < count; ++k) {
            which.push_back(random() % cases.images.size());
            images.push_back(cases.images[which.back()]);
          }
          results.resize(count);
          try {
            shared.detect(images, cases.options[o], results, random() % 2 == 0 ? nullptr : +[] { return true; });
          } catch (const BackendError&) {
            ++failed;
            continue;
          }
          for (std::size_t k = 0; k < count; ++k) {
            if (!same(results[k], expected[o][which[k]])) ++crossings;
          }
        }
      });
    }
    for (std::thread& thread : threads) thread.join();
    CHECK(crossings == 0);
    CHECK(failed > 0);
    CHECK(failed <= backend->failures);  // a batch may meet several
    const SessionCounts counts = shared.sessions();
    CHECK(counts.made == counts.idle);
    CHECK(counts.made <= kSessions);
    CHECK(counts.waiting == 0);
    MESSAGE("engine batch " << engine_batch << ": " << wanted << " calls, " << failed.load() << " failed as injected, "
                            << crossings.load() << " crossings");
  }
}
