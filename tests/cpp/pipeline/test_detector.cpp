#include <doctest/doctest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstdint>
#include <exception>
#include <memory>
#include <span>
#include <string>
#include <thread>
#include <vector>

#include "allocations.hpp"
#include "pipeline/fake_backend.hpp"
#include "swiftdet/detector.hpp"

using namespace swiftdet;
using swiftdet::testing::FakeBackend;

namespace {

/// A grey image of one value; its score is value / 255.
struct Picture {
  Picture(int height, int width, std::uint8_t value)
      : pixels(static_cast<std::size_t>(height) * static_cast<std::size_t>(width) * 3, value),
        source{.view = {.data = pixels.data(),
                        .size = {height, width},
                        .channels = 3,
                        .row_stride = width * 3,
                        .pixel_stride = 3,
                        .channel_stride = 1}} {}
  ~Picture() = default;
  Picture(Picture&&) = default;  // the pixels stay where they are
  Picture& operator=(Picture&&) = default;
  Picture(const Picture&) = delete;  // the copy's view would be of this one's pixels
  Picture& operator=(const Picture&) = delete;

  std::vector<std::uint8_t> pixels;
  SourceImage source;
};

Detector::Config config_for(std::shared_ptr<const Backend> backend, int max_sessions = 2) {
  ops::HeadSpec head;
  head.layout = ops::HeadLayout::kRows;
  head.num_classes = 1;
  head.outputs = {"output"};
  return {.backend = std::move(backend),
          .preprocess = {},
          .head = head,
          .network_size = {32, 64},
          .max_sessions = max_sessions};
}

struct Interrupted : std::exception {};

DetectionsBuffer detect_one(const Detector& detector, const Picture& picture, const CallOptions& options = {}) {
  std::vector<DetectionsBuffer> results(1);
  detector.detect({&picture.source, 1}, options, results);
  return results[0];
}

}  // namespace

TEST_CASE("boxes come back in source pixels, clipped to the image") {
  const Detector detector(config_for(std::make_shared<FakeBackend>()));
  const DetectionsBuffer result = detect_one(detector, Picture(100, 50, 200));
  REQUIRE(result.size() == 1);
  // The network's box fills its input; the padding left and right of the portrait picture is clipped away.
  CHECK(result.xyxy == std::vector<float>{0.0F, 0.0F, 50.0F, 100.0F});
  CHECK(result.conf[0] == 200.0F / 255.0F);
  CHECK(result.cls[0] == 0);
  CHECK(result.truncated == 0);
}

TEST_CASE("a batch gives what its images give alone, whatever the engine's batch size") {
  for (const std::int64_t engine_batch : {1, 4}) {
    const Detector detector(config_for(std::make_shared<FakeBackend>(engine_batch)));
    std::vector<Picture> pictures;
    for (int i = 0; i < 11; ++i) pictures.emplace_back(20 + 3 * i, 40 + i, static_cast<std::uint8_t>(100 + 10 * i));
    std::vector<SourceImage> views;
    for (const Picture& picture : pictures) views.push_back(picture.source);
    std::vector<DetectionsBuffer> together(views.size());
    detector.detect(views, {}, together);
    for (std::size_t i = 0; i < pictures.size(); ++i) {
      const DetectionsBuffer alone = detect_one(detector, pictures[i]);
      CHECK(together[i].xyxy == alone.xyxy);
      CHECK(together[i].conf == alone.conf);
    }
  }
}

TEST_CASE("an engine error ends the call, and the next call works") {
  auto backend = std::make_shared<FakeBackend>();
  const Detector detector(config_for(backend));
  const Picture picture(32, 64, 250);
  std::vector<SourceImage> views(7, picture.source);
  std::vector<DetectionsBuffer> results(views.size());
  backend->fail_next_wait = true;
  CHECK_THROWS_AS(detector.detect(views, {}, results), BackendError);
  CHECK(backend->running == 0);
  backend->fail_create = true;
  const Detector fresh(config_for(backend));
  CHECK_THROWS_AS((void)detect_one(fresh, picture), BackendError);
  CHECK(detect_one(fresh, picture).size() == 1);
  CHECK(detect_one(detector, picture).size() == 1);
}

TEST_CASE("bad options and images are refused before anything runs") {
  auto backend = std::make_shared<FakeBackend>();
  const Detector detector(config_for(backend));
  const Picture picture(32, 64, 250);
  CHECK_THROWS_AS((void)detect_one(detector, picture, {.conf = 1.5F}), InvalidArgument);
  CHECK_THROWS_AS((void)detect_one(detector, picture, {.conf = std::nanf("")}), InvalidArgument);
  CHECK_THROWS_AS((void)detect_one(detector, picture, {.iou = -0.1F}), InvalidArgument);
  CHECK_THROWS_AS((void)detect_one(detector, picture, {.max_det = 0}), InvalidArgument);
  CHECK_THROWS_AS((void)detect_one(detector, picture, {.classes = {1, 1}}), InvalidArgument);
  Picture empty(1, 1, 0);
  empty.source.view.size = {0, 1};
  CHECK_THROWS_AS((void)detect_one(detector, empty), InvalidArgument);
  CHECK(backend->sessions_created == 0);
}

TEST_CASE("a head that names an output the network lacks is a model error") {
  Detector::Config config = config_for(std::make_shared<FakeBackend>());
  config.head.outputs = {"boxes"};
  CHECK_THROWS_AS(Detector{config}, ModelError);
}

TEST_CASE("a head that does not fit the network is refused before the first call") {
  Detector::Config config = config_for(std::make_shared<FakeBackend>());
  config.head.num_classes = 80;
  CHECK_THROWS_WITH_AS(Detector{config},
                       "head of layout 'rows': output 'output': expected [N, P, 84], got [?, 2, 5]; the description "
                       "does not fit this network",
                       ModelError);
  config.head.num_classes = 0;
  CHECK_THROWS_AS(Detector{config}, ModelError);
}

TEST_CASE("an output of unknown rank is looked at when it is there") {
  const auto backend = std::make_shared<FakeBackend>();
  backend->hide_output_rank();
  CHECK(detect_one(Detector(config_for(backend)), Picture(32, 64, 250)).size() == 1);
  Detector::Config config = config_for(backend);
  config.head.num_classes = 80;
  const Detector misfit(config);
  CHECK_THROWS_AS((void)detect_one(misfit, Picture(32, 64, 250)), ModelError);
  config.head.num_classes = 0;
  CHECK_THROWS_AS(Detector{config}, ModelError);
}

TEST_CASE("per-call sizes get sessions of their own, within the limit") {
  auto backend = std::make_shared<FakeBackend>();
  const Detector detector(config_for(backend));
  const Picture picture(32, 64, 250);
  for (int round = 0; round < 3; ++round) {
    CHECK(detect_one(detector, picture).size() == 1);
    CHECK(detect_one(detector, picture, {.network_size = {64, 64}}).size() == 1);
  }
  CHECK(backend->sessions_created == 2);
}

TEST_CASE("once warm, a call allocates nothing") {
  const Detector detector(config_for(std::make_shared<FakeBackend>()));
  const Picture picture(90, 120, 250);
  const std::vector<SourceImage> views(5, picture.source);
  std::vector<DetectionsBuffer> results(views.size());
  const CallOptions options;
  for (int i = 0; i < 3; ++i) detector.detect(views, options, results);
  const long before = allocations::count();
  for (int i = 0; i < 10; ++i) detector.detect(views, options, results);
  CHECK(allocations::count() == before);
  CHECK(results[4].size() == 1);
}

TEST_CASE("frames of changing shapes see no border of one another") {
  const auto backend = std::make_shared<FakeBackend>();
  backend->keep_inputs = true;
  const Detector detector(config_for(backend, 1));
  std::vector<Picture> pictures;
  pictures.emplace_back(100, 50, std::uint8_t{200});
  pictures.emplace_back(100, 50, std::uint8_t{210});
  pictures.emplace_back(50, 100, std::uint8_t{220});
  pictures.emplace_back(100, 50, std::uint8_t{230});
  pictures.emplace_back(33, 64, std::uint8_t{240});
  for (const Picture& picture : pictures) {
    (void)detect_one(detector, picture);
    const auto expected = std::make_shared<FakeBackend>();
    expected->keep_inputs = true;
    (void)detect_one(Detector(config_for(expected, 1)), picture);
    CHECK(backend->last_input() == expected->last_input());
  }
}

TEST_CASE("threads with different thresholds never see each other's") {
  const Detector detector(config_for(std::make_shared<FakeBackend>()));
  std::atomic<int> wrong{0};
  std::vector<std::thread> threads;
  for (int t = 0; t < 8; ++t) {
    threads.emplace_back([&, t] {
      const Picture picture(40 + t, 60, static_cast<std::uint8_t>(120 + t));
      const bool passes = t % 2 == 0;
      const CallOptions options{.conf = passes ? 0.1F : 0.9F};
      for (int i = 0; i < 200; ++i) {
        const DetectionsBuffer result = detect_one(detector, picture, options);
        if (result.size() != (passes ? 1U : 0U)) ++wrong;
        if (passes && result.conf[0] != static_cast<float>(120 + t) / 255.0F) ++wrong;
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  CHECK(wrong == 0);
}

TEST_CASE("an interrupted call ends, cancels what runs, and leaves a detector that works") {
  const auto backend = std::make_shared<FakeBackend>();
  const Detector detector(config_for(backend));
  const Picture picture(32, 64, 250);
  const std::vector<SourceImage> views(5, picture.source);
  std::vector<DetectionsBuffer> results(views.size());
  const InterruptCheck interrupt = +[]() -> bool { throw Interrupted(); };
  for (const std::size_t count : {std::size_t{1}, views.size()}) {
    backend->endless = true;
    backend->cancelled = 0;
    CHECK_THROWS_AS(detector.detect(std::span(views).first(count), {}, std::span(results).first(count), interrupt),
                    Interrupted);
    CHECK(backend->cancelled == (count == 1 ? 1 : 2));  // a batch keeps both sessions busy
    CHECK(backend->running == 0);
    CHECK(detector.sessions().made == 0);  // what was cancelled is not used again
    backend->endless = false;
    CHECK(detect_one(detector, picture).size() == 1);
  }
}

TEST_CASE("a call that is not worth asking again is left in peace") {
  const auto backend = std::make_shared<FakeBackend>();
  const Detector detector(config_for(backend, 1));
  static std::atomic<int> asked;
  asked = 0;
  backend->endless = true;
  const Picture picture(32, 64, 250);
  std::vector<DetectionsBuffer> results(1);
  detector.detect({&picture.source, 1}, {}, results, +[] { return ++asked < 3; });
  CHECK(asked == 3);
  CHECK(results[0].size() == 1);
}

TEST_CASE("a closed detector refuses; a forked child is told what to do, whoever holds the sessions") {
  const auto backend = std::make_shared<FakeBackend>();
  Detector::Config config = config_for(backend, 1);
  auto detector = std::make_unique<Detector>(config);
  const Picture picture(32, 64, 250);
  CHECK(detect_one(*detector, picture).size() == 1);
  const pid_t child = ::fork();
  if (child == 0) {
    int refused = 0;
    try {
      (void)detect_one(*detector, picture);
    } catch (const UsedAfterFork& e) {
      refused = std::string(e.what()).find("spawn") != std::string::npos ? 1 : 0;
    }
    detector->close();
    detector.reset();
    ::_exit(refused == 1 ? 0 : 1);
  }
  int status = -1;
  REQUIRE(::waitpid(child, &status, 0) == child);
  CHECK(status == 0);
  CHECK(detect_one(*detector, picture).size() == 1);
  detector->close();
  CHECK_THROWS_AS((void)detect_one(*detector, picture), DetectorClosed);
}

TEST_CASE("by default there is a session for each core, and one more than the engine keeps busy") {
  const Detector detector(config_for(std::make_shared<FakeBackend>(), 0));
  CHECK(detector.sessions().limit == std::max(usable_cores(), 3));
  CHECK(usable_cores() >= 1);
}
