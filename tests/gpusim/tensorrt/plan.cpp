#include "plan.hpp"

#include <sstream>
#include <string_view>

namespace gpusim {
namespace {

std::vector<std::int64_t> read_dims(std::istream& line) {
  std::size_t rank = 0;
  line >> rank;
  if (!line || rank > 8) throw BadPlan("bad dimensions");
  std::vector<std::int64_t> dims(rank);
  for (std::int64_t& dim : dims) line >> dim;
  if (!line) throw BadPlan("bad dimensions");
  return dims;
}

}  // namespace

Plan read_plan(std::span<const std::byte> blob) {
  const std::string_view text(reinterpret_cast<const char*>(blob.data()), blob.size());
  Plan plan;
  std::size_t at = 0;
  for (bool first = true;; first = false) {
    const std::size_t end = text.find('\n', at);
    if (end == std::string_view::npos) throw BadPlan("magicTag == kMAGIC_TAG failed");
    std::istringstream line{std::string(text.substr(at, end - at))};
    at = end + 1;
    std::string word;
    line >> word;
    if (first) {
      if (word != "gpusim-plan-1") throw BadPlan("magicTag == kMAGIC_TAG failed");
    } else if (word == "input" || word == "output") {
      PlanTensor tensor;
      tensor.is_input = word == "input";
      line >> tensor.name >> tensor.type;
      tensor.shape = read_dims(line);
      plan.tensors.push_back(std::move(tensor));
    } else if (word == "profile") {
      Profile profile;
      profile.least = read_dims(line);
      profile.best = read_dims(line);
      profile.most = read_dims(line);
      plan.profiles.push_back(std::move(profile));
    } else if (word == "uncapturable") {
      plan.captures = false;
    } else if (word == "onnx") {
      std::size_t bytes = 0;
      line >> bytes;
      if (!line || bytes != text.size() - at) throw BadPlan("the plan is cut short");
      plan.onnx = blob.subspan(at);
      return plan;
    } else {
      throw BadPlan("unknown section " + word);
    }
  }
}

}  // namespace gpusim
