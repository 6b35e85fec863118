// The pipeline: letterbox -> engine -> decode -> NMS -> map back -> clip, over a pool of sessions.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "swiftdet/backend.hpp"
#include "swiftdet/base/image_view.hpp"
#include "swiftdet/base/interrupt.hpp"
#include "swiftdet/base/size.hpp"
#include "swiftdet/ops/decode.hpp"
#include "swiftdet/ops/head.hpp"
#include "swiftdet/ops/letterbox.hpp"
#include "swiftdet/session_counts.hpp"

namespace swiftdet {

/// One image of a call, with the order of its channels. Borrows the pixels for the call.
struct SourceImage {
  ImageView view;
  ChannelOrder order = ChannelOrder::kBgr;
};

/// Everything about a call that may differ from the next one. Copied in, never shared between calls.
struct CallOptions {
  float conf = 0.25F;
  float iou = 0.7F;
  int max_det = 300;
  bool class_agnostic = false;
  bool multi_label = false;
  std::vector<std::uint8_t> classes{};  ///< one flag per class; empty = all
  Size network_size{};                  ///< {0, 0}: the detector's own
  int max_candidates = ops::kMaxCandidates;
  bool timed = false;  ///< on a GPU: take the stages apart by events; the CPU's are always apart
};

/// Milliseconds of one image in each stage, by a monotonic clock. On a GPU only the host can be told from the device
/// so: preprocessing is the packing of the pixels, inference all that the device does, postprocessing the unpacking.
struct StageTimes {
  double preprocess_ms = 0.0;
  double inference_ms = 0.0;
  double postprocess_ms = 0.0;

  /// What lies around the three stages of a timed run on a GPU, which then are the device's own, by CUDA events.
  struct Transfers {
    double pack_ms = 0.0;      ///< into pinned memory; by the clock
    double copy_in_ms = 0.0;   ///< by events
    double copy_out_ms = 0.0;  ///< by events
    double unpack_ms = 0.0;    ///< by the clock
  };
  std::optional<Transfers> transfers{};
};

/// Detections of one image: boxes float32 xyxy in source px, clipped to the image; by score desc. Capacity is kept.
struct DetectionsBuffer {
  std::vector<float> xyxy;  ///< [K, 4], interleaved
  std::vector<float> conf;
  std::vector<std::int32_t> cls;
  std::int64_t truncated = 0;  ///< candidates lost to max_candidates, and those that max_det left unseen
  StageTimes times{};

  [[nodiscard]] std::size_t size() const noexcept { return conf.size(); }
};

/// How many threads the operating system lets this process run at once, by its affinity mask; at least 1.
[[nodiscard]] int usable_cores() noexcept;

/// A detector that any number of threads may share: every member is safe from several threads.
/// Sessions are created lazily up to `max_sessions` and handed out in order of arrival. In a child forked from the
/// process that made it, a detector refuses to work, and its end frees nothing.
class Detector {
 public:
  struct Config {
    std::shared_ptr<const Backend> backend;
    ops::Preprocess preprocess;
    ops::HeadSpec head;
    Size network_size;
    int max_sessions = 0;  ///< 0: one more than the backend keeps busy, at least usable_cores()
  };

  /// @throw ModelError  the head contradicts itself or does not fit the backend's outputs (one of unknown rank fits).
  explicit Detector(Config config);
  ~Detector();
  Detector(const Detector&) = delete;
  Detector& operator=(const Detector&) = delete;

  /// Detects in each of `images` and fills `results` (same length). Blocks; once warm, allocates nothing.
  /// Results do not depend on the other images, the thread or the session.
  /// @param interrupt  asked while the call blocks and between the images of a batch. When it throws, the call ends
  ///                   with that as soon as the engine has let go of what runs, and loses no session.
  /// @throw InvalidArgument  bad options or image; BackendError  the engine failed, and what `results`
  ///                         then hold is of no use; DetectorClosed; UsedAfterFork.
  void detect(std::span<const SourceImage> images, const CallOptions& options, std::span<DetectionsBuffer> results,
              InterruptCheck interrupt = nullptr) const;

  /// Calls that hold a session finish; those that wait for one, and later ones, throw DetectorClosed. Does not block.
  void close() const noexcept;

  [[nodiscard]] SessionCounts sessions() const;

  [[nodiscard]] const Config& config() const noexcept;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace swiftdet
