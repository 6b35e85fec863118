// One stream's worth of everything that a run on a GPU needs: execution context, buffers, graph.
#pragma once

#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "swiftdet/base/size.hpp"
#include "swiftdet/cuda/event.hpp"
#include "swiftdet/cuda/graph.hpp"
#include "swiftdet/cuda/memory.hpp"
#include "swiftdet/cuda/stream.hpp"
#include "swiftdet/gpu_detector.hpp"
#include "swiftdet/ops/cuda/decode.hpp"
#include "swiftdet/ops/cuda/letterbox.hpp"
#include "swiftdet/ops/cuda/nms.hpp"

namespace swiftdet {

/// What a session was made for: a graph has fixed shapes.
struct GpuSessionKey {
  std::int64_t batch = 1;
  Size size{};

  friend bool operator==(const GpuSessionKey&, const GpuSessionKey&) = default;
};

/// Serves one thread at a time, with the engine's device current.
///
/// Everything that differs between calls (pixels, their sizes and places, thresholds, wanted classes) lies in one block
/// of pinned memory that is copied to the device as a whole; the kernels read it there, so the graph never changes
/// unless a buffer has to grow.
class GpuSession {
 public:
  /// @param outputs  where the head's tensors stand among the engine's outputs.
  GpuSession(const GpuDetector::Config& config, std::span<const std::size_t> outputs, const GpuSessionKey& wanted);
  ~GpuSession();
  GpuSession(const GpuSession&) = delete;
  GpuSession& operator=(const GpuSession&) = delete;

  /// About how much device memory a session takes: what the engine tells, and an allowance for the rest.
  [[nodiscard]] static std::size_t estimated_bytes(const GpuDetector::Config& config, const GpuSessionKey& wanted);

  const GpuSessionKey key;

  /// Copies `images` (at most key.batch) and queues the run. Pixels on the host may be let go of when it returns.
  void start(std::span<const GpuSourceImage> images, const CallOptions& options);
  /// Waits for the run and unpacks it, one result for each image of start().
  void finish(std::span<DetectionsBuffer> results);

  /// As GpuDetector::capture_refusal.
  [[nodiscard]] const std::string& capture_refusal() const noexcept { return capture_refusal_; }

 private:
  using Clock = std::chrono::steady_clock;

  void reserve(std::size_t pixel_bytes, const CallOptions& options);
  void warm_up();
  /// The graph in two forms: one as it is, and one with the marks of the stages in it, for runs that are timed.
  struct Replay {
    cuda::Graph graph;
    bool current = false;  ///< it holds the buffers as they are
  };
  enum Mark : std::size_t { kBegin, kCopiedIn, kPreprocessed, kInferred, kPostprocessed, kCopiedOut, kMarks };

  void capture(Replay& replay, bool timed);
  void queue_run(bool timed) const;
  void mark(Mark which, bool timed) const;
  [[nodiscard]] double between(Mark begin, Mark end) const;
  std::size_t write_block(std::span<const GpuSourceImage> images, const CallOptions& options);

  const GpuDetector::Config& config_;
  cuda::Stream stream_;
  std::vector<cuda::DeviceBuffer> tensors_;  // the input, then every output of the engine
  std::unique_ptr<GpuContext> context_;
  ops::cuda::LetterboxTarget target_{};
  ops::cuda::DecodeHead head_{};

  // [LetterboxImage x batch][PostprocessItem x batch][flag x classes][pixels], on both sides.
  cuda::PinnedBuffer block_;
  cuda::DeviceBuffer d_block_;
  std::size_t items_offset_ = 0;
  std::size_t classes_offset_ = 0;
  std::size_t pixels_offset_ = 0;

  std::int32_t max_candidates_ = 0;
  cuda::DeviceBuffer d_decode_;
  cuda::DeviceBuffer d_nms_;
  ops::cuda::PackedLayout layout_{};
  cuda::PinnedBuffer results_;
  cuda::DeviceBuffer d_results_;

  std::unique_ptr<cuda::Event> pixels_ready_;        // made for the first image that is on the device
  std::vector<std::unique_ptr<cuda::Event>> marks_;  // made for the first timed run
  std::array<Replay, 2> replays_;                    // of runs that are not timed, and of those that are
  std::string capture_refusal_;
  bool warm_ = false;

  std::size_t image_count_ = 0;
  bool timed_ = false;
  double pack_ms_ = 0.0;
  Clock::time_point queued_;
};

}  // namespace swiftdet
