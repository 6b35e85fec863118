#include "swiftdet/ops/nms.hpp"

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>
#include <string>

#include "cpu/isa.hpp"
#include "ops/nms_kernels.hpp"
#include "swiftdet/base/error.hpp"

namespace swiftdet::ops {
namespace {

using cpu::KeptBlock;

void check_options(const NmsOptions& options) {
  if (!(options.iou_threshold >= 0.0F && options.iou_threshold <= 1.0F)) {
    throw InvalidArgument("iou: expected a threshold within [0, 1], got " + std::to_string(options.iou_threshold));
  }
  if (options.max_det < -1) {
    throw InvalidArgument("max_det: expected 0 or more, or -1 for no limit, got " + std::to_string(options.max_det));
  }
}

/// Survivors of one class: where its blocks begin, and how many boxes they hold.
struct Group {
  std::int32_t first_block = 0;
  std::int32_t boxes = 0;  ///< while the groups are laid out: how many candidates there are

  [[nodiscard]] std::int32_t blocks() const noexcept { return (boxes + KeptBlock::kBoxes - 1) / KeptBlock::kBoxes; }
};

void append(KeptBlock* blocks, std::int32_t place, const SizedBox& box) {
  KeptBlock& block = blocks[place / KeptBlock::kBoxes];
  const std::int32_t lane = place % KeptBlock::kBoxes;
  if (lane == 0) {
    constexpr float kInf = std::numeric_limits<float>::infinity();
    std::fill_n(block.x1, KeptBlock::kBoxes, kInf);
    std::fill_n(block.y1, KeptBlock::kBoxes, kInf);
    std::fill_n(block.x2, KeptBlock::kBoxes, -kInf);
    std::fill_n(block.y2, KeptBlock::kBoxes, -kInf);
    std::fill_n(block.area, KeptBlock::kBoxes, 0.0F);
  }
  block.x1[lane] = box.x1;
  block.y1[lane] = box.y1;
  block.x2[lane] = box.x2;
  block.y2[lane] = box.y2;
  block.area[lane] = box.area;
}

struct Entry {
  std::uint64_t key;
  std::int32_t index;
};

/// Ascending keys are scores descending, then classes ascending. `score` is finite; -0 ties with +0.
std::uint64_t order_key(float score, std::int32_t cls) noexcept {
  const auto bits = std::bit_cast<std::uint32_t>(score + 0.0F);
  const std::uint32_t ascending = (bits & 0x80000000U) != 0 ? ~bits : bits | 0x80000000U;
  return std::uint64_t{~ascending} << 32U | (static_cast<std::uint32_t>(cls) ^ 0x80000000U);
}

/// Small numbers for any int32 classes: the distance to the lowest, or their rank where they lie far apart.
class ClassNumbers {
 public:
  explicit ClassNumbers(std::span<const std::int32_t> classes) {
    if (classes.empty()) return;
    const auto [lowest, highest] = std::minmax_element(classes.begin(), classes.end());
    lowest_ = *lowest;
    if (std::int64_t{*highest} - lowest_ < kNear) return;
    known_.assign(classes.begin(), classes.end());
    std::sort(known_.begin(), known_.end());
    known_.erase(std::unique(known_.begin(), known_.end()), known_.end());
  }
  [[nodiscard]] std::int32_t of(std::int32_t cls) const noexcept {
    if (known_.empty()) return cls - lowest_;
    return static_cast<std::int32_t>(std::lower_bound(known_.begin(), known_.end(), cls) - known_.begin());
  }

 private:
  static constexpr std::int64_t kNear = 4096;
  std::int32_t lowest_ = 0;
  std::vector<std::int32_t> known_;
};

}  // namespace

struct Nms::State {
  cpu::SuppressedBy suppressed = cpu::suppressed_by(swiftdet::cpu::active_isa());
  std::vector<std::int32_t> keep;
  std::vector<Group> groups;  ///< one per class, or one for all
  std::vector<KeptBlock> blocks;
  std::size_t truncated = 0;

  /// Gives every class the blocks that all its candidates would need.
  void lay_out(const Candidates& candidates, bool class_agnostic);
};

void Nms::State::lay_out(const Candidates& candidates, bool class_agnostic) {
  const auto count = static_cast<std::int32_t>(candidates.size());
  if (class_agnostic) {
    groups.assign(1, Group{0, count});
  } else {
    const std::int32_t highest = *std::max_element(candidates.cls.begin(), candidates.cls.end());
    groups.assign(static_cast<std::size_t>(highest) + 1, Group{});
    for (const std::int32_t cls : candidates.cls) ++groups[static_cast<std::size_t>(cls)].boxes;
  }
  std::int32_t total = 0;
  for (Group& group : groups) {
    group.first_block = total;
    total += group.blocks();
    group.boxes = 0;
  }
  if (blocks.size() < static_cast<std::size_t>(total)) blocks.resize(static_cast<std::size_t>(total));
}

Nms::Nms() : state_(std::make_unique<State>()) {}
Nms::~Nms() = default;
Nms::Nms(Nms&&) noexcept = default;
Nms& Nms::operator=(Nms&&) noexcept = default;

std::size_t Nms::truncated() const noexcept { return state_->truncated; }

std::span<const std::int32_t> Nms::run(const Candidates& candidates, const NmsOptions& options) {
  check_options(options);
  State& state = *state_;
  state.keep.clear();
  state.truncated = 0;
  if (candidates.size() == 0) return {};
  state.lay_out(candidates, options.class_agnostic);
  const std::size_t limit =
      options.max_det < 0 ? std::numeric_limits<std::size_t>::max() : static_cast<std::size_t>(options.max_det);
  for (std::size_t i = 0; i < candidates.size(); ++i) {
    const SizedBox box = sized_box(candidates.x1[i], candidates.y1[i], candidates.x2[i], candidates.y2[i]);
    Group& group = state.groups[options.class_agnostic ? 0 : static_cast<std::size_t>(candidates.cls[i])];
    KeptBlock* const blocks = state.blocks.data() + group.first_block;
    if (state.suppressed(box, blocks, group.blocks(), options.iou_threshold)) continue;
    if (state.keep.size() == limit) {
      state.truncated = candidates.size() - i;
      break;
    }
    append(blocks, group.boxes++, box);
    state.keep.push_back(static_cast<std::int32_t>(i));
  }
  return state.keep;
}

std::vector<std::int64_t> nms(std::span<const float> boxes_xyxy, std::span<const float> scores,
                              std::span<const std::int32_t> classes, const NmsOptions& options) {
  check_options(options);
  if (boxes_xyxy.size() != 4 * scores.size() || classes.size() != scores.size()) {
    throw InvalidArgument("nms: expected boxes [K, 4], scores [K] and classes [K], got " +
                          std::to_string(boxes_xyxy.size()) + " coordinates, " + std::to_string(scores.size()) +
                          " scores and " + std::to_string(classes.size()) + " classes");
  }
  if (scores.size() > static_cast<std::size_t>(std::numeric_limits<std::int32_t>::max())) {
    throw InvalidArgument("nms: expected fewer than 2^31 boxes, got " + std::to_string(scores.size()));
  }

  std::vector<Entry> order;
  order.reserve(scores.size());
  for (std::size_t i = 0; i < scores.size(); ++i) {
    const float* const box = boxes_xyxy.data() + 4 * i;
    if (!std::isfinite(scores[i]) || !std::all_of(box, box + 4, [](float v) { return std::isfinite(v); })) continue;
    order.push_back({order_key(scores[i], classes[i]), static_cast<std::int32_t>(i)});
  }
  std::sort(order.begin(), order.end(),
            [](const Entry& a, const Entry& b) { return a.key != b.key ? a.key < b.key : a.index < b.index; });
  const ClassNumbers numbers(classes);

  Candidates candidates;
  candidates.resize(order.size());
  for (std::size_t i = 0; i < order.size(); ++i) {
    const float* const box = boxes_xyxy.data() + 4 * static_cast<std::size_t>(order[i].index);
    candidates.x1[i] = box[0];
    candidates.y1[i] = box[1];
    candidates.x2[i] = box[2];
    candidates.y2[i] = box[3];
    candidates.score[i] = scores[static_cast<std::size_t>(order[i].index)];
    candidates.cls[i] = numbers.of(classes[static_cast<std::size_t>(order[i].index)]);
    candidates.anchor[i] = order[i].index;
  }
  Nms suppression;
  std::vector<std::int64_t> keep;
  for (const std::int32_t i : suppression.run(candidates, options)) {
    keep.push_back(order[static_cast<std::size_t>(i)].index);
  }
  return keep;
}

}  // namespace swiftdet::ops
