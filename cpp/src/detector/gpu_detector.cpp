#include "swiftdet/gpu_detector.hpp"

#include <algorithm>
#include <array>
#include <mutex>
#include <utility>
#include <vector>

#include "detector/call_checks.hpp"
#include "detector/gpu_session.hpp"
#include "detector/session_pool.hpp"
#include "ops/image_checks.hpp"
#include "swiftdet/base/error.hpp"
#include "swiftdet/base/log.hpp"
#include "swiftdet/base/process.hpp"
#include "swiftdet/cuda/device.hpp"
#include "swiftdet/cuda/event.hpp"
#include "swiftdet/cuda/memory.hpp"

namespace swiftdet {
namespace {

using Pool = SessionPool<GpuSession, GpuSessionKey>;

/// More runs in flight than this only wait for the device, each with its memory.
constexpr int kMostDefaultSessions = 8;

/// How many sessions to allow where the caller does not say. Their memory is taken when they are made, which may be
/// later than this, and others use the device too: hence half of what is free.
int default_sessions(const GpuDetector::Config& config, std::int64_t batch) {
  const cuda::DeviceGuard guard(config.engine->device());
  const std::size_t each = GpuSession::estimated_bytes(config, {batch, config.network_size});
  const std::size_t fitting = cuda::free_memory() / 2 / each;
  return static_cast<int>(std::clamp<std::size_t>(fitting, 1, kMostDefaultSessions));
}

std::vector<std::size_t> head_outputs(const GpuDetector::Config& config) {
  std::vector<Port> ports;
  for (const GpuPort& port : config.engine->outputs()) ports.push_back({port.name, port.shape});
  return output_indices(ports, config.head);
}

void check_image(const GpuSourceImage& image) {
  ops::check_source(image.view, "detect");
  if (!image.on_device) return;
  const std::ptrdiff_t row = std::ptrdiff_t{image.view.size.width} * image.view.channels;
  if (!image.view.packed_rows() || image.view.row_stride < row) {
    // Not run in tests: Python refuses such arrays before; this is for callers from C++.
    throw InvalidArgument(
        "detect: an image on the GPU must have its pixels back to back and rows in ascending order; make a contiguous "
        "copy of it first");
  }
}

}  // namespace

struct GpuDetector::State {
  explicit State(Config given)
      : config(std::move(given)),
        outputs(head_outputs(config)),
        pool(config.max_sessions > 0 ? config.max_sessions
                                     : default_sessions(config, batches_of(config.network_size).most),
             [this](const GpuSessionKey& key) { return std::make_unique<GpuSession>(config, outputs, key); }),
        streams(std::make_shared<cuda::StreamPool>(config.engine->device())) {
    static_cast<void>(batches_of(config.network_size));
  }

  /// How many images of `size` a run takes.
  [[nodiscard]] GpuEngine::BatchRange batches_of(Size size) const {
    const GpuEngine::BatchRange range = config.engine->batch_range(size);
    if (range.most < 1) {
      std::string ranges;
      for (const GpuEngine::Profile& profile : config.engine->profiles()) {
        ranges += (ranges.empty() ? "" : ", ") + profile.least.to_string() + " to " + profile.most.to_string();
      }
      throw InvalidArgument("the engine was not built for images of " + std::to_string(size.height) + "x" +
                            std::to_string(size.width) + "; its input may be " + ranges);
    }
    return {range.least, std::max(range.least, std::min<std::int64_t>(range.most, std::max(config.max_batch, 1)))};
  }

  void check_alive() const {
    const std::lock_guard lock(mutex);
    if (!lost.empty()) {
      throw CudaError("this detector is dead, because its device failed before: " + lost, true);
    }
  }

  void note_loss(const CudaError& error) const {
    if (!error.device_lost()) return;
    const std::lock_guard lock(mutex);
    if (lost.empty()) lost = error.what();
  }

  void note_refusal(const std::string& refusal) const {
    const std::lock_guard lock(mutex);
    if (!capture_refusal.empty()) return;
    capture_refusal = refusal;
    log(Severity::kWarning,
        ("this network cannot be captured as a CUDA graph; its kernels are queued one by one, which takes the host "
         "longer: " +
         refusal)
            .c_str());
  }

  Config config;
  OwnProcess process;
  std::vector<std::size_t> outputs;
  mutable std::mutex mutex;  // guards the two below
  mutable std::string lost;
  mutable std::string capture_refusal;
  mutable Pool pool;  // dies before what is above: sessions use the config
  std::shared_ptr<cuda::StreamPool> streams;
};

GpuDetector::GpuDetector(Config config) {
  if (config.engine == nullptr) throw InvalidArgument("a detector needs an engine");
  state_ = std::make_unique<State>(std::move(config));
}

GpuDetector::~GpuDetector() {
  if (!state_->process.here()) {  // CUDA does not work in a forked child, and locks may be held for ever
    // Not run in tests: it is, by children whose counts are lost when they end by _exit.
    static_cast<void>(state_.release());  // NOLINT(bugprone-unused-return-value): leaked on purpose
    return;
  }
  std::optional<cuda::DeviceGuard> guard;
  try {
    guard.emplace(state_->config.engine->device());
  } catch (const Error&) {  // NOLINT(bugprone-empty-catch): the device is lost, its memory with it
  }
  const std::shared_ptr<const GpuEngine> engine = state_->config.engine;  // sessions end before it, under the guard
  state_.reset();
}

const GpuDetector::Config& GpuDetector::config() const noexcept { return state_->config; }

cuda::StreamPool::Lease GpuDetector::lend_stream(std::optional<cuda::StreamHandle> after) const {
  check_process();
  state_->check_alive();
  try {
    cuda::StreamPool::Lease lease = state_->streams->lend();
    if (after) {
      const int on = state_->config.engine->device();
      const cuda::DeviceGuard guard(on);  // the default streams are those of the current device
      const cuda::Event mark(on, cuda::Event::Purpose::kOrder);
      mark.record(*after);
      mark.make_wait(lease.handle());
    }
    return lease;
  } catch (const CudaError& e) {
    state_->note_loss(e);
    throw;
  }
}

void GpuDetector::close() const noexcept {
  if (state_->process.here()) state_->pool.close();
}

void GpuDetector::check_process() const { state_->process.check("this detector was made"); }

SessionCounts GpuDetector::sessions() const {
  check_process();
  return state_->pool.counts();
}

std::string GpuDetector::capture_refusal() const {
  const std::lock_guard lock(state_->mutex);
  return state_->capture_refusal;
}

void GpuDetector::detect(std::span<const GpuSourceImage> images, const CallOptions& options,
                         std::span<DetectionsBuffer> results, InterruptCheck interrupt) const {
  check_process();
  check_options(options, state_->config.head.num_classes);
  for (const GpuSourceImage& image : images) check_image(image);
  if (results.size() != images.size()) throw InvalidArgument("one result per image expected");
  if (images.empty()) return;
  state_->check_alive();

  const Size size = options.network_size == Size{} ? state_->config.network_size : options.network_size;
  const GpuEngine::BatchRange range = state_->batches_of(size);
  const auto most = static_cast<std::size_t>(range.most);
  Interrupts interrupts(interrupt);
  std::optional<cuda::DeviceGuard> guard;  // outlives the sessions that a failure discards

  // Two runs in flight: the host packs the next images while the device works on the ones before.
  struct Flight {
    Pool::Lease lease;
    std::size_t first = 0;
    std::size_t count = 0;
  };
  std::array<Flight, 2> flights;
  const auto key_at = [&](std::size_t first) {
    const auto count = static_cast<std::int64_t>(std::min(most, images.size() - first));
    return GpuSessionKey{std::max(count, range.least), size};
  };
  const auto finish = [&](Flight& flight) {
    flight.lease->finish(results.subspan(flight.first, flight.count));
    flight.count = 0;
  };
  try {
    guard.emplace(state_->config.engine->device());
    std::size_t turn = 0;
    for (std::size_t first = 0; first < images.size(); turn ^= 1U) {
      Flight* flight = &flights[turn];
      if (flight->count > 0) finish(*flight);
      interrupts.ask_if_due();
      const GpuSessionKey key = key_at(first);
      if (!flight->lease || flight->lease->key != key) {
        flight->lease = {};
        Flight& other = flights[turn ^ 1U];
        if (other.lease) {
          flight->lease = state_->pool.try_acquire(key);
          if (!flight->lease) {  // only the first acquisition of a thread may block: wait with empty hands
            if (other.count > 0) finish(other);
            if (other.lease->key == key) {
              flight = &other;
              turn ^= 1U;
            } else {
              other.lease = {};
              flight->lease = state_->pool.acquire_again(key, interrupts);
            }
          }
        } else {  // the first run: behind it, one of the two flights always has a session
          flight->lease = state_->pool.acquire(key, interrupts);
        }
      }
      flight->first = first;
      flight->count = std::min(most, images.size() - first);
      flight->lease->start(images.subspan(first, flight->count), options);
      if (!flight->lease->capture_refusal().empty()) state_->note_refusal(flight->lease->capture_refusal());
      first += flight->count;
    }
    for (Flight& flight : flights) {
      if (flight.count > 0) finish(flight);
    }
  } catch (const CudaError& e) {
    state_->note_loss(e);
    for (Flight& flight : flights) flight.lease.discard();
    throw;
  } catch (...) {
    for (Flight& flight : flights) flight.lease.discard();
    throw;
  }
}

}  // namespace swiftdet
