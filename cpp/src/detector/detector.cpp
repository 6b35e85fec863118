// The pipeline: the only place that knows the order of the steps.
#include "swiftdet/detector.hpp"

#include <sched.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cmath>
#include <optional>
#include <string>
#include <thread>
#include <utility>

#include "detector/call_checks.hpp"
#include "detector/session_pool.hpp"
#include "ops/image_checks.hpp"
#include "ops/letterbox_formulas.hpp"
#include "swiftdet/base/error.hpp"
#include "swiftdet/base/process.hpp"
#include "swiftdet/ops/nms.hpp"

namespace swiftdet {
namespace {

using Clock = std::chrono::steady_clock;

/// How many sessions one call may keep busy.
constexpr std::size_t kMaxFlights = 16;

double milliseconds(Clock::duration duration) { return std::chrono::duration<double, std::milli>(duration).count(); }

/// One thread's worth of everything a call needs. Holds the batch it has in flight.
struct Session {
  Session(std::unique_ptr<BackendSession> engine_session, const ops::HeadSpec& head, Size size)
      : key(size),
        engine(std::move(engine_session)),
        batch(engine->input().shape[0]),
        decoder(head),
        placed(static_cast<std::size_t>(batch)),
        raw_outputs(head.outputs.size()) {}

  Size key;  // the network's size
  std::unique_ptr<BackendSession> engine;
  std::int64_t batch;
  ops::Letterbox letterbox;
  ops::Decoder decoder;
  ops::Nms nms;
  ops::Candidates candidates;
  std::vector<std::optional<ops::LetterboxGeometry>> placed;  // where the image of each batch item lies
  std::vector<TensorView> raw_outputs;                        // in the head's order

  bool in_flight = false;
  std::size_t first_image = 0;
  std::size_t image_count = 0;
  double preprocess_ms = 0.0;
  Clock::time_point started;
};

int session_limit(const Detector::Config& config) {
  if (config.max_sessions > 0) return config.max_sessions;
  // One more than run at once: while it is prepared or unpacked, the engine has something to do.
  return std::max(config.backend->preferred_sessions() + 1, usable_cores());
}

}  // namespace

int usable_cores() noexcept {
#if defined(__linux__)
  cpu_set_t allowed;
  CPU_ZERO(&allowed);
  // Fails where the machine has more processors than the set has room for; then all are taken to be usable.
  if (::sched_getaffinity(0, sizeof(allowed), &allowed) == 0) return std::max(CPU_COUNT(&allowed), 1);
#endif
  return static_cast<int>(std::max(1U, std::thread::hardware_concurrency()));
}

struct Detector::State {
  explicit State(Config given)
      : config(std::move(given)),
        outputs(output_indices(config.backend->outputs(), config.head)),
        pool(session_limit(config), [this](Size size) { return make_session(size); }) {}

  [[nodiscard]] std::unique_ptr<Session> make_session(Size size) const {
    const std::int64_t fixed_batch = config.backend->input().shape[0];
    const Shape shape{fixed_batch > 0 ? fixed_batch : 1, 3, size.height, size.width};
    return std::make_unique<Session>(config.backend->create_session(shape), config.head, size);
  }

  void start(Session& session, std::span<const SourceImage> images, std::size_t first) const {
    const auto begin = Clock::now();
    const MutableTensorView input = session.engine->input();
    const std::int64_t image_volume = input.shape.volume() / session.batch;
    session.first_image = first;
    session.image_count = std::min(static_cast<std::size_t>(session.batch), images.size() - first);
    for (std::size_t i = 0; i < session.image_count; ++i) {
      const SourceImage& image = images[first + i];
      const auto geometry = ops::letterbox_geometry(image.view.size, session.key, config.preprocess.mode);
      // Engines leave their input alone, so frames of one size find the border of the frame before.
      const auto border = session.placed[i] == geometry ? ops::Border::kInPlace : ops::Border::kWrite;
      session.placed[i].reset();
      session.letterbox.run(image.view, image.order, config.preprocess, session.key,
                            input.data + static_cast<std::int64_t>(i) * image_volume, border);
      session.placed[i] = geometry;
    }
    session.started = Clock::now();
    session.preprocess_ms = milliseconds(session.started - begin);
    session.engine->start();
    session.in_flight = true;
  }

  /// Whether the run is over after at most kInterruptInterval.
  static bool wait_a_while(Session& session) {
    session.in_flight = false;  // nothing is running after an exception, either
    session.in_flight = !session.engine->wait_for(kInterruptInterval);
    return !session.in_flight;
  }

  void finish(Session& session, std::span<const SourceImage> images, const CallOptions& options,
              std::span<DetectionsBuffer> results, Interrupts& interrupts) const {
    while (interrupts.wanted() && !wait_a_while(session)) interrupts.ask();
    if (session.in_flight) {
      session.in_flight = false;  // whatever wait() says, nothing is running after it
      session.engine->wait();
    }
    const auto inferred = Clock::now();
    const std::span<const TensorView> ports = session.engine->outputs();
    for (std::size_t i = 0; i < outputs.size(); ++i) session.raw_outputs[i] = ports[outputs[i]];
    const auto count = static_cast<double>(session.image_count);
    auto begin = inferred;
    for (std::size_t i = 0; i < session.image_count; ++i) {
      DetectionsBuffer& result = results[session.first_image + i];
      postprocess(session, static_cast<int>(i), images[session.first_image + i].view.size, options, result);
      const auto end = Clock::now();
      result.times = {.preprocess_ms = session.preprocess_ms / count,
                      .inference_ms = milliseconds(inferred - session.started) / count,
                      .postprocess_ms = milliseconds(end - begin)};
      begin = end;
    }
  }

  void postprocess(Session& session, int item, Size source, const CallOptions& options,
                   DetectionsBuffer& result) const {
    ops::Candidates& candidates = session.candidates;
    session.decoder.run(session.raw_outputs, item,
                        {.conf_threshold = options.conf,
                         .multi_label = options.multi_label,
                         .classes = options.classes,
                         .max_candidates = options.max_candidates},
                        candidates);
    result.truncated = candidates.dropped;
    result.xyxy.clear();
    result.conf.clear();
    result.cls.clear();
    const ops::LetterboxMeta& meta = session.placed[static_cast<std::size_t>(item)]->meta;
    const auto source_x = [&](float x) {
      return ops::to_source(x, static_cast<float>(meta.pad_left), static_cast<float>(meta.scale_x),
                            static_cast<float>(source.width));
    };
    const auto source_y = [&](float y) {
      return ops::to_source(y, static_cast<float>(meta.pad_top), static_cast<float>(meta.scale_y),
                            static_cast<float>(source.height));
    };
    const auto emit = [&](std::size_t k) {
      result.xyxy.push_back(source_x(candidates.x1[k]));
      result.xyxy.push_back(source_y(candidates.y1[k]));
      result.xyxy.push_back(source_x(candidates.x2[k]));
      result.xyxy.push_back(source_y(candidates.y2[k]));
      result.conf.push_back(candidates.score[k]);
      result.cls.push_back(candidates.cls[k]);
    };
    if (config.head.layout == ops::HeadLayout::kDetections) {  // the network has done NMS
      const std::size_t kept = std::min(candidates.size(), static_cast<std::size_t>(options.max_det));
      for (std::size_t k = 0; k < kept; ++k) emit(k);
      result.truncated += static_cast<std::int64_t>(candidates.size() - kept);
    } else {
      const auto kept = session.nms.run(
          candidates,
          {.iou_threshold = options.iou, .class_agnostic = options.class_agnostic, .max_det = options.max_det});
      for (const std::int32_t k : kept) emit(static_cast<std::size_t>(k));
      result.truncated += static_cast<std::int64_t>(session.nms.truncated());
    }
  }

  Config config;
  OwnProcess process;
  std::vector<std::size_t> outputs;
  mutable SessionPool<Session> pool;
};

Detector::Detector(Config config) {
  if (config.backend == nullptr) throw InvalidArgument("a detector needs an engine");
  state_ = std::make_unique<State>(std::move(config));
}

Detector::~Detector() {
  // In a forked child nothing can be freed: engines join threads that do not exist, and locks may be held for ever.
  if (!state_->process.here()) static_cast<void>(state_.release());  // NOLINT(bugprone-unused-return-value): leaked
}

const Detector::Config& Detector::config() const noexcept { return state_->config; }

void Detector::close() const noexcept {
  if (state_->process.here()) state_->pool.close();
}

SessionCounts Detector::sessions() const {
  state_->process.check("this detector was made");
  return state_->pool.counts();
}

void Detector::detect(std::span<const SourceImage> images, const CallOptions& options,
                      std::span<DetectionsBuffer> results, InterruptCheck interrupt) const {
  using Lease = SessionPool<Session>::Lease;
  state_->process.check("this detector was made");
  check_options(options, state_->config.head.num_classes);
  for (const SourceImage& image : images) ops::check_source(image.view, "detect");
  if (results.size() != images.size()) throw InvalidArgument("one result per image expected");
  if (images.empty()) return;

  const Size size = options.network_size == Size{} ? state_->config.network_size : options.network_size;
  Interrupts interrupts(interrupt);

  // Nothing may stay in flight when a call ends, however it ends: the next user of a session starts afresh.
  struct Flight {
    Lease lease;
    Flight() = default;
    Flight(const Flight&) = delete;
    Flight& operator=(const Flight&) = delete;
    ~Flight() {
      if (!lease || !lease->in_flight) return;
      lease->engine->cancel();
      try {
        lease->engine->wait();
      } catch (...) {  // NOLINT(bugprone-empty-catch): the error that ends the call is already on its way
      }
      lease->in_flight = false;
      lease.discard();  // engines need not promise what a cancelled run leaves behind
    }
  };

  Flight first;
  first.lease = state_->pool.acquire(size, interrupts);
  const auto batch = static_cast<std::size_t>(first.lease->batch);
  if (images.size() <= batch) {
    state_->start(*first.lease, images, 0);
    state_->finish(*first.lease, images, options, results, interrupts);
    return;
  }

  // Several batches: as many sessions as are free now keep the engine busy while this thread prepares and finishes.
  const std::size_t groups = (images.size() + batch - 1) / batch;
  std::array<Flight, kMaxFlights> flights;
  flights[0].lease = std::move(first.lease);
  std::size_t flying = 1;
  while (flying < std::min(groups, kMaxFlights)) {
    flights[flying].lease = state_->pool.try_acquire(size);
    if (!flights[flying].lease) break;
    ++flying;
  }
  for (std::size_t group = 0; group < groups + flying; ++group) {
    Session& session = *flights[group % flying].lease;
    if (session.in_flight) state_->finish(session, images, options, results, interrupts);
    interrupts.ask_if_due();
    if (group < groups) state_->start(session, images, group * batch);
  }
}

}  // namespace swiftdet
