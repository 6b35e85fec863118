// From the network's raw outputs to candidate boxes over the confidence threshold.
#pragma once

#include <cstdint>
#include <memory>
#include <span>

#include "swiftdet/base/size.hpp"
#include "swiftdet/base/tensor_view.hpp"
#include "swiftdet/ops/candidates.hpp"
#include "swiftdet/ops/head.hpp"

namespace swiftdet::ops {

/// The most candidates that enter NMS, on every device. Source: the official YOLOv7 evaluation.
inline constexpr int kMaxCandidates = 30000;

struct DecodeOptions {
  float conf_threshold = 0.25F;             ///< a candidate needs score > conf_threshold (strict)
  bool multi_label = false;                 ///< every class over the threshold, or the best class of a prediction only
  std::span<const std::uint8_t> classes{};  ///< one flag per class, non-zero = wanted; empty = all
  int max_candidates = kMaxCandidates;      ///< the best by (score, class, anchor) stay; the rest is counted
};

/// Checks that `head` does not contradict itself and that `outputs` (in the order of `head.outputs`) have the shapes
/// that it describes. Looks at shapes only; a dynamic dimension (-1, as in a Port) fits everything.
/// @throw ModelError  which output, the shape expected and the shape found.
void check_head(std::span<const TensorView> outputs, const HeadSpec& head);

/// Decoder with its scratch kept between calls: one per session, one thread at a time.
/// Allocates nothing once its buffers have reached the size that the model and the thresholds need.
class Decoder {
 public:
  /// @throw ModelError  `head` contradicts itself.
  explicit Decoder(HeadSpec head);
  ~Decoder();
  Decoder(Decoder&&) noexcept;
  Decoder& operator=(Decoder&&) noexcept;

  [[nodiscard]] const HeadSpec& head() const noexcept;

  /// Replaces the content of `candidates` with those of batch item `image`.
  ///
  /// A prediction is a candidate when its score is above the threshold and, where there is one, its objectness is
  /// too. The score is float32 objectness * class. Scores are compared before anything expensive is computed; where
  /// the head is raw, in logit space, with a threshold chosen so that the outcome equals `score > conf_threshold`
  /// exactly (logits of +inf are scores of 1). Best class of a prediction: the highest score, ties to the lower class;
  /// with `classes` given, the best among all classes decides, then the filter applies (as the official pipelines do).
  ///
  /// A score that is not finite counts as absent. `max_candidates` cuts by the order of Candidates; boxes are decoded
  /// for what stays, and candidates whose box is not finite are then dropped without being counted. A detection whose
  /// class is outside [0, C) is padding; with fractional classes the integer part counts.
  /// @throw ModelError       outputs do not match the head, or have dynamic dimensions.
  /// @throw InvalidArgument  conf_threshold outside [0, 1], max_candidates below 1, `image` outside the batch,
  ///                         `classes` of another length than the head's classes.
  void run(std::span<const TensorView> outputs, int image, const DecodeOptions& options, Candidates& candidates);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace swiftdet::ops
