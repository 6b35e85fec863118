#include "detector/call_checks.hpp"

#include <algorithm>
#include <string>

#include "ops/option_checks.hpp"
#include "swiftdet/base/error.hpp"
#include "swiftdet/ops/decode.hpp"

namespace swiftdet {
namespace {

/// "p3 [1, 255, 80, 80], p4 ...": for messages.
std::string list(const std::vector<Port>& ports) {
  std::string text;
  for (const Port& port : ports) {
    if (!text.empty()) text += ", ";
    text.append(port.name).append(" ").append(port.shape.to_string());
  }
  return text;
}

/// Where the head's tensor `name` stands among the engine's outputs.
std::size_t output_index(const std::vector<Port>& ports, const std::string& name) {
  const auto found = std::find_if(ports.begin(), ports.end(), [&](const Port& port) { return port.name == name; });
  if (found == ports.end()) {
    throw ModelError("the model description names the output '" + name + "', but the network has: " + list(ports));
  }
  return static_cast<std::size_t>(found - ports.begin());
}

}  // namespace

void check_options(const CallOptions& options, int num_classes) {
  ops::check_threshold("conf", options.conf);
  ops::check_threshold("iou", options.iou);
  ops::check_at_least("max_det", options.max_det, 1);
  ops::check_at_least("max_candidates", options.max_candidates, 1);
  if (!options.classes.empty() && options.classes.size() != static_cast<std::size_t>(num_classes)) {
    throw InvalidArgument("classes: expected " + std::to_string(num_classes) + " flags, one per class, got " +
                          std::to_string(options.classes.size()));
  }
}

std::vector<std::size_t> output_indices(const std::vector<Port>& ports, const ops::HeadSpec& head) {
  static_cast<void>(ops::Decoder(head));  // refuses a head that contradicts itself
  std::vector<std::size_t> indices;
  std::vector<TensorView> declared;
  bool has_open_rank = false;  // an engine that cannot tell a shape gives an empty one; then each run is checked alone
  for (const std::string& name : head.outputs) {
    indices.push_back(output_index(ports, name));
    declared.push_back({nullptr, ports[indices.back()].shape});
    has_open_rank |= declared.back().shape.rank() == 0;
  }
  if (!has_open_rank) ops::check_head(declared, head);
  return indices;
}

}  // namespace swiftdet
