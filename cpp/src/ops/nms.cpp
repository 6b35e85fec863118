#include "swiftdet/ops/nms.hpp"

#include <algorithm>
#include <limits>

#include "cpu/isa.hpp"
#include "ops/nms_kernels.hpp"
#include "ops/nms_order.hpp"

namespace swiftdet::ops {
namespace {

using cpu::KeptBlock;

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
  check_nms_options(options);
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
  check_nms_options(options);
  const Candidates candidates = in_nms_order(boxes_xyxy, scores, classes);
  Nms suppression;
  std::vector<std::int64_t> keep;
  for (const std::int32_t i : suppression.run(candidates, options)) {
    keep.push_back(candidates.anchor[static_cast<std::size_t>(i)]);
  }
  return keep;
}

}  // namespace swiftdet::ops
