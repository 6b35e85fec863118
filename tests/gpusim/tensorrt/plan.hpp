// What stands in for a serialised engine: a few lines of text, then the ONNX model. Written by plans.py.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <stdexcept>
#include <string>
#include <vector>

namespace gpusim {

struct PlanTensor {
  bool is_input = false;
  std::string name;
  std::string type;                 ///< "f32", "f16", "i32" or "i64"
  std::vector<std::int64_t> shape;  ///< -1 where open
};

struct Profile {
  std::vector<std::int64_t> least;
  std::vector<std::int64_t> best;
  std::vector<std::int64_t> most;
};

struct Plan {
  std::vector<PlanTensor> tensors;
  std::vector<Profile> profiles;  ///< of the one input
  bool captures = true;           ///< false: its enqueueV3 spoils a capture, as loops and data-dependent shapes do
  std::span<const std::byte> onnx;
};

/// A blob that is no plan.
class BadPlan : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

/// Borrows `blob`. @throw BadPlan
[[nodiscard]] Plan read_plan(std::span<const std::byte> blob);

}  // namespace gpusim
