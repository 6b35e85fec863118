#include "swiftdet/ops/decode.hpp"

#include <utility>

#include "cpu/isa.hpp"
#include "ops/decode_boxes.hpp"
#include "ops/decode_checks.hpp"
#include "ops/decode_geometry.hpp"
#include "ops/decode_kernels.hpp"
#include "ops/decode_scan.hpp"
#include "ops/decode_top.hpp"

namespace swiftdet::ops {
struct Decoder::State {
  State(HeadSpec head_spec, const cpu::DecodeKernels& kernels)
      : head(std::move(head_spec)), scanner(kernels), boxes(kernels) {}

  void scan(std::span<const TensorView> outputs, std::int64_t image, const HeadGeometry& geometry,
            const ScoreRule& rule);
  void scan_detections(const float* rows, std::int32_t count, const ScoreRule& rule);

  HeadSpec head;
  ScoreScanner scanner;
  TopCandidates top;
  BoxDecoder boxes;
  std::vector<std::int32_t> anchors;
  std::vector<Box> decoded;
  float known_threshold = -1.0F;  ///< the threshold that known_logit belongs to
  float known_logit = 0.0F;
};

void Decoder::State::scan_detections(const float* rows, std::int32_t count, const ScoreRule& rule) {
  for (std::int32_t i = 0; i < count; ++i) {
    const float score = rows[i * 6 + 4];
    const float cls = rows[i * 6 + 5];
    if (!is_candidate(score, rule.threshold)) continue;
    if (!(cls >= 0.0F && cls < static_cast<float>(head.num_classes))) continue;  // padding, or NaN
    const auto index = static_cast<std::int32_t>(cls);
    if (!rule.classes.empty() && rule.classes[static_cast<std::size_t>(index)] == 0) continue;
    top.push(score, index, i);
  }
}

void Decoder::State::scan(std::span<const TensorView> outputs, std::int64_t image, const HeadGeometry& geometry,
                          const ScoreRule& rule) {
  // With one class the objectness is the score.
  const bool alone = head.num_classes == 1;
  ScoreBlock block;
  block.classes = head.num_classes;
  block.count = geometry.predictions;
  const auto with_objectness = [&](const float* objectness, std::ptrdiff_t value_stride) {
    block.objectness = alone ? nullptr : objectness;
    block.scores = alone ? objectness : objectness + value_stride;
  };
  switch (head.layout) {
    case HeadLayout::kDetections: {
      const float* const rows = outputs[0].data + image * geometry.predictions * 6;
      return scan_detections(rows, geometry.predictions, rule);
    }
    case HeadLayout::kRows: {
      block.stride = static_cast<std::ptrdiff_t>(outputs[0].shape[2]);
      const float* const fifth = outputs[0].data + image * geometry.predictions * block.stride + 4;
      head.has_objectness ? with_objectness(fifth, 1) : void(block.scores = fifth);
      return scanner.scan(block, rule, top);
    }
    case HeadLayout::kColumns: {
      block.class_major = true;
      block.stride = geometry.predictions;
      const float* const fifth = outputs[0].data + (image * outputs[0].shape[1] + 4) * block.stride;
      head.has_objectness ? with_objectness(fifth, block.stride) : void(block.scores = fifth);
      return scanner.scan(block, rule, top);
    }
    case HeadLayout::kScoresBoxes:
      block.class_major = head.scores_class_major;
      block.stride = head.scores_class_major ? geometry.predictions : head.num_classes;
      block.scores = outputs[0].data + image * geometry.predictions * head.num_classes;
      return scanner.scan(block, rule, top);
    case HeadLayout::kDistributionMaps:
      block.class_major = true;
      for (std::size_t i = 0; i < head.strides.size(); ++i) {
        const Level& level = geometry.levels[i];
        block.stride = level.cells();
        block.count = level.cells();
        block.first_anchor = level.first_anchor;
        block.scores = outputs[i].data + image * head.num_classes * block.stride;
        scanner.scan(block, rule, top);
      }
      return;
    case HeadLayout::kAnchorMaps: {
      const std::int32_t per_cell = anchors_per_cell(head);
      const std::ptrdiff_t values = 5 + head.num_classes;
      for (std::size_t i = 0; i < head.strides.size(); ++i) {
        const Level& level = geometry.levels[i];
        const float* const base = outputs[i].data + image * per_cell * values * level.cells();
        block.class_major = !level.interleaved;
        block.first_anchor = level.first_anchor;
        if (level.interleaved) {
          block.stride = values;
          block.count = per_cell * level.cells();
          with_objectness(base + 4, 1);
          scanner.scan(block, rule, top);
          continue;
        }
        block.stride = level.cells();
        block.count = level.cells();
        for (std::int32_t shape = 0; shape < per_cell; ++shape) {
          with_objectness(base + (shape * values + 4) * block.stride, block.stride);
          scanner.scan(block, rule, top);
          block.first_anchor += level.cells();
        }
      }
      return;
    }
  }
}

Decoder::Decoder(HeadSpec head) {
  check_spec(head);
  state_ = std::make_unique<State>(std::move(head), cpu::decode_kernels(swiftdet::cpu::active_isa()));
}
Decoder::~Decoder() = default;
Decoder::Decoder(Decoder&&) noexcept = default;
Decoder& Decoder::operator=(Decoder&&) noexcept = default;

const HeadSpec& Decoder::head() const noexcept { return state_->head; }

void Decoder::run(std::span<const TensorView> outputs, int image, const DecodeOptions& options,
                  Candidates& candidates) {
  State& state = *state_;
  const HeadSpec& head = state.head;
  check_decode_options(options, head);
  const HeadGeometry geometry = measure_head(outputs, head);
  check_image_index(image, geometry);

  ScoreRule rule;
  rule.threshold = options.conf_threshold;
  rule.multi_label = options.multi_label;
  rule.classes = options.classes;
  rule.logits = head.scores_are_logits || head.layout == HeadLayout::kAnchorMaps;
  if (rule.logits) {
    if (state.known_threshold != rule.threshold) {
      state.known_logit = logit_threshold(rule.threshold);
      state.known_threshold = rule.threshold;
    }
    rule.logit_threshold = state.known_logit;
  }

  state.top.start(static_cast<std::size_t>(options.max_candidates), geometry.predictions);
  state.scan(outputs, image, geometry, rule);
  const std::span<const std::uint64_t> keys = state.top.finish();

  const std::size_t count = keys.size();
  state.anchors.resize(count);
  state.decoded.resize(count);
  for (std::size_t i = 0; i < count; ++i) state.anchors[i] = state.top.anchor(keys[i]);
  state.boxes.decode(outputs, image, head, geometry, state.anchors, state.decoded);

  candidates.resize(count);
  std::size_t kept = 0;
  for (std::size_t i = 0; i < count; ++i) {
    const Box& box = state.decoded[i];
    if (!is_finite(box)) continue;
    candidates.x1[kept] = box.x1;
    candidates.y1[kept] = box.y1;
    candidates.x2[kept] = box.x2;
    candidates.y2[kept] = box.y2;
    candidates.score[kept] = TopCandidates::score(keys[i]);
    candidates.cls[kept] = state.top.cls(keys[i]);
    candidates.anchor[kept] = state.anchors[i];
    ++kept;
  }
  candidates.resize(kept);
  candidates.dropped = state.top.dropped();
}

}  // namespace swiftdet::ops
