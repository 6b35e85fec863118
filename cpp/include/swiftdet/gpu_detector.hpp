// The pipeline on a GPU: one copy in, one graph (letterbox, engine, decode, NMS), one copy out, one synchronisation.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>

#include "swiftdet/cuda/stream.hpp"
#include "swiftdet/cuda/stream_pool.hpp"
#include "swiftdet/detector.hpp"
#include "swiftdet/gpu_engine.hpp"
#include "swiftdet/ops/head.hpp"
#include "swiftdet/ops/letterbox.hpp"

namespace swiftdet {

/// One image of a call: pixels of the host, or pixels that are on the engine's device already and are read there.
struct GpuSourceImage {
  ImageView view;  ///< on the device: `data` is a device pointer, rows packed, row_stride not negative
  ChannelOrder order = ChannelOrder::kBgr;
  bool on_device = false;
  /// on_device: the stream whose work makes the pixels; the network waits for it. Unset: the pixels are there.
  std::optional<cuda::StreamHandle> producer{};
};

/// A detector on one GPU that any number of threads may share: every member is const and safe from several threads.
///
/// A session belongs to one batch size and network size; it owns a stream, an execution context, all buffers and a
/// captured graph. The first call with a new key prepares one; buffers grow with the largest image seen and are kept.
/// Once warm, a call allocates nothing on the device and makes exactly four calls of work: copy, graph, copy, wait.
/// A timed call (CallOptions::timed) launches a graph of its own that holds marks, and puts marks around it.
/// After an error that the device does not survive, every call fails at once and says so.
class GpuDetector {
 public:
  struct Config {
    std::shared_ptr<const GpuEngine> engine;
    ops::Preprocess preprocess;
    ops::HeadSpec head;
    Size network_size;
    int max_sessions = 0;  ///< 0: as many as fit in half of the device's free memory, 1 to 8
    int max_batch = 8;     ///< most images in one run; the engine's own limit holds too
  };

  /// @throw ModelError  the head contradicts itself or does not fit the engine's outputs; InvalidArgument  the engine
  ///                    cannot run `network_size`.
  explicit GpuDetector(Config config);
  ~GpuDetector();
  GpuDetector(const GpuDetector&) = delete;
  GpuDetector& operator=(const GpuDetector&) = delete;

  /// Detects in each of `images` and fills `results` (same length). Blocks.
  /// The detections equal those of swiftdet::Detector bit for bit, given the same network outputs.
  /// @throw InvalidArgument  bad options or image; BackendError, CudaError, OutOfMemory  the engine or device failed;
  ///                         what `results` then hold is of no use, and the next call starts afresh;
  ///                         DetectorClosed; UsedAfterFork.
  /// @param interrupt  as for swiftdet::Detector, asked while the call waits for a session and between runs; a run
  ///                   itself is not cut short.
  void detect(std::span<const GpuSourceImage> images, const CallOptions& options, std::span<DetectionsBuffer> results,
              InterruptCheck interrupt = nullptr) const;

  /// As swiftdet::Detector's.
  void close() const noexcept;
  [[nodiscard]] SessionCounts sessions() const;

  /// @throw UsedAfterFork  this process is a child of the one that made the detector; detect() asks by itself.
  void check_process() const;

  /// A stream of the engine's device on which whoever makes an image can queue a wait for its work: then
  /// GpuSourceImage::producer, and to be kept until detect() has returned. @throw CudaError
  /// @param after  a stream of the same device: the lent one waits for what it holds now. For a detection in another
  ///               thread, for which it may be gone, or mean another (the stream "of each thread").
  [[nodiscard]] cuda::StreamPool::Lease lend_stream(std::optional<cuda::StreamHandle> after = std::nullopt) const;

  /// Why this network's runs are queued one kernel at a time instead of as a graph; empty if they are not.
  [[nodiscard]] std::string capture_refusal() const;

  [[nodiscard]] const Config& config() const noexcept;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace swiftdet
